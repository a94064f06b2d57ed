"""Settings of the node agent, from variables that begin with `PENSTOCK_NODE_AGENT_`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from penstock_common.settings import ServiceSettings
from penstock_common.volumes import check_plain_path
from penstock_node_agent.gpus.inventory import static_inventory
from penstock_node_agent.node_identity import check_node_id

_PORT_RANGE: Final = re.compile(r"(\d{4,5})-(\d{4,5})")


class Settings(ServiceSettings):
    """How this node takes part."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_NODE_AGENT_", frozen=True, extra="ignore", populate_by_name=True
    )

    #: the api that lets this host in by the token, when it has not joined yet; what it answers is
    #: kept in `data_dir`, and holds where the settings of NATS and of the key of secrets are not set
    join_api_url: str | None = None
    join_token: SecretStr = SecretStr("")
    #: `node-…`; default: made from the host's name once and kept in `data_dir`
    node_id: str | None = None
    #: address on which routers reach this node's workers
    node_address: str = "127.0.0.1"
    #: `name=value`, comma-separated
    labels: Annotated[Mapping[str, str], NoDecode] = {}
    #: holds the node's id and the folders of process workers; one agent per folder
    data_dir: Path = Path("/var/lib/penstock/node-agent")
    #: `auto`: docker if an engine answers, else process
    runtime: Literal["auto", "docker", "process"] = "auto"
    #: `auto`: what NVML finds; `none`; or a list such as `4 x rtx-4090-24gb`
    gpus: str = "auto"
    #: whether a graceful end of the agent stops the workers; default: process yes, docker no
    stop_workers_on_exit: bool | None = None
    #: when the workers run on: seconds for which the node is awaited back before they count as lost;
    #: 0 = as if the agent had died
    restart_grace_s: Annotated[int, Field(ge=0, le=3_600)] = 30

    #: the engine of docker workers; DOCKER_HOST counts as well, as for the docker command
    docker_host: Annotated[
        str,
        Field(validation_alias=AliasChoices("PENSTOCK_NODE_AGENT_DOCKER_HOST", "DOCKER_HOST")),
    ] = "unix:///var/run/docker.sock"
    #: shared memory that a container may use; default: half of the machine's, at most 16 GiB
    docker_shm_bytes: Annotated[int, Field(ge=1)] | None = None
    #: processes and threads of a container
    docker_pids_limit: Annotated[int, Field(ge=1)] = 16_384
    #: CPUs that a container may use, e.g. 7.5; default: all
    docker_cpus: Annotated[float, Field(ge=0.01)] | None = None
    #: memory that a container may use, swap included; default: all
    docker_memory_bytes: Annotated[int, Field(ge=6 * 1024**2)] | None = None
    #: how containers get GPUs; `auto`: the best way that the engine offers
    docker_gpu_way: Literal["auto", "cdi", "runtime", "device_request"] = "auto"

    #: host paths, comma-separated, in which network volumes may lie; links that lead out are refused
    volume_paths: Annotated[tuple[str, ...], NoDecode] = ()
    #: whether network volumes may be mounted by NFS; `auto`: if this machine's kernel can
    volume_nfs: Literal["auto", "yes", "no"] = "auto"
    #: whether network volumes may be raw options of Docker's local driver: they reach every path of
    #: the host, so whoever makes volumes has root here
    volume_driver_options: bool = False

    #: images that nothing uses are removed, least recently used first, when less than this share of
    #: the engine's disk is free (0 = never by share), or fewer than so many bytes (0 = never by
    #: bytes); only images that this agent pulled
    image_disk_low_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.15
    image_disk_low_bytes: Annotated[int, Field(ge=0)] = 0
    #: pulls at once; each image once, however many wait for it
    image_pulls: Annotated[int, Field(ge=1, le=64)] = 4

    #: working directory of process workers; default: the agent's
    process_cwd: Path | None = None
    #: ports of process workers, `first-last`; best outside the kernel's range for outgoing
    #: connections (32768-60999)
    process_ports: str = "20000-32767"
    #: PATH of process workers, behind the folder of the agent's Python; default: the agent's own
    process_path: Annotated[str, Field(validation_alias="PATH")] = "/usr/local/bin:/usr/bin:/bin"
    #: HOME of process workers; default: the agent's own
    process_home: Annotated[str, Field(validation_alias="HOME")] = "/"

    @field_validator("join_api_url")
    @classmethod
    def _none_when_empty(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("labels", mode="before")
    @classmethod
    def _split_labels(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [item.partition("=") for item in value.split(",") if item.strip()]
        if any(not sign or not name.strip() for name, sign, _ in pairs):
            raise ValueError(f"'{value}' is no list of name=value")
        return {name.strip(): text.strip() for name, _, text in pairs}

    @field_validator("volume_paths", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) and value else value or ()

    @field_validator("volume_paths")
    @classmethod
    def _check_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_plain_path(path.strip()) for path in value)

    @field_validator("node_id")
    @classmethod
    def _check_node_id(cls, value: str | None) -> str | None:
        return check_node_id(value) if value else None

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, value: str) -> str:
        if value not in ("auto", "none"):
            static_inventory(value)
        return value

    @field_validator("process_ports")
    @classmethod
    def _check_ports(cls, value: str) -> str:
        match = _PORT_RANGE.fullmatch(value)
        if not match or not 1024 <= int(match[1]) <= int(match[2]) <= 65_535:
            raise ValueError(f"'{value}' is no range of ports such as 20000-32767")
        return value

    @property
    def port_range(self) -> range:
        """`process_ports` as numbers."""
        first, last = self.process_ports.split("-")
        return range(int(first), int(last) + 1)
