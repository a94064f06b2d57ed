"""`penstock product`: the kinds of GPU that the nodes have."""

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.offers import print_products
from penstock_cli.output.printing import print_json

products_app = typer.Typer(help="Products: the kinds of GPU that nodes have.", no_args_is_help=True)


@products_app.command("list")
def list_products(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the kinds of GPU: how many there are and are free, where, and what they cost."""
    listed = ask(api, data, lambda client: client.products.list().whole())
    if as_json:
        print_json(listed)
    else:
        print_products(listed.products)


@products_app.callback()
def _group() -> None:
    """Products: the kinds of GPU that nodes have."""
