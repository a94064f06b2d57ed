"""`penstock audit`: who changed what."""

from typing import Annotated, Final

import typer

from penstock_cli.asking_async import ask_async
from penstock_cli.exits import CliError
from penstock_cli.output.audit import print_records, print_table
from penstock_cli.output.worker_lines import interruptible
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import AuditList, AuditRecordDocument

#: Records of one answer of the api, and most that a stream begins with.
_PAGE: Final = 200
_MOST_TAIL: Final = 1_000
#: So many are shown when nothing is said; and before those that come.
_LAST: Final = 50
_TAIL: Final = 10


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
            help="Only what this key asked for; nobody = without a good one, scheduler or api = "
            "what Penstock changed by itself.",
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
    last: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--last",
            min=1,
            help="Most records; with --follow, of those before. Without it 50, or 10.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what comes, the oldest first."),
    ] = False,
) -> None:
    """Show who changed what, the newest first."""
    if follow:
        if until is not None:
            raise CliError("--follow has no end: leave out --until")
        if last is not None and (since is not None or last > _MOST_TAIL):
            raise CliError(f"with --follow give --since, or --last up to {_MOST_TAIL}")
        _follow(session, target, key, action, since, last or _TAIL)
        return
    most = last or _LAST

    async def question(client: PenstockClient) -> AuditList:
        listing = client.audit.list(
            key=key,
            target=target,
            action=action,
            since=since,
            until=until,
            limit=min(most, _PAGE),
        )
        records: list[AuditRecordDocument] = []
        async for record in listing:
            records.append(record)
            if len(records) == most:
                break
        return AuditList(records=tuple(records), next_cursor=None)

    session.show(ask_async(session, question), print_table)


def _follow(
    session: Session,
    target: str | None,
    key: str | None,
    action: str | None,
    since: str | None,
    tail: int,
) -> None:
    async def show(client: PenstockClient) -> None:
        records = client.audit.follow(
            key=key, target=target, action=action, since=since, tail=None if since else tail
        )
        await print_records(records, session.form)

    with interruptible():
        ask_async(session, show)
