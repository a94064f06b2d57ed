"""`penstock key`: who may do what, and how much."""

from datetime import datetime
from typing import Annotated, Any

import typer

from penstock_cli.completion import complete_endpoints, complete_keys
from penstock_cli.exits import CliError
from penstock_cli.options import seconds_of
from penstock_cli.output.printing import print_facts, print_rows
from penstock_cli.session import Session, with_session
from penstock_client.documents import ApiKeyDocument, ApiKeyList
from penstock_common.clock import SystemClock
from penstock_common.messages import KeyScope

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="Id of the key.", autocompletion=complete_keys)
]
MaxWorkersOption = Annotated[
    int | None,
    typer.Option(
        min=-1, help="Most workers of its endpoints; -1 = any number.", show_default=False
    ),
]
MaxGpusOption = Annotated[
    int | None,
    typer.Option(min=-1, help="Most GPUs of its endpoints; -1 = any number.", show_default=False),
]
ExpiresInOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="It opens nothing any more after so long, e.g. 30d, 12h.",
        show_default=False,
    ),
]


@with_session
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="For people.")],
    scope: Annotated[KeyScope, typer.Option(help="What it may do.")] = "deploy",
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APP",
            autocompletion=complete_endpoints,
            help="For scope invoke: an endpoint it may call; repeatable, none = all.",
            show_default=False,
        ),
    ] = None,
    max_workers: MaxWorkersOption = None,
    max_gpus: MaxGpusOption = None,
    expires_in: ExpiresInOption = None,
) -> None:
    """Make a key and print it: it is never shown again."""
    document = {"name": name, "scope": scope, **_quota(max_workers, max_gpus)}
    if expires_in is not None:
        document["expires_in_s"] = seconds_of(expires_in, "--expires-in")
    if endpoint:
        document["endpoints"] = endpoint
    made = session.ask(lambda client: client.api_keys.create(document))
    session.tell(made, f"made {made.id}; the key is shown this once:\n{made.key}")


@with_session
def list_keys(
    session: Session,
) -> None:
    """List the keys with their quotas, and what their endpoints hold now."""
    listed = session.ask(lambda client: client.api_keys.list().whole())
    session.show(listed, _print_keys)


@with_session
def show(
    session: Session,
    key: KeyArgument,
) -> None:
    """Show a key: what it may do, its quota, and when it was used last."""
    session.show(session.ask(lambda client: client.api_keys.show(key)), _print_key)


@with_session
def update(
    session: Session,
    key: KeyArgument,
    name: Annotated[str | None, typer.Option(help="For people.", show_default=False)] = None,
    max_workers: MaxWorkersOption = None,
    max_gpus: MaxGpusOption = None,
    expires_in: ExpiresInOption = None,
    never_expires: Annotated[
        bool, typer.Option("--never-expires", help="It does not expire any more.")
    ] = False,
) -> None:
    """Change the name, the quota or the expiry of a key."""
    patch = _quota(max_workers, max_gpus)
    if expires_in is not None and never_expires:
        raise CliError("give --expires-in or --never-expires, not both")
    if expires_in is not None:
        patch["expires_in_s"] = seconds_of(expires_in, "--expires-in")
    elif never_expires:
        patch["expires_at"] = None
    if name is not None:
        patch["name"] = name
    changed = session.ask(lambda client: client.api_keys.update(key, patch))
    session.tell(changed, f"updated {changed.id}")


@with_session
def rotate(
    session: Session,
    key: KeyArgument,
    keep_old: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="The secret before opens for so long as well, e.g. 1h; left out = no longer.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Give a key another secret and print it; what it owns and its quota stay."""
    keep_s = 0 if keep_old is None else seconds_of(keep_old, "--keep-old")
    made = session.ask(lambda client: client.api_keys.rotate(key, old_expires_in_s=keep_s))
    if made.old_expires_at is None:
        told = "the secret before opens nothing any more"
    else:
        told = f"the secret before opens until {made.old_expires_at:%Y-%m-%d %H:%M:%S} UTC"
    session.tell(made, f"rotated {made.id}; {told}; the new one is shown this once:\n{made.key}")


@with_session
def revoke(
    session: Session,
    key: KeyArgument,
) -> None:
    """Let a key open nothing any more; endpoints that it has made stay, with its quota."""
    gone = session.ask(lambda client: client.api_keys.revoke(key))
    session.tell(gone, f"revoked {gone.id}")


def _quota(max_workers: int | None, max_gpus: int | None) -> dict[str, Any]:
    given = {"max_workers": max_workers, "max_gpus": max_gpus}
    return {
        name: None if limit == -1 else limit for name, limit in given.items() if limit is not None
    }


def _print_keys(listed: ApiKeyList) -> None:
    header = ("KEY", "NAME", "SCOPE", "WORKERS", "GPUS", "MADE", "LAST USED", "EXPIRES")
    now = SystemClock().utc()
    print_rows(header, [_cells(key, now) for key in listed.api_keys])


def _print_key(key: ApiKeyDocument) -> None:
    now = SystemClock().utc()
    facts: list[tuple[str, object]] = [
        ("key", key.id),
        ("name", key.name or "-"),
        ("scope", key.scope),
        ("made", _instant(key.created_at)),
        ("last used", _instant(key.last_used_at) if key.last_used_at else "not yet"),
        ("expires", _expiry(key, now)),
        ("workers", _of(key.workers, key.max_workers)),
        ("GPUs", _of(key.gpus, key.max_gpus)),
    ]
    if key.scope == "invoke":
        facts.insert(3, ("endpoints", ", ".join(key.endpoint_ids) or "all"))
    if key.old_expires_at is not None:
        facts.append(("secret before", f"opens until {_instant(key.old_expires_at)}"))
    if key.revoked_at is not None:
        facts.append(("revoked", _instant(key.revoked_at)))
    print_facts(facts)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _cells(key: ApiKeyDocument, now: datetime) -> tuple[object, ...]:
    scope = "revoked" if key.revoked_at is not None else key.scope
    return (
        key.id,
        key.name or "-",
        scope,
        _of(key.workers, key.max_workers),
        _of(key.gpus, key.max_gpus),
        f"{key.created_at:%Y-%m-%d}",
        f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "-",
        _expiry(key, now),
    )


def _expiry(key: ApiKeyDocument, now: datetime) -> str:
    if key.expires_at is None:
        return "never"
    told = f"{key.expires_at:%Y-%m-%d %H:%M}"
    return f"{told} (expired)" if key.expires_at <= now else told


def _of(held: int, most: int | None) -> str:
    return str(held) if most is None else f"{held} of {most}"
