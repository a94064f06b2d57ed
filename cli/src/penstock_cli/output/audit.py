"""Prints the audit trail: a table of what was, or a line for each record as it comes."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Final

import typer

from penstock_cli.output.colour import coloured
from penstock_cli.output.documents import Form, print_streamed
from penstock_cli.output.printing import plain, print_rows, write
from penstock_client.calls.audit import AuditEntry
from penstock_client.documents import (
    AuditChangeDocument,
    AuditGapDocument,
    AuditList,
    AuditRecordDocument,
)

#: Of a line: who, and what was done.
_WHO_WIDTH: Final = 14
_ACTION_WIDTH: Final = 22


async def print_records(records: AsyncGenerator[AuditEntry, None], form: Form) -> None:
    """Print all of them, a line each; JSON and YAML are each as the api sent it."""
    colours = coloured()
    async with contextlib.aclosing(records):
        async for entry in records:
            if form is Form.TEXT:
                write(record_line(entry, colours=colours) + "\n")
            elif isinstance(entry, AuditGapDocument):
                typer.echo(entry.sentence, err=True)
            else:
                print_streamed(entry.raw, form)


def record_line(entry: AuditEntry, *, colours: bool) -> str:
    """The line of a record for a person: when, who, what, about what, what came of it."""
    if isinstance(entry, AuditGapDocument):
        return typer.style(entry.sentence, fg="yellow") if colours else entry.sentence
    _, who, source, action, target, outcome, changes = (plain(str(c)) for c in _cells(entry))
    if colours and (entry.status is None or entry.status >= 400):
        outcome = typer.style(outcome, fg="yellow" if entry.status is None else "red")
    from_where = f"from {source}" if source != "-" else ""
    told = [
        f"{action:{_ACTION_WIDTH}}",
        target,
        outcome,
        "" if changes == "-" else changes,
        from_where,
    ]
    when = f"{entry.at:%Y-%m-%d %H:%M:%S}Z"
    return "  ".join([when, f"{who:{_WHO_WIDTH}}", *(text for text in told if text)])


def print_table(found: AuditList) -> None:
    """The records as rows."""
    header = ("TIME (UTC)", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME", "CHANGES")
    print_rows(header, [_cells(record) for record in found.records])


def _cells(record: AuditRecordDocument) -> tuple[object, ...]:
    times = "" if record.count == 1 else f" ({record.count} times)"
    return (
        f"{record.at:%Y-%m-%d %H:%M:%S}",
        record.key_name or record.key_id or "nobody",
        record.source or "-",
        record.action,
        ", ".join(target.name or target.id for target in record.targets) or "-",
        f"{_outcome(record)}{times}",
        _changes(record),
    )


def _outcome(record: AuditRecordDocument) -> str:
    if record.status is None:
        return "attempted"
    if record.why and not record.reason:
        return "done"  # there was no answer with a status
    return f"{record.status} {record.reason}".rstrip()


def _changes(record: AuditRecordDocument) -> str:
    told = [record.why] if record.why else []
    told += [_change(change) for change in record.changes]
    if record.changes_left_out:
        told.append(f"and {record.changes_left_out} more")
    return "; ".join(told) or "-"


def _change(change: AuditChangeDocument) -> str:
    after = json.dumps(change.after, ensure_ascii=False)
    if change.before is None:
        return f"{change.pointer}={after}"
    if change.before == change.after:  # a secret, of which only that is told
        return f"{change.pointer} changed"
    return f"{change.pointer} {json.dumps(change.before, ensure_ascii=False)} → {after}"
