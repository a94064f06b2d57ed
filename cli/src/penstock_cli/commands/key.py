"""`penstock key`: who may do what, and how much."""

from typing import Annotated, Any

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.printing import print_json, print_line, print_rows
from penstock_client.documents import ApiKeyDocument
from penstock_common.messages import KeyScope

keys_app = typer.Typer(help="API keys: who may do what, and how much.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key.")]
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
def create(
    name: Annotated[str, typer.Argument(help="For people.")],
    scope: Annotated[KeyScope, typer.Option(help="What it may do.")] = "deploy",
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APP",
            help="For scope invoke: an endpoint it may call; repeatable, none = all.",
            show_default=False,
        ),
    ] = None,
    max_workers: MaxWorkersOption = None,
    max_gpus: MaxGpusOption = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Make a key and print it: it is never shown again."""
    document = {"name": name, "scope": scope, **_quota(max_workers, max_gpus)}
    if endpoint:
        document["endpoints"] = endpoint
    made = ask(api, data, lambda client: client.api_keys.create(document))
    if as_json:
        print_json(made)
    else:
        print_line(f"made {made.id}; the key is shown this once:")
        print_line(made.key)


@keys_app.command("list")
def list_keys(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the keys with their quotas, and what their endpoints hold now."""
    listed = ask(api, data, lambda client: client.api_keys.list().whole())
    if as_json:
        print_json(listed)
    else:
        header = ("KEY", "NAME", "SCOPE", "WORKERS", "GPUS", "MADE")
        print_rows(header, [_cells(key) for key in listed.api_keys])


@keys_app.command("update")
def update(
    key: KeyArgument,
    name: Annotated[str | None, typer.Option(help="For people.", show_default=False)] = None,
    max_workers: MaxWorkersOption = None,
    max_gpus: MaxGpusOption = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Change the name or the quota of a key."""
    patch = _quota(max_workers, max_gpus)
    if name is not None:
        patch["name"] = name
    changed = ask(api, data, lambda client: client.api_keys.update(key, patch))
    if as_json:
        print_json(changed)
    else:
        print_line(f"updated {changed.id}")


@keys_app.command("revoke")
def revoke(
    key: KeyArgument,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let a key open nothing any more; endpoints that it has made stay, with its quota."""
    gone = ask(api, data, lambda client: client.api_keys.revoke(key))
    if as_json:
        print_json(gone)
    else:
        print_line(f"revoked {gone.id}")


@keys_app.callback()
def _group() -> None:
    """API keys: who may do what, and how much."""


def _quota(max_workers: int | None, max_gpus: int | None) -> dict[str, Any]:
    given = {"max_workers": max_workers, "max_gpus": max_gpus}
    return {
        name: None if limit == -1 else limit for name, limit in given.items() if limit is not None
    }


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
