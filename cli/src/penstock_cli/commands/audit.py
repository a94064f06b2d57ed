"""`penstock audit`: who changed what."""

import json
from typing import Annotated

import typer

from penstock_cli.output.printing import print_rows
from penstock_cli.session import Session, with_session
from penstock_client.documents import AuditChangeDocument, AuditList, AuditRecordDocument
from penstock_client.sync.client import PenstockSyncClient

#: Records of one answer of the api.
_PAGE = 200


@with_session
def audit(
    session: Session,
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="Only about this id or name.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Only what this key asked for; nobody = without a good one.",
            show_default=False,
        ),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Only this action, e.g. endpoints_update.", show_default=False
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Date or RFC 3339 instant.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Likewise; before it.", show_default=False),
    ] = None,
    last: Annotated[int, typer.Option("-n", "--last", min=1, help="Most records.")] = 50,
) -> None:
    """Show who changed what, the newest first."""

    def question(client: PenstockSyncClient) -> AuditList:
        listing = client.audit.list(
            key=key,
            target=target,
            action=action,
            since=since,
            until=until,
            limit=min(last, _PAGE),
        )
        records: list[AuditRecordDocument] = []
        for record in listing:
            records.append(record)
            if len(records) == last:
                break
        return AuditList(records=tuple(records), next_cursor=None)

    session.show(session.ask(question), _print_table)


def _print_table(found: AuditList) -> None:
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
    return f"{record.status} {record.reason}".rstrip()


def _changes(record: AuditRecordDocument) -> str:
    told = [_change(change) for change in record.changes]
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
