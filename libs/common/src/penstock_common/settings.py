"""Settings that every service shares. Each service subclasses `ServiceSettings` with its prefix.

Built once in `main()` and passed down; nothing else reads the environment. The prefix is the
distribution's name in capitals (`PENSTOCK_ROUTER_NATS_URL`); variables of the prefix
`PENSTOCK_` alone (`PENSTOCK_NATS_URL`) do not count, so that one service's settings never leak
into another's.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class NatsSettings(BaseSettings):
    """How a service finds its NATS server."""

    # What was given may hold a password: errors do not repeat it.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    #: `nats://host:port`, or `tls://host:port` for a connection that is encrypted; several,
    #: comma-separated, for a cluster
    nats_url: str = "nats://127.0.0.1:4222"
    #: user name; empty = the server asks for none
    nats_user: str = ""
    nats_password: SecretStr = SecretStr("")
    #: the password, in this file; a container's environment is seen by whoever lists containers
    nats_password_file: Path | None = None
    #: certificates of the CAs whose servers are trusted, PEM, in this file; without it those of the
    #: system are
    nats_tls_ca_file: Path | None = None
    #: the same certificates themselves, where files are no place for them
    nats_tls_ca: str = ""
    #: certificate and key of this client, PEM, for servers that ask for one
    nats_tls_cert_file: Path | None = None
    nats_tls_key_file: Path | None = None
    #: the server's HTTP monitor, e.g. `http://127.0.0.1:8222`; with it a service checks at start
    #: that acknowledged writes are synced to disk
    nats_monitor_url: str | None = None
    #: copies of each stream: 1 on a single server, 3 on a cluster
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = 1

    @model_validator(mode="after")
    def _read_files(self) -> Self:
        password = read_password(self.nats_password, self.nats_password_file, "nats_password_file")
        # Frozen once made; this is still the making.
        object.__setattr__(self, "nats_password", password)
        object.__setattr__(self, "nats_tls_ca", self._read_ca())
        return self

    def _read_ca(self) -> str:
        if self.nats_tls_ca_file is None:
            return self.nats_tls_ca
        try:
            found = self.nats_tls_ca_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"nats_tls_ca_file cannot be read: {error}") from None
        if self.nats_tls_ca not in ("", found):
            raise ValueError("set nats_tls_ca_file or nats_tls_ca, not both")
        return found


def read_password(given: SecretStr, file: Path | None, name: str) -> SecretStr:
    """The password that is given, or the one in the file.

    Args:
        given: empty = it is in the file, or there is none.
        file: None = it is given, or there is none.
        name: of the setting that names the file.

    Raises:
        ValueError: the file cannot be read, or there are both.
    """
    if file is None:
        return given
    if given.get_secret_value():
        raise ValueError("name the NATS password or a file that holds it, not both")
    try:
        return SecretStr(file.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


class ServiceSettings(NatsSettings):
    """Settings of every service."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: key that seals secrets in KV (44 characters, urlsafe base64), in this file
    secret_key_file: Path | None = None
    #: the same key itself, where files are no place for it; both = they must be the same
    secret_key: SecretStr = SecretStr("")
