"""What a write changed of a record, field by field, without its secrets [pure]."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from penstock_common.messages import AuditChange, AuditTarget, Message

#: Stands for the value of a secret.
HIDDEN: Final = "(hidden)"
#: Fields of one record that are listed, and characters of one value that are kept.
MAX_FIELDS: Final = 50
MAX_VALUE_LENGTH: Final = 500

#: Names of fields and variables whose values are nobody's business, wherever they stand.
_SECRET_NAME: Final = re.compile(
    r"secret|sealed|sha256|passw|token|credential|private|api_?key$|_key$", re.IGNORECASE
)
#: Values that hold a password: options of a mount or a command, the user of a URL.
_SECRET_VALUE: Final = re.compile(
    r"(pass(word|wd)?|secret|token|api[-_]?key)=|--\S*(pass|secret|token|key)\S*\s|://[^/\s]*:[^/\s]*@",
    re.IGNORECASE,
)
#: What every write changes, or what follows from the other fields.
_NOT_TOLD: Final = frozenset(
    {
        *("/created_at", "/updated_at", "/revised_at"),
        *("/revision_cause", "/revision_why", "/same_as"),
    }
)


def target_of(kind: str, target_id: str, record: Message | None) -> AuditTarget:
    """The record as something that a request is about."""
    spec = getattr(record, "spec", record)
    name = getattr(spec, "app_name", None) or getattr(spec, "name", None) or ""
    return AuditTarget(kind=kind, id=target_id, name=name)


def diff_records(
    target_id: str, old: Message | None, new: Message | None
) -> tuple[tuple[AuditChange, ...], int]:
    """The fields that differ, and how many more there are than are listed.

    Args:
        target_id: of the record.
        old: None = there was none; then the fields that are not as by default count.
        new: None = it is gone; then nothing is told but that.
    """
    if new is None:
        return (), 0
    before = _fields(old) if old is not None else {}
    after = _fields(new, given_alone=old is None)
    pointers = sorted(
        pointer
        for pointer in {*before, *after} - _NOT_TOLD
        if before.get(pointer) != after.get(pointer)
        and after.get(pointer) != target_id  # its own name
    )
    changes = tuple(
        AuditChange(
            target=target_id,
            pointer=pointer,
            before=_shown(pointer, before.get(pointer)),
            after=_shown(pointer, after.get(pointer)),
        )
        for pointer in pointers[:MAX_FIELDS]
    )
    return changes, max(0, len(pointers) - MAX_FIELDS)


def _fields(record: Message, *, given_alone: bool = False) -> dict[str, Any]:
    """Pointer → value; those of a record's document without the word `spec` before them."""
    document = record.model_dump(mode="json", exclude_defaults=given_alone)
    spec = document.pop("spec", {})
    return {**_flat("", document), **_flat("", spec)}


def _flat(pointer: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {pointer: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        step = str(name).replace("~", "~0").replace("/", "~1")
        flat |= _flat(f"{pointer}/{step}", inner)
    return flat


def _shown(pointer: str, value: object) -> object:
    if value in (None, ""):
        return value
    if any(_SECRET_NAME.search(step) for step in pointer.split("/")):
        return HIDDEN
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if _SECRET_VALUE.search(text):
        return HIDDEN
    if len(text) <= MAX_VALUE_LENGTH:
        return value
    return f"{text[:MAX_VALUE_LENGTH]}… ({len(text)} characters)"
