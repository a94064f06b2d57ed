"""Looks at an installation again and again, and draws what it sees."""

import asyncio
from typing import Final

from rich.console import Console

from penstock_cli.top.frame import Scene, frame
from penstock_cli.top.rows import Sample
from penstock_cli.top.terminal import Terminal, open_terminal
from penstock_cli.top.wishes import Wishes, keys_in, press
from penstock_client.client import PenstockClient
from penstock_client.errors import ApiError, UnreachableError
from penstock_common.clock import Clock

#: A look that took longer counts as no answer.
LOOK_TIMEOUT_S: Final = 10.0
#: The age of what is shown grows before the eyes of who looks.
_REDRAW_S: Final = 1.0


async def look(client: PenstockClient, clock: Clock) -> Sample:
    """The installation now: one request for the nodes, and one for each 1000 endpoints.

    Raises:
        ApiError, UnreachableError: as the client does; also when it takes too long.
    """
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            endpoints = (await client.endpoints.list().whole()).endpoints
            nodes = (await client.nodes.list().whole()).nodes
    except TimeoutError:
        raise UnreachableError(f"the api did not answer within {LOOK_TIMEOUT_S:g} s") from None
    return Sample(endpoints, nodes, clock.monotonic())


class View:
    """What is shown, and the loop that shows it."""

    def __init__(
        self, client: PenstockClient, url: str, wishes: Wishes, clock: Clock, interval_s: float
    ) -> None:
        """`interval_s` seconds lie between two looks."""
        self._client = client
        self._url = url
        self._wishes = wishes
        self._clock = clock
        self._interval_s = interval_s
        self._sample: Sample | None = None
        self._before: Sample | None = None
        self._away: tuple[str, float] | None = None
        self._changed = asyncio.Event()

    async def run(self, console: Console) -> None:
        """Show it until the person leaves.

        Raises:
            ApiError: the api refuses this key.
        """
        with open_terminal(console, self._on_keys, self._changed.set) as terminal:
            self._draw(terminal)  # at once, as the api may be slow
            looking = asyncio.create_task(self._look_on(), name="look")
            try:
                while not self._wishes.leaves:
                    await self._wait(looking)
                    self._draw(terminal)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _wait(self, looking: asyncio.Task[None]) -> None:
        """Until something has changed, or a second has passed."""
        waiting = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                {waiting, looking}, timeout=_REDRAW_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
        if looking.done():
            looking.result()  # raises what ended it
        self._changed.clear()

    async def _look_on(self) -> None:
        while True:
            began = self._clock.monotonic()
            try:
                sample = await look(self._client, self._clock)
            except (ApiError, UnreachableError) as error:
                if isinstance(error, ApiError) and error.status < 500 and error.status != 429:
                    raise
                since = self._away[1] if self._away is not None else began
                self._away = (str(error), since)
            else:
                self._before, self._sample, self._away = self._sample, sample, None
            self._changed.set()
            took_s = self._clock.monotonic() - began
            # An api that is slow, or far away, is not asked all the time.
            await asyncio.sleep(max(self._interval_s - took_s, took_s))

    def _on_keys(self, data: bytes) -> None:
        for key in keys_in(data):
            self._wishes = press(self._wishes, key)
        self._changed.set()

    def _draw(self, terminal: Terminal) -> None:
        width, height = terminal.size
        scene = Scene(
            self._url,
            self._sample,
            self._before,
            self._wishes,
            self._away,
            f"{self._clock.utc():%H:%M:%S} UTC",
        )
        terminal.draw(frame(scene, self._clock.monotonic(), width=width, height=height))
