"""`penstock key`: who may do what, and how much."""

from typing import Annotated, Any

import typer

from penstock_cli.completion import complete_endpoints, complete_keys
from penstock_cli.output.printing import print_rows
from penstock_cli.session import Session, with_session
from penstock_client.documents import ApiKeyDocument, ApiKeyList
from penstock_common.messages import KeyScope

keys_app = typer.Typer(help="API keys: who may do what, and how much.", no_args_is_help=True)

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


@keys_app.command("create")
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
) -> None:
    """Make a key and print it: it is never shown again."""
    document = {"name": name, "scope": scope, **_quota(max_workers, max_gpus)}
    if endpoint:
        document["endpoints"] = endpoint
    made = session.ask(lambda client: client.api_keys.create(document))
    session.tell(made, f"made {made.id}; the key is shown this once:\n{made.key}")


@keys_app.command("list")
@with_session
def list_keys(
    session: Session,
) -> None:
    """List the keys with their quotas, and what their endpoints hold now."""
    listed = session.ask(lambda client: client.api_keys.list().whole())
    session.show(listed, _print_keys)


@keys_app.command("update")
@with_session
def update(
    session: Session,
    key: KeyArgument,
    name: Annotated[str | None, typer.Option(help="For people.", show_default=False)] = None,
    max_workers: MaxWorkersOption = None,
    max_gpus: MaxGpusOption = None,
) -> None:
    """Change the name or the quota of a key."""
    patch = _quota(max_workers, max_gpus)
    if name is not None:
        patch["name"] = name
    changed = session.ask(lambda client: client.api_keys.update(key, patch))
    session.tell(changed, f"updated {changed.id}")


@keys_app.command("revoke")
@with_session
def revoke(
    session: Session,
    key: KeyArgument,
) -> None:
    """Let a key open nothing any more; endpoints that it has made stay, with its quota."""
    gone = session.ask(lambda client: client.api_keys.revoke(key))
    session.tell(gone, f"revoked {gone.id}")


@keys_app.callback()
def _group() -> None:
    """API keys: who may do what, and how much."""


def _quota(max_workers: int | None, max_gpus: int | None) -> dict[str, Any]:
    given = {"max_workers": max_workers, "max_gpus": max_gpus}
    return {
        name: None if limit == -1 else limit for name, limit in given.items() if limit is not None
    }


def _print_keys(listed: ApiKeyList) -> None:
    header = ("KEY", "NAME", "SCOPE", "WORKERS", "GPUS", "MADE")
    print_rows(header, [_cells(key) for key in listed.api_keys])


def _cells(key: ApiKeyDocument) -> tuple[object, ...]:
    scope = "revoked" if key.revoked_at is not None else key.scope
    return (
        key.id,
        key.name or "-",
        scope,
        _of(key.workers, key.max_workers),
        _of(key.gpus, key.max_gpus),
        f"{key.created_at:%Y-%m-%d}",
    )


def _of(held: int, most: int | None) -> str:
    return str(held) if most is None else f"{held} of {most}"
