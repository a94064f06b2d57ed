"""`penstock limits`: what a document may contain, and the caller may do."""

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.offers import print_limits
from penstock_cli.output.printing import print_json


def limits(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Show what each field of an endpoint document takes, your quota and your use of it."""
    shown = ask(api, data, lambda client: client.limits.show())
    if as_json:
        print_json(shown)
    else:
        print_limits(shown)
