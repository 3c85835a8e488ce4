"""Configuration of the appliance: one TOML file, strict, no secret in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.errors import ConfigurationInvalid

CONFIG_DEFAULT = Path("/etc/keywatt/appliance.toml")
"""Where the settings are unless told otherwise."""
TLS_SUITES = {"1.2": "", "1.3": "ECDHE-PSK-CHACHA20-POLY1305"}
"""What the gRPC library is told of cipher suites of TLS 1.2 (docs/adr/0021); empty for its own choice."""


class TlsSettings(BaseModel):
    """Certificates, PEM. Clients must present one that ``client_ca`` signed; there is no other way in.

    Args:
        certificate, private_key: of this server; the certificate with those between it and its root.
        client_ca: authorities that clients' certificates are from.
        revocation_lists: a complete list of each of them; without it none is looked at.
        revocation_grace_hours: how long after its next update a list is believed still.
        minimum_version: 1.3, or 1.2 for clients that know no better.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path
    private_key: Path
    client_ca: Path
    revocation_lists: Path | None = None
    revocation_grace_hours: float = Field(default=24, ge=0, le=720)
    minimum_version: Literal["1.2", "1.3"] = "1.3"


class IssuingSettings(BaseModel):
    """Policy of issuing.

    Args:
        look_ahead_minutes: how far the identifiers of one meter may run ahead of the clock.
        automatic_key_change: answer KEY_CHANGE_REQUIRED with the tokens instead of the error, for credit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    look_ahead_minutes: int = Field(default=30, ge=1, le=1440)
    automatic_key_change: bool = False


class ClockSettings(BaseModel):
    """How far the clock may step before issuing stops.

    Args:
        backward_seconds: backwards, against the kernel's steady clock or the ledger's mark.
        forward_seconds: forwards, within an hour of running.
        restart_forward_hours: forwards since the last token, at a start: how long the appliance may have been off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backward_seconds: float = Field(default=5, ge=0.5, le=60)
    forward_seconds: float = Field(default=300, ge=1, le=3600)
    restart_forward_hours: float = Field(default=168, ge=0.01, le=10_000)


class LedgerSettings(BaseModel):
    """The ledger.

    Args:
        url: ``sqlite:///PATH`` for one appliance process, ``postgresql+psycopg://HOST/DATABASE`` for several; no
            password in it.
        key: the file with the keys that stored answers are encrypted with; the same on every appliance of a ledger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    key: Path


class WitnessSettings(BaseModel):
    """Witnesses that cosign the module's checkpoints.

    Args:
        policy: a C2SP witness policy; witnesses in it that have an address are asked.
        refresh_seconds: while the log does not grow, its checkpoint is cosigned anew so often.
        timeout_seconds: how long one witness may take.
        ca: PEM of the authorities that witnesses' certificates may be from; without it those of the system.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Path
    refresh_seconds: float = Field(default=60, ge=1, le=86_400)
    timeout_seconds: float = Field(default=10, gt=0, le=60)
    ca: Path | None = None


class AuditSettings(BaseModel):
    """Who may see the module's log.

    Args:
        log: folder of the module's log; this user may read it.
        auditors: names, as in their certificates, of clients that see what others were issued.
        witnesses: see WitnessSettings; without them no witness is asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: Path
    auditors: list[str] = []
    witnesses: WitnessSettings | None = None


class PolicySettings(BaseModel):
    """Who may do what.

    Args:
        folder: holds ``policy.toml`` and the officers' signatures beside it (``*.sig``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path


class MetricsSettings(BaseModel):
    """Counters and horizons for Prometheus.

    Args:
        listen: address and port; of this machine, unless the network is trusted: nobody is asked who they are. Further
            processes of one appliance take the ports that follow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(pattern=r"^.+:\d{1,5}$")


class ApplianceSettings(BaseModel):
    """The appliance.

    Args:
        listen: address and port, such as 127.0.0.1:8443.
        module_socket: unix socket of the module process.
        audit: without it there is no audit service.
        policy: without it every client of the CA may do everything, which the production profile refuses.
        metrics: without it nothing is measured for others.
        connections_max: connections that may stand at once; one more is closed.
        in_flight_max: module requests that may wait at once; one more is refused with RESOURCE_EXHAUSTED.
        queue_max: requests that may wait or be under way at once; one more is refused with RESOURCE_EXHAUSTED.
        processes: processes that share the port; more than one needs a ledger on PostgreSQL.
        log_calls: whether a call that succeeds makes a line in the log; a refused one always does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(pattern=r"^.+:\d{1,5}$")
    module_socket: Path
    tls: TlsSettings
    ledger: LedgerSettings
    issuing: IssuingSettings = IssuingSettings()
    clock: ClockSettings = ClockSettings()
    audit: AuditSettings | None = None
    policy: PolicySettings | None = None
    metrics: MetricsSettings | None = None
    connections_max: int = Field(default=2000, ge=1, le=100_000)
    in_flight_max: int = Field(default=256, ge=1, le=10_000)
    queue_max: int = Field(default=4000, ge=1, le=100_000)
    processes: int = Field(default=1, ge=1, le=64)
    log_calls: bool = False

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; raises ConfigurationInvalid."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationInvalid(f"{path}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigurationInvalid(f"{path}: {field}: {first['msg']}") from error
