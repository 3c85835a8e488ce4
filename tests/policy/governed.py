"""A running system under a policy."""

from __future__ import annotations

from keywatt.keys.v1 import keys_pb2

from appliance.client.client import KeywattClient
from tests.policy.texts import policy_text
from tests.support.system import System


def client_name(system: System) -> str:
    """Return the name in the certificate of the system's client."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(system.profile.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(next(iter(names)).value)


def module_id(system: System) -> str:
    """Ask for the name of the system's module."""
    with KeywattClient(system.profile) as asked:
        return str(asked.call(asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest()).module_id)


def put(system: System, text: str) -> None:
    """Put a policy in place of the one before, in one step."""
    folder = system.state / "appliance" / "policy"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    draft = folder / ".new"
    draft.write_text(text)
    draft.chmod(0o644)
    draft.rename(folder / "policy.toml")


def govern(system: System, *parts: str) -> str:
    """Start the system anew under a policy of number 1; return the module's name."""
    name = module_id(system)
    system.stop()
    put(system, policy_text(*parts, number=1, module=name))
    path = system.state / "appliance" / "appliance.toml"
    path.write_text(path.read_text() + f'\n[policy]\nfolder = "{system.state}/appliance/policy"\n')
    system.start()
    return name
