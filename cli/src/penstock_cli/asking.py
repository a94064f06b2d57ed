"""One question to an api, with a client of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock_client.client import PenstockClient

T = TypeVar("T")


def ask(
    url: str,
    key: str,
    question: Callable[[PenstockClient], Awaitable[T]],
    *,
    timeout_s: float = 30.0,
) -> T:
    """What `question` answers; it may call the client several times.

    Args:
        url: of the api.
        key: an API key.
        question: e.g. `lambda client: client.nodes.show("node-a")`.
        timeout_s: longest wait for one answer of the api.

    Raises:
        ApiError, UnreachableError: as the client does.
    """

    async def connected() -> T:
        async with PenstockClient(url, key, timeout_s=timeout_s) as client:
            return await question(client)

    return asyncio.run(connected())
