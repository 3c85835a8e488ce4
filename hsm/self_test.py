"""What the worker proves before it serves: known answers, every key, and that threads do not disturb each other."""

from __future__ import annotations

import threading

from hsm.errors import HsmError, SelfTestFailed
from hsm.session import ModuleSession

_THREADS = 8
_ROUNDS = 5
_KEYS_PER_THREAD = 16


def prove_keys(session: ModuleSession, limit: int | None = None) -> int:
    """Recompute the check value of every key, or the first ``limit``, and compare it with the record; return how many.

    Raises:
        SelfTestFailed: a key does not prove itself.
    """
    chosen = session.keys[:limit]
    for key in chosen:
        try:
            checked = session.check_value(key.reference)
        except HsmError as error:
            raise SelfTestFailed(f"vending key {key.reference} does not prove its record") from error
        if checked.octets != key.check_value or checked.algorithm is not key.check_value_algorithm:
            raise SelfTestFailed(f"vending key {key.reference} has another check value than its record")
    return len(chosen)


def run_concurrently(session: ModuleSession) -> None:
    """Run known answers and key proofs from eight threads at once, each in a session of its own.

    A library that loses its locks returns wrong octets or dies here, before any token is made (SoftHSM does so when
    it is initialised without operating-system locking).

    Raises:
        SelfTestFailed: a thread saw anything but the known answer.
    """
    failures: list[str] = []
    barrier = threading.Barrier(_THREADS)

    def work() -> None:
        try:
            with session.sibling() as own:
                barrier.wait(timeout=10)
                for _ in range(_ROUNDS):
                    own.self_test()
                    prove_keys(own, _KEYS_PER_THREAD)
        except (HsmError, threading.BrokenBarrierError) as error:
            failures.append(str(error))

    threads = [threading.Thread(target=work, name=f"self-test-{number}") for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SelfTestFailed(f"{len(failures)} of {_THREADS} threads failed: {failures[0]}")


def run(session: ModuleSession) -> int:
    """Run everything; return the number of keys proved."""
    try:
        session.self_test()
    except HsmError as error:
        raise SelfTestFailed("a known answer of the functionality module is wrong") from error
    proved = prove_keys(session)
    run_concurrently(session)
    return proved
