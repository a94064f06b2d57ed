"""The life of a bus's connection: dial, prove, watch, lose, dial again.

Theory of operation. One supervisor task walks for ever through

    dial → subscribe all → prove it by an echo → ready → (lost) → dial …

Every connection is a new `WireClient` (wire.py), so a reconnect and a client that closed for
good are the same story, and nothing written to an old connection can leave on a new one.

- **Echo.** The bus sends itself a message and waits for it. NATS keeps the order of one
  connection, so an echo that came back proves that the server has every earlier subscription and
  publish. Every `CHECK_EVERY_S` it also proves that the server, the read loop and the dispatch
  still live: a frozen server is noticed within `CHECK_EVERY_S + ECHO_TIMEOUT_S` = 4.5 s.
- **Ensure hooks.** Memory streams do not outlive a restart of a single server. The hooks run after
  every reconnect, before the `on_connect` callbacks, and again when something was found missing.
"""

import asyncio
import functools
import itertools
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from penstock_common.clock import Clock
from penstock_common.entropy import random_ratio
from penstock_common.errors import BusTimeoutError, PenstockError
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.nats.exchange import ECHO_TIMEOUT_S, Exchange
from penstock_common.nats.retry import Backoff
from penstock_common.nats.tls import explained, tls_of
from penstock_common.nats.wire import WireClient
from penstock_common.settings import NatsSettings

logger = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 2.0
#: One run of one ensure hook.
ENSURE_TIMEOUT_S: Final = 10.0


