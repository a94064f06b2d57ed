"""What a deployment would change, a line a field [pure]."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from penstock_client.documents import PlanDocument, PlannedChange

Mark = Literal["+", "-", "~", " "]

#: Objects whose members come and go; every other field of a document is always there.
_OPEN: Final = ("env", "secrets", "placement.node_selector")


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One field: what happens to it."""

    mark: Mark
    #: dotted, as `--set` takes it
    path: str
    told: str
    #: the workers that run are replaced for it
    replaces_workers: bool = False


def headline(plan: PlanDocument) -> str:
    """What happens to the endpoint, in one line."""
    if plan.creates:
        return f"{plan.app_name}: new"
    if not plan.changes:
        return f"{plan.app_name}: no changes"
    if plan.replaces_workers:
        return f"{plan.app_name}: changes, revision {plan.revision} replaces the workers"
    return f"{plan.app_name}: changes that its workers take as they run"


def change_lines(plan: PlanDocument) -> list[ChangeLine]:
    """What happens to each field that changes, and which secrets stay as they are."""
    lines = [_line(change, creates=plan.creates) for change in plan.changes]
    if lines:
        lines += [ChangeLine(" ", f"secrets.{name}", "kept") for name in plan.secrets_kept]
    return lines


def plain_lines(plan: PlanDocument) -> Iterator[str]:
    """The plan as text, the fields in columns."""
    yield headline(plan)
    lines = change_lines(plan)
    width = max((len(line.path) for line in lines), default=0)
    for line in lines:
        note = "  (replaces workers)" if line.replaces_workers else ""
        yield f"  {line.mark} {line.path:<{width}}  {line.told}{note}"


def dotted(pointer: str) -> str:
    """A JSON pointer as a path of `--set`."""
    parts = [
        part.replace("~1", "/").replace("~0", "~").replace(".", "\\.")
        for part in pointer.split("/")[1:]
    ]
    return ".".join(parts)


def _line(change: PlannedChange, *, creates: bool) -> ChangeLine:
    path = dotted(change.pointer)
    before, after = change.before, change.after
    comes_and_goes = creates or path.startswith(tuple(f"{name}." for name in _OPEN))
    mark: Mark = "~"
    if comes_and_goes and after is None:
        mark = "-"
    elif creates or (comes_and_goes and before is None):
        mark = "+"
    if path.startswith("secrets."):
        told = {"+": "set", "-": "removed", "~": "changed"}[mark]
    elif mark == "~":
        told = f"{_shown(before)} → {_shown(after)}"
    else:
        told = _shown(before if mark == "-" else after)
    return ChangeLine(mark, path, told, change.replaces_workers)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
