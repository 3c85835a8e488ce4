"""The worker follows ceremonies: it takes a new token store over between two requests, and has records logged."""

from __future__ import annotations

import time
from collections.abc import Callable

from hsm import self_test
from hsm.ceremony_traces import CeremonyTraces
from hsm.errors import LogUnavailable
from hsm.recorder import Log, Recorder
from hsm.session import ModuleSession

_SETTLED_NANOSECONDS = 1_000_000_000


class Ceremonies:
    """Follows ceremonies: takes over a new token store between two requests, and has their records in the log.

    Args:
        traces: where to look.
        reopen: opens a session on the store in force, after the one before was ended.
        pulse: tells the supervisor that one more part is done: each has the deadline of an operation for itself.
        log: writes a line of the worker's own log.
    """

    def __init__(
        self, traces: CeremonyTraces, reopen: Callable[[], ModuleSession], pulse: Callable[[], None], log: Log
    ) -> None:
        """Begin with the store that is in force now, and look at every record once."""
        self._traces = traces
        self._reopen = reopen
        self._pulse = pulse
        self._log = log
        self._store = traces.store()
        self._changed = -1

    def follow(self, session: ModuleSession, recorder: Recorder) -> ModuleSession:
        """Return the session to go on with.

        Raises:
            HsmError: the new store does not prove itself; this worker has no session any more.
        """
        store = self._traces.store()
        if store and store != self._store:
            # A lower number is a store of before: keys and officers that were retired since are back.
            is_newer = (len(store), store) > (len(self._store), self._store)
            event = "token-store-changed" if is_newer else "token-store-rolled-back"
            self._log(event, before=self._store, after=store)
            session.finalize()
            self._pulse()
            session = self._reopen()
            self._pulse()
            proved = self_test.run(session)
            self._pulse()
            recorder.take_over(session, self._store, store)
            self._store = store
            self._log("token-store-taken-over", store=store, keys_proved=proved)
        changed = self._traces.changed()
        if changed != self._changed:
            try:
                more = recorder.write_ceremony(self._traces)
            except LogUnavailable as error:
                self._log("ceremony-not-recorded", detail=error)
                more = True
            if not more:
                # Clocks of file systems tick slowly: what is written within the same tick would be missed.
                self._changed = changed if time.time_ns() - changed > _SETTLED_NANOSECONDS else -1
        return session
