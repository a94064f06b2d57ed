"""Other platforms' APIs as dialects of ours: what their mappings share [pure].

Theory of operation. A dialect reads a body of its own form into a model, makes sections of an
endpoint document from what the body gives (what it leaves out is left out there as well), and
makes its answers from our documents. One table of `FieldRow`s per dialect says which field is
which of ours; errors about our document are told in its words, and its page in docs/ shows it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from penstock_client.documents import Document
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.specs import DEFAULT_CONTAINER_DISK_GB, EndpointSpec

M = TypeVar("M", bound=BaseModel)

#: Stands for a field that the body does not give.
ABSENT: Final = object()
#: More digits than this no count, size or number of seconds has.
_MAX_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of a dialect, and what it is of ours."""

    #: dotted, `[]` behind a list
    theirs: str
    #: dotted, in the endpoint document or its answer; empty = nothing of ours
    ours: str
    #: what one should know
    note: str = ""


class CamelDocument(Document):
    """An answer whose fields are written in camel case."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )


class Request(BaseModel):
    """A body of another platform's clients: what it does not know it ignores, as they do."""

    # A value in an error's text could be a password.
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class CamelRequest(Request):
    """A body whose fields are written in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is a number, not true or false")
    if not isinstance(value, str):
        return value
    if len(value) > _MAX_DIGITS or not value.isascii():
        raise ValueError("is no number")
    return float(value) if "." in value else int(value)


#: A whole number, also one that is written as text.
Count = Annotated[
    int,
    BeforeValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]}),
]
#: A number, also one that is written as text.
Amount = Annotated[
    float,
    BeforeValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9.]+$"}]}),
]


def parse_body(model: type[M], value: object) -> M:
    """The body as its model.

    Raises:
        InvalidDocumentError: with every problem found; no message holds a value.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidDocumentError(
            [
                Problem(
                    "".join(f"/{part}" for part in found["loc"]),
                    "is required" if found["type"] == "missing" else _plain(found["msg"]),
                )
                for found in error.errors(include_input=False)
            ]
        ) from None


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def given(**fields: object) -> dict[str, Any]:
    """These fields without those that are `ABSENT`, and without sections that are empty."""
    return {name: value for name, value in fields.items() if value is not ABSENT and value != {}}


def unless_none(value: object) -> object:
    """The value; `ABSENT` for None, which is how a body leaves a field out."""
    return ABSENT if value is None else value


def cleared(value: str | None) -> object:
    """A text of a body: left out = `ABSENT`, empty = null, which is none of ours."""
    return ABSENT if value is None else value or None


def disk(size_gb: int | None) -> object:
    """A container's disk of a body: left out or 0 = `ABSENT`, the size that all may have = null."""
    if not size_gb:
        return ABSENT
    return None if size_gb == DEFAULT_CONTAINER_DISK_GB else size_gb


def keeping(parts: dict[str, Any], spec: EndpointSpec) -> dict[str, Any]:
    """Sections of a change without what only looks like one: what no dialect can say stays.

    That is whether a network volume is read-only, and whether a disk of the size that all may have
    is kept free.
    """
    storage = parts.get("storage", {})
    held = {(v.id, v.mount_path) for v in spec.storage.network_volumes if v.read_only}
    for volume in storage.get("volumes", ()):
        if (volume.get("id"), volume["mount_path"]) in held:
            volume["read_only"] = True
    asked = storage.get("container_disk_gb", ABSENT)
    if asked is None and spec.storage.container_disk_gb == DEFAULT_CONTAINER_DISK_GB:
        del storage["container_disk_gb"]
        if not storage:
            del parts["storage"]
    return parts


def replacing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `new` of `old`."""
    return {**dict.fromkeys(old), **new}


def number_text(value: float) -> str:
    """A number as text: whole ones without a point."""
    return str(int(value)) if value == int(value) else repr(float(value))


@contextmanager
def in_their_words(rows: Sequence[FieldRow], root: str = "") -> Iterator[None]:
    """Within the block, problems of our document point at the dialect's fields.

    Args:
        rows: of the dialect.
        root: JSON pointer in the body under which its fields stand.
    """
    try:
        yield
    except InvalidDocumentError as error:
        raise InvalidDocumentError(
            [Problem(their_pointer(p.pointer, rows, root), p.message) for p in error.problems]
        ) from None


def their_pointer(pointer: str, rows: Sequence[FieldRow], root: str = "") -> str:
    """The dialect's pointer for a pointer of ours; one that no row knows stays as it is.

    The row of the field itself decides, else that of the nearest field above it, else, for a
    section of ours, the last field within: its own section is meant.
    """
    segments = pointer.split("/")[1:]
    above = max(
        (row for row in rows if _leads(_parts(row.ours), segments)),
        key=lambda row: len(_parts(row.ours)),
        default=None,
    )
    if above is not None:
        return root + _pointer(_parts(above.theirs), _parts(above.ours), segments)
    within = [row for row in rows if segments and _leads(segments, _parts(row.ours))]
    if within:
        parts = _parts(within[-1].theirs)
        parts = parts[:-1] or parts  # where the dialect has no sections, the field itself
        return root + _pointer(parts, _parts(within[-1].ours), segments)
    return pointer


def _parts(dotted: str) -> list[str]:
    return dotted.replace("[]", ".[]").split(".") if dotted else []


def _leads(shorter: Sequence[str], longer: Sequence[str]) -> bool:
    """Whether the first parts of `longer` are those of `shorter`, a number being any `[]`."""
    same = (
        one == other or (one == "[]" and other.isdigit()) or (other == "[]" and one.isdigit())
        for one, other in zip(shorter, longer, strict=False)
    )
    return 0 < len(shorter) <= len(longer) and all(same)


def _pointer(theirs: Sequence[str], ours: Sequence[str], segments: Sequence[str]) -> str:
    """`theirs` as a pointer, up to the first list whose place our pointer does not tell."""
    places = iter(told for part, told in zip(ours, segments, strict=False) if part == "[]")
    pointer = ""
    for part in theirs:
        told = next(places, None) if part == "[]" else part
        if told is None:
            break
        pointer += f"/{told}"
    return pointer


@contextmanager
def under(root: str) -> Iterator[None]:
    """Within the block, pointers of problems are those of a part that stands under `root`."""
    try:
        yield
    except InvalidDocumentError as error:
        raise InvalidDocumentError(
            [Problem(root + p.pointer, p.message) for p in error.problems]
        ) from None
