"""Sends one request to a receiver, within bounds, and only to addresses that are allowed."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Final

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from penstock_api.webhooks.addresses import AddressPolicy, is_address
from penstock_api.webhooks.schedule import parse_retry_after
from penstock_api.webhooks.verdicts import Answered, Result, Unanswered
from penstock_common.clock import Clock
from penstock_common.daemon_threads import DaemonThreads

#: So much of an answer is read, and so many characters of it are kept.
RESPONSE_BYTES: Final = 1_024
RESPONSE_CHARACTERS: Final = 256
#: Names looked up at once: one for each webhook, so that none waits for another's name server.
_LOOK_UPS: Final = 128
_KEEPALIVE_S: Final = 15.0
#: The beginning of an answer's body is awaited for so long.
_BODY_TIMEOUT_S: Final = 1.0
_ERROR_CHARACTERS: Final = 300

USER_AGENT: Final = f"Penstock-Webhooks/{version('penstock-api')}"


class AddressDeniedError(OSError):
    """The receiver's address is none that webhooks may reach."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} has no address that webhooks may reach; the operator allows more with "
            "PENSTOCK_API_WEBHOOK_ALLOWED_NETWORKS"
        )


class _GuardedResolver(AbstractResolver):
    """Looks names up and drops addresses that are not allowed: a name may change what it names."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._threads = DaemonThreads(_LOOK_UPS, "webhook-names")

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await self._threads.run(look_up)
        allowed = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
            if self._policy.permits(str(address[0]))
        ]
        if not allowed:
            raise AddressDeniedError(host)
        return allowed

    @override
    async def close(self) -> None:
        self._threads.close()


class Sender:
    """Sends deliveries; one for all webhooks."""

    def __init__(self, clock: Clock, policy: AddressPolicy, timeout_s: float) -> None:
        """A sender.

        Args:
            clock: tells how long a `Retry-After` with a date is.
            policy: which addresses may be reached.
            timeout_s: for one request, from looking up the name to the end of the answer's head.
        """
        self._clock = clock
        self._policy = policy
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_GuardedResolver(policy),
                limit=0,  # each webhook is bounded by its pace
                ttl_dns_cache=10,
                keepalive_timeout=_KEEPALIVE_S,
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=8_190,
            headers={hdrs.USER_AGENT: USER_AGENT, hdrs.ACCEPT_ENCODING: "identity"},
        )

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        """What came of a POST of this body; never raises for what a receiver does."""
        target = URL(url)
        if is_address(target.host or "") and not self._policy.permits(target.host or ""):
            return Unanswered(str(AddressDeniedError(target.host or "")))
        try:
            async with (
                asyncio.timeout(self._timeout_s) as limit,
                self._session.post(
                    target, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                limit.reschedule(
                    None
                )  # the status has come in time; the body has a limit of its own
                retry_after = response.headers.get(hdrs.RETRY_AFTER)
                return Answered(
                    response.status,
                    parse_retry_after(retry_after, now=self._clock.utc()),
                    await _beginning(response),
                )
        except TimeoutError:
            return Unanswered(f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Unanswered(_sentence(error))

    async def close(self) -> None:
        """End the connections; nothing is sent any more."""
        await self._session.close()


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The first characters of the answer's body; of one that breaks or dawdles, what came.

    The status has come, and that is what counts.
    """
    came = b""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            while len(came) < RESPONSE_BYTES:
                chunk = await response.content.read(RESPONSE_BYTES - len(came))
                if not chunk:
                    break
                came += chunk
    return came.decode(errors="replace")[:RESPONSE_CHARACTERS]


def _sentence(error: Exception) -> str:
    """What went wrong, without the URL, which may hold a token."""
    match error:
        case aiohttp.InvalidURL():
            return "the URL cannot be used"
        case aiohttp.ClientConnectorError(os_error=AddressDeniedError() as denied):
            return str(denied)
        case aiohttp.ClientConnectorDNSError(os_error=cause):
            return f"cannot find the receiver's address: {cause.strerror}"[:_ERROR_CHARACTERS]
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError() as cause):
            return f"cannot connect: {cause}"[:_ERROR_CHARACTERS]
        case aiohttp.ClientConnectorError(os_error=cause) if cause.errno:
            return f"cannot connect: {os.strerror(cause.errno)}"
        case _:
            return (str(error) or type(error).__name__)[:_ERROR_CHARACTERS]
