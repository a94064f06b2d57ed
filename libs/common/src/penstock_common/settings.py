"""Settings that every service shares. Each service subclasses `ServiceSettings` with its prefix.

Built once in `main()` and passed down; nothing else reads the environment. The prefix is the
distribution's name in capitals (`PENSTOCK_ROUTER_NATS_URL`); variables of the prefix
`PENSTOCK_` alone (`PENSTOCK_NATS_URL`) do not count, so that one service's settings never leak
into another's.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class NatsSettings(BaseSettings):
    """How a service finds its NATS server."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    #: `nats://host:port`; several, comma-separated, for a cluster
    nats_url: str = "nats://127.0.0.1:4222"
    #: user name; empty = the server asks for none
    nats_user: str = ""
    nats_password: SecretStr = SecretStr("")
    #: the server's HTTP monitor, e.g. `http://127.0.0.1:8222`; with it a service checks at start
    #: that acknowledged writes are synced to disk
    nats_monitor_url: str | None = None
    #: copies of each stream: 1 on a single server, 3 on a cluster
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = 1


class ServiceSettings(NatsSettings):
    """Settings of every service."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: key that seals secrets in KV (44 characters, urlsafe base64), in this file
    secret_key_file: Path | None = None
