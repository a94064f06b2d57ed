"""What the sender of webhooks makes of receivers, good and bad, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from penstock_api.webhooks.addresses import AddressPolicy, parse_networks
from penstock_api.webhooks.sender import USER_AGENT, Sender
from penstock_api.webhooks.verdicts import Answered, Unanswered
from penstock_common.clock import SystemClock
from tests.support.ports import free_port
from tests.support.webhook_receiver import Receiver, running_receiver

LOOPBACK = AddressPolicy(parse_networks("127.0.0.0/8,::1/128"))
TIMEOUT_S = 60


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as server:
        yield server


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(SystemClock(), LOOPBACK, TIMEOUT_S)
    yield made
    await made.close()


@pytest.fixture
async def hurried() -> AsyncIterator[Sender]:
    """One that soon gives up, for what fails with any patience."""
    made = Sender(SystemClock(), LOOPBACK, 0.5)
    yield made
    await made.close()


async def raw_server(answer: bytes) -> asyncio.Server:
    """One that answers every connection with these bytes, and then says no more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)
        await writer.drain()
        await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_what_a_receiver_gets(sender: Sender, receiver: Receiver) -> None:
    result = await sender.send(f"{receiver.url}/a?b=c%20d", {"webhook-id": "ev-1"}, b"{}")
    assert result == Answered(200, None, "thanks")
    (taken,) = receiver.taken
    assert (taken.path, taken.body) == ("/a", b"{}")
    assert taken.headers["User-Agent"] == USER_AGENT
    assert taken.headers["Accept-Encoding"] == "identity"


async def test_a_redirect_is_not_followed(sender: Sender, receiver: Receiver) -> None:
    receiver.answer(307, headers={"Location": f"{receiver.url}/other", "Retry-After": "7"})
    result = await sender.send(receiver.url, {}, b"")
    assert isinstance(result, Answered)
    assert (result.status, result.retry_after_s, result.error is None) == (307, 7.0, False)
    assert len(receiver.taken) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_nothing_goes_to_an_address_that_is_not_allowed(
    receiver: Receiver, host: str
) -> None:
    public = Sender(SystemClock(), AddressPolicy(), TIMEOUT_S)
    try:
        result = await public.send(receiver.url.replace("127.0.0.1", host), {}, b"")
    finally:
        await public.close()
    assert isinstance(result, Unanswered)
    assert "no address that webhooks may reach" in result.error
    assert receiver.taken == []


async def test_a_name_is_looked_up_and_its_allowed_addresses_are_tried(
    sender: Sender, receiver: Receiver
) -> None:
    result = await sender.send(receiver.url.replace("127.0.0.1", "localhost"), {}, b"")
    assert isinstance(result, Answered)


async def hangs(receiver: Receiver) -> str:
    async def never(_: object) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    receiver.respond = never
    return receiver.url


async def refuses(_: Receiver) -> str:
    return f"http://127.0.0.1:{free_port()}/?token=canary"


async def has_no_name(_: Receiver) -> str:
    return "http://no-such-host.invalid/?token=canary"


async def speaks_no_tls(receiver: Receiver) -> str:
    return receiver.url.replace("http:", "https:") + "/?token=canary"


async def is_odd(_: Receiver) -> str:
    return "http://127.1/?token=canary"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (refuses, "cannot connect: Connection refused"),
        (has_no_name, "cannot find the receiver's address"),
        (speaks_no_tls, "cannot connect: [SSL"),
        (is_odd, "the URL cannot be used"),
    ],
)
async def test_a_bad_receiver_is_told_in_a_sentence(
    sender: Sender, receiver: Receiver, make: Callable[[Receiver], Awaitable[str]], error: str
) -> None:
    result = await sender.send(await make(receiver), {}, b"")
    assert isinstance(result, Unanswered)
    assert result.error.startswith(error)
    assert "canary" not in result.error


async def test_a_receiver_that_hangs_is_given_up(hurried: Sender, receiver: Receiver) -> None:
    result = await hurried.send(await hangs(receiver), {}, b"")
    assert result == Unanswered("no answer within 0.5 s")


@pytest.mark.parametrize(
    ("answer", "status", "response"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, 200, "x" * 256),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nonly", 202, "only"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00", 500, "\ufffd\ufffd\x00"),
    ],
)
async def test_the_status_counts_whatever_becomes_of_the_body(
    sender: Sender, answer: bytes, status: int, response: str
) -> None:
    server = await raw_server(answer)
    port = server.sockets[0].getsockname()[1]
    async with server:
        result = await sender.send(f"http://127.0.0.1:{port}/", {}, b"{}")
    assert result == Answered(status, None, response)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2000 Odd\r\n\r\n"])
async def test_what_is_no_http_is_a_failure(hurried: Sender, answer: bytes) -> None:
    server = await raw_server(answer)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert isinstance(await hurried.send(f"http://127.0.0.1:{port}/", {}, b"{}"), Unanswered)
