"""The document of a network volume, and which nodes can mount it [pure].

A volume says where its data lie (`source`); an endpoint names it by id and says where its workers
see it. The source never changes, so that a volume is the same data for as long as it has its id.
"""

import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from penstock_common.document_parsing import parse_document
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.specs import NodeSelector

#: A server that is away ends a read or write with an error after about a minute and a half; a hard
#: mount would hold the worker, and the engine that stops it, for ever.
NFS_OPTIONS: Final = "nfsvers=4,soft,timeo=300,retrans=3"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_OPTIONS: Final = re.compile(
    r"[A-Za-z0-9_]+(=[A-Za-z0-9_.:/-]+)?(,[A-Za-z0-9_]+(=[A-Za-z0-9_.:/-]+)?)*"
)
_PATH_CHARACTERS: Final = re.compile(r"/[^\x00-\x1f\x7f,]*")

#: How a node can mount volumes, beside the host paths that its operator allows.
MountKind = Literal["nfs", "driver_options"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def check_plain_path(value: str) -> str:
    """The path, which leads nowhere else than it says.

    Raises:
        ValueError: it is relative, or holds `..`, `.`, empty parts, commas or control characters.
    """
    if not _PATH_CHARACTERS.fullmatch(value) or posixpath.normpath(value) != value:
        raise ValueError(
            "takes an absolute path without '..', '.', a slash at the end, commas or control "
            "characters"
        )
    if value.startswith("//"):
        raise ValueError("begins with one slash")
    return value


class NfsSource(_Part):
    """A directory that an NFS server exports."""

    type: Literal["nfs"]
    #: host name or address
    server: Annotated[str, Field(min_length=1, max_length=253)]
    #: the exported path
    path: Annotated[str, Field(max_length=1_000)]
    #: mount options, comma-separated
    options: Annotated[str, Field(max_length=500)] = NFS_OPTIONS

    _path = field_validator("path")(check_plain_path)

    @field_validator("server")
    @classmethod
    def _check_server(cls, value: str) -> str:
        if not _HOST.fullmatch(value):
            raise ValueError("takes a host name or an address")
        return value

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: str) -> str:
        if not _OPTIONS.fullmatch(value):
            raise ValueError("takes mount options such as nfsvers=4.1,soft,timeo=300")
        if any(option.startswith("addr=") for option in value.split(",")):
            raise ValueError("says the address in server, not here")
        return value


class HostPathSource(_Part):
    """A directory that each node has under the same path, e.g. a parallel file system."""

    type: Literal["host_path"]
    #: nodes mount it whose operator allows it or a directory above it (`volume_paths`)
    path: Annotated[str, Field(min_length=2, max_length=1_000)]
    #: true = a node makes the directory when it is missing; the one above must be there
    make: bool = False

    _path = field_validator("path")(check_plain_path)


class DriverOptionsSource(_Part):
    """Options of Docker's local volume driver, as they are."""

    type: Literal["driver_options"]
    #: nodes mount it whose operator allows that (`volume_driver_options`)
    options: Annotated[
        Mapping[
            Annotated[str, Field(min_length=1, max_length=100)],
            Annotated[str, Field(max_length=1_000)],
        ],
        Field(min_length=1, max_length=20),
    ]


VolumeSource = Annotated[
    NfsSource | HostPathSource | DriverOptionsSource, Field(discriminator="type")
]


VolumeSize = Annotated[int, Field(ge=1, le=1_000_000)]


class VolumeSpec(_Part):
    """What a person writes."""

    #: for people
    name: Annotated[str, Field(min_length=1, max_length=100)]
    source: VolumeSource
    #: labels of the nodes that reach the data; workers that mount it run on no others
    node_selector: NodeSelector = {}
    #: GB that its users agreed on; told, held by nobody
    size_gb: VolumeSize | None = None


class VolumePatch(_Part):
    """What can change of a volume: its name, and the size that is told."""

    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    size_gb: VolumeSize | None = None

    @model_validator(mode="after")
    def _name_stays(self) -> Self:
        if "name" in self.model_fields_set and self.name is None:
            raise ValueError("name cannot be taken away; write another one")
        return self


def parse_volume(document: object) -> VolumeSpec:
    """The spec in this JSON value.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    return parse_document(VolumeSpec, document, union=("source",))


def parse_volume_patch(document: object) -> VolumePatch:
    """The patch in this JSON value.

    Raises:
        InvalidDocumentError: with every problem found; also when it would change which data it
            is, or from where they are reached.
    """
    if isinstance(document, Mapping):
        fixed = [name for name in ("source", "node_selector") if name in document]
        if fixed:
            told = "cannot change; make another volume and name that"
            raise InvalidDocumentError([Problem(f"/{name}", told) for name in fixed])
    return parse_document(VolumePatch, document, union=("source",))


def allowed_root(path: str, roots: Collection[str]) -> str | None:
    """The one of these directories that is this path or lies above it; None = none does.

    A comparison of texts: who opens the path must first resolve what links lead elsewhere.
    """
    for root in roots:
        if path == root or path.startswith(f"{root.rstrip('/')}/"):
            return root
    return None


def can_mount(
    source: NfsSource | HostPathSource | DriverOptionsSource,
    kinds: Collection[str],
    paths: Collection[str],
) -> bool:
    """Whether a node can mount this source.

    Args:
        source: where the data lie.
        kinds: what the node can mount, see `MountKind`.
        paths: host paths that its operator allows.
    """
    if isinstance(source, HostPathSource):
        return allowed_root(source.path, paths) is not None
    return source.type in kinds
