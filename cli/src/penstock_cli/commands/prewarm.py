"""`penstock prewarm`: images that are to be on nodes ahead of need."""

from typing import Annotated

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.printing import print_json, print_line
from penstock_cli.output.storage import print_prewarm, print_prewarms

prewarms_app = typer.Typer(
    help="Prewarms: images pulled to nodes ahead of need.", no_args_is_help=True
)

PrewarmArgument = Annotated[str, typer.Argument(metavar="PREWARM", help="Its id.")]


@prewarms_app.command("create")
def create_prewarm(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image reference.")],
    node: Annotated[
        list[str] | None,
        typer.Option("--node", metavar="NODE", help="Only this node; may be repeated."),
    ] = None,
    product: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", metavar="PRODUCT", help="Only nodes with such a GPU; may be repeated."
        ),
    ] = None,
    registry_auth: Annotated[
        str | None,
        typer.Option("--registry-auth", metavar="ID", help="Pull with it.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Have an image pulled to nodes, now and to those that join later."""
    document = {
        "image": image,
        "registry_auth_id": registry_auth,
        "nodes": node or [],
        "products": product or [],
    }
    made = ask(api, data, lambda client: client.prewarms.create(document))
    if as_json:
        print_json(made)
    else:
        nodes = len(made.progress)
        print_line(
            f"made {made.id}: {made.image} on {nodes} node{'' if nodes == 1 else 's'} so far"
        )


@prewarms_app.command("list")
def list_prewarms(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the prewarms."""
    listed = ask(api, data, lambda client: client.prewarms.list().whole())
    if as_json:
        print_json(listed)
    else:
        print_prewarms(listed.prewarms)


@prewarms_app.command("show")
def show_prewarm(
    prewarm: PrewarmArgument,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show how far each node is."""
    shown = ask(api, data, lambda client: client.prewarms.show(prewarm))
    if as_json:
        print_json(shown)
    else:
        print_prewarm(shown)


@prewarms_app.command("delete")
def delete_prewarm(
    prewarm: PrewarmArgument,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Forget a prewarm; its image may be cleaned up from then on."""
    removed = ask(api, data, lambda client: client.prewarms.delete(prewarm))
    if as_json:
        print_json(removed)
    else:
        print_line(f"forgot {removed.id} ({removed.image})")
