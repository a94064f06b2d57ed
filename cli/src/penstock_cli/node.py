"""`penstock node`: the machines."""

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.render import print_json, print_nodes

nodes_app = typer.Typer(help="Nodes: the machines with GPUs.", no_args_is_help=True)


@nodes_app.command("list")
def list_nodes(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the nodes whose agents report."""
    listed = ask(api, data, lambda client: client.list_nodes())
    if as_json:
        print_json(listed)
    else:
        print_nodes(listed.nodes)


@nodes_app.callback()
def _group() -> None:
    """Nodes: the machines with GPUs."""