class Callbacks:
    """Plain functions to call; what one raises is logged and keeps no other from its call."""

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Add one; the answer removes it."""
        number = next(self._numbers)
        self._callbacks[number] = callback

        def remove() -> None:
            self._callbacks.pop(number, None)

        return remove

    def call(self) -> None:
        """Call all, in the order in which they were added."""
        for callback in list(self._callbacks.values()):
            try:
                callback()
            except Exception:
                logger.exception("connection callback failed", extra={"action": "callback_failed"})


class Link:
    """Keeps an exchange connected."""

    def __init__(
        self, exchange: Exchange, settings: NatsSettings, *, name: str, clock: Clock
    ) -> None:
        """Not connected yet.

        Raises:
            MisconfiguredError: `settings.nats_url` cannot be one, or what TLS takes is amiss.
        """
        self._exchange = exchange
        self._settings = settings
        self._name = name
        self._clock = clock
        self._urls = _parse_urls(settings.nats_url)
        self._tls = tls_of(settings, self._urls)
        #: why the last dial failed, for a person; empty = none did
        self.problem = ""
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._supervisor: asyncio.Task[None] | None = None
        self._ensure_wanted = asyncio.Event()
        self.ensure_hooks: dict[str, Callable[[], Awaitable[None]]] = {}
        #: connected, and the ensure hooks have run
        self.ready = asyncio.Event()
        self.generation = 0
        self.on_connect = Callbacks()
        self.on_disconnect = Callbacks()

    async def open(self, wait_s: float) -> None:
        """Connect for the first time, and keep connected from then on.

        Raises:
            TimeoutError: not within `wait_s` seconds.
        """
        async with asyncio.timeout(wait_s):
            await self._dial()
        self.ready.set()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"nats-{self._name}")

    async def close(self) -> None:
        """End the connection and make no new one; bounded."""
        client = self._exchange.client
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait({supervisor}, timeout=1.0)
        if client is not None:
            await client.abort()
        self._exchange.client = None
        self.ready.clear()
        self._exchange.fail_answers()

    def ensure_soon(self) -> None:
        """Run the ensure hooks, at most once a second."""
        self._ensure_wanted.set()

    def _disconnect(self) -> None:
        """From here on nothing is sent, and everybody knows."""
        if self._exchange.client is not None:
            self._exchange.client = None
            self.ready.clear()
            self._exchange.fail_answers()
            self.on_disconnect.call()

    async def _supervise(self) -> None:
        first = True
        while True:
            client = self._exchange.client
            if client is not None:
                await self._serve(client, first=first)
            first = False
            await self._dial()
            logger.info(
                "NATS connection is back",
                extra={
                    "action": "nats_connected",
                    "connection": self._name,
                    "generation": self.generation,
                },
            )

    async def _serve(self, client: WireClient, *, first: bool) -> None:
        """From a proven connection to its end."""
        host = asyncio.create_task(self._host(first=first), name=f"nats-{self._name}-ensure")
        try:
            reason = await self._watch()
            self._disconnect()
        finally:
            host.cancel()
            await client.abort()
        logger.warning(
            "NATS connection lost",
            extra={"action": "nats_lost", "connection": self._name, "reason": reason},
        )

    async def _dial(self) -> None:
        """Set a new, proven client; for ever, with pauses."""
        backoff = Backoff()
        first = int(random_ratio() * len(self._urls))  # spread over the servers of a cluster
        for url in itertools.cycle(self._urls[first:] + self._urls[:first]):
            lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            client = WireClient(
                on_message=self._exchange.dispatch, on_lost=functools.partial(self._lose, lost)
            )
            try:
                await client.open(
                    url,
                    name=self._name,
                    user=self._settings.nats_user,
                    password=self._settings.nats_password.get_secret_value(),
                    tls=self._tls,
                )
                self._exchange.subscribe_all(client)
                await self._exchange.echo(client=client)
            except Exception as error:  # noqa: BLE001  # whatever a handshake may end in; logged
                self.problem = (
                    explained(error, url) or client.error_text or str(error) or type(error).__name__
                )
                logger.warning(
                    "NATS server not reached",
                    extra={
                        "action": "nats_dial_failed",
                        "connection": self._name,
                        "url": without_login(url),
                        "error": self.problem,
                    },
                )
            except BaseException:
                await client.abort()
                raise
            else:
                if not lost.done():
                    self._lost = lost
                    self._exchange.client = client
                    self.generation += 1
                    return
            await client.abort()
            await asyncio.sleep(backoff.pause_s(random_ratio()))

    def _lose(self, lost: asyncio.Future[str], reason: str) -> None:
        if lost is self._lost:
            self._disconnect()
        else:
            self._exchange.fail_answers()  # the echo of a dial
        lost.set_result(reason)

    async def _watch(self) -> str:
        """Wait until the connection is lost; gives the reason."""
        while True:
            done, _ = await asyncio.wait({self._lost}, timeout=CHECK_EVERY_S)
            if done:
                return self._lost.result()
            started = self._clock.monotonic()
            try:
                await self._exchange.echo()
            except PenstockError as error:
                if self._lost.done():
                    return self._lost.result()
                # A process that stalled finds the timer due before it has read the answer: only
                # a silence that lasted about as long as the timer is the server's.
                if (
                    not isinstance(error, BusTimeoutError)
                    or self._clock.monotonic() - started < ECHO_TIMEOUT_S + 1.0
                ):
                    return "the server is silent"

    async def _host(self, *, first: bool) -> None:
        """After a (re)connect: run the hooks, then the callbacks; then the hooks as wanted."""
        backoff = Backoff()
        good = first or await self._run_ensure_hooks()
        self.ready.set()
        if not first:
            self.on_connect.call()
        while True:
            if good:
                backoff.reset()
                await self._ensure_wanted.wait()
            else:
                await asyncio.sleep(backoff.pause_s(random_ratio()))
            self._ensure_wanted.clear()
            good = await self._run_ensure_hooks()
            await asyncio.sleep(1.0)

    async def _run_ensure_hooks(self) -> bool:
        good = True
        for name, hook in list(self.ensure_hooks.items()):
            try:
                async with asyncio.timeout(ENSURE_TIMEOUT_S):
                    await hook()
            except (PenstockError, TimeoutError) as error:
                good = False
                logger.warning(
                    "ensure hook failed, will be tried again",
                    extra={"action": "ensure_failed", "hook": name, "error": str(error)},
                )
            except Exception:
                good = False
                logger.exception(
                    "ensure hook broke", extra={"action": "ensure_failed", "hook": name}
                )
        return good


def _parse_urls(text: str) -> list[str]:
    urls = [url.strip() for url in text.split(",") if url.strip()]
    if not urls or not all(url.startswith(("nats://", "tls://")) for url in urls):
        raise MisconfiguredError(
            "nats_url must be nats://host:port or tls://host:port, comma-separated; "
            f"got '{without_login(text)}'"
        )
    return urls


def without_login(urls: str) -> str:
    """URLs as they may be shown: without user and password."""
    return re.sub(r"//[^/@,]*@", "//", urls)
