"""Parameters behind the `?` of Novita's URLs."""

from collections.abc import Mapping
from typing import Final

from penstock_api.problems import RefusedError

_MAX: Final = 10**9


def number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number from 0 on; None = it is left out or empty.

    Raises:
        RefusedError: 400, it is none.
    """
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MAX))):
        raise RefusedError(400, "wrong_parameter", f"{name} is a whole number from 0 on")
    return int(text)


def required(query: Mapping[str, str], name: str) -> str:
    """A text that must be there.

    Raises:
        RefusedError: 400, it is missing or empty.
    """
    text = query.get(name, "")
    if not text:
        raise RefusedError(400, "wrong_parameter", f"say which one: ?{name}=")
    return text
