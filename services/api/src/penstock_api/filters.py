"""Filters of lists: what the parameters of a URL ask for [pure]."""

from collections.abc import Iterable, Mapping

from penstock_api.problems import RefusedError


def one_of(query: Mapping[str, str], name: str, known: Iterable[str]) -> str | None:
    """The value of this parameter; None = it is left out, and all are asked for.

    Raises:
        RefusedError: 400: it is none of those known.
    """
    value, values = query.get(name), list(known)
    if value is not None and value not in values:
        raise RefusedError(400, "malformed_filter", f"{name} is one of {', '.join(values)}")
    return value
