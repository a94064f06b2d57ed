"""One question to an api that takes an event loop: it waits for several things, or for a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock_cli.session import Session
from penstock_client.client import PenstockClient

T = TypeVar("T")


def ask_async(session: Session, question: Callable[[PenstockClient], Awaitable[T]]) -> T:
    """What the api answers; where no event loop is needed, `Session.ask` has less to load.

    Raises:
        CliError: it refused, cannot be reached, or there is no key for it.
    """
    target = session.find_target()

    async def connected() -> T:
        async with PenstockClient(target.url, target.key) as client:
            return await question(client)

    with session.refusals_told():
        return asyncio.run(connected())
