"""Colours: what the person asked for, and what the terminal takes."""

import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import Final


class Colour(StrEnum):
    """When output is coloured."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


#: What the person asked for; the command sets it once, before anything is printed.
COLOUR: Final = ContextVar("COLOUR", default=Colour.AUTO)


def wants_colour(asked: Colour, *, terminal: bool, environment: Mapping[str, str]) -> bool:
    """Whether output is coloured [pure]: on a terminal, if nothing speaks against it.

    Args:
        asked: `always` and `never` decide alone.
        terminal: whether a terminal shows it.
        environment: a NO_COLOR that is not empty (https://no-color.org) and TERM=dumb say no.
    """
    if asked is not Colour.AUTO:
        return asked is Colour.ALWAYS
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def coloured() -> bool:
    """Whether what goes to stdout is coloured."""
    return wants_colour(COLOUR.get(), terminal=sys.stdout.isatty(), environment=os.environ)
