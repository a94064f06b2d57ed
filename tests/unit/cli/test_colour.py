"""When output is coloured, and which columns a narrow terminal shows."""

import pytest

from penstock_cli.output.colour import Colour, wants_colour
from penstock_cli.output.printing import fitting


@pytest.mark.parametrize(
    ("asked", "terminal", "environment", "wanted"),
    [
        (Colour.AUTO, True, {}, True),
        (Colour.AUTO, False, {}, False),
        (Colour.AUTO, True, {"NO_COLOR": "1"}, False),
        (Colour.AUTO, True, {"NO_COLOR": ""}, True),
        (Colour.AUTO, True, {"TERM": "dumb"}, False),
        (Colour.ALWAYS, False, {"NO_COLOR": "1"}, True),
        (Colour.NEVER, True, {}, False),
    ],
)
def test_when_there_are_colours(
    asked: Colour, terminal: bool, environment: dict[str, str], wanted: bool
) -> None:
    assert wants_colour(asked, terminal=terminal, environment=environment) is wanted


def test_columns_that_can_be_spared_go_in_their_order_until_the_table_fits() -> None:
    widths = {"APP": 10, "STATE": 10, "ID": 10}
    assert fitting(widths, ["ID", "STATE"], 34) == ["APP", "STATE", "ID"]
    assert fitting(widths, ["ID", "STATE"], 33) == ["APP", "STATE"]
    assert fitting(widths, ["STATE", "ID"], 33) == ["APP", "ID"]
    assert fitting(widths, ["ID", "STATE"], 5) == ["APP"]
    assert fitting(widths, [], 5) == ["APP", "STATE", "ID"]
