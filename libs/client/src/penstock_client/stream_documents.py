"""What the server-sent events of the api say, as documents [pure]."""

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from penstock_client.documents.base import Document
from penstock_client.errors import UnreachableError
from penstock_client.sse import ServerEvent

D = TypeVar("D", bound=Document)


def parse_event(event: ServerEvent, kinds: Mapping[str, type[D]]) -> D | None:
    """The document in an event; None for an event that this client does not know.

    Args:
        event: as it came.
        kinds: name of an event → what it holds.

    Raises:
        UnreachableError: it holds something else.
    """
    kind = kinds.get(event.name)
    if kind is None:
        return None
    try:
        return kind.of(json.loads(event.data))
    except (ValueError, ValidationError) as error:
        raise UnreachableError(
            f"the api sent a '{event.name}' that this client does not understand (is it newer?):"
            f" {error}"
        ) from None
