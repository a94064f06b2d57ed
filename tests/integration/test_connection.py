"""`Bus` against a real nats-server."""

import asyncio
import logging

import pytest

from penstock_common.clock import SystemClock
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    BusTimeoutError,
    MessageTooLargeError,
    NoRespondersError,
    WrongRevisionError,
)
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.nats.connection import Bus, Received
from penstock_common.settings import NatsSettings
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = pytest.mark.nats


async def test_messages_arrive_in_order_with_subject_headers_and_reply(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        got: list[Received] = []
        await bus.subscribe("a.*", got.append)
        for i in range(100):
            await bus.publish("a.b", b"%d" % i, headers={"n": str(i)}, reply="r")
        await eventually(lambda: len(got) == 100)
        assert [m.data for m in got] == [b"%d" % i for i in range(100)]
        assert got[7] == Received("a.b", b"7", {"n": "7"}, "r")


async def test_after_subscribe_another_connection_reaches_the_handler(
    nats_server: NatsServer,
) -> None:
    """nats-py answers a flush before the server has the subscription (engineering.md, fact 4)."""
    async with connected(nats_server.url) as server, connected(nats_server.url) as client:
        for i in range(50):
            subject = f"rpc.{i}"
            await server.subscribe(subject, lambda m: server.publish_nowait(m.reply, m.data))
            assert (await client.request(subject, b"x")).data == b"x"


async def test_a_closed_subscription_is_silent(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[Received] = []
        all_of_it: list[Received] = []
        subscription = await bus.subscribe("a", got.append)
        await bus.subscribe("a", all_of_it.append)
        await subscription.close()
        await subscription.close()
        await bus.publish("a", b"")
        await eventually(lambda: len(all_of_it) == 1)
        assert got == []


async def test_a_drained_subscription_handles_what_was_sent_before(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[Received] = []
        subscription = await bus.subscribe("a", got.append)
        for _ in range(1000):
            bus.publish_nowait("a", b"")
        await subscription.drain()
        assert len(got) == 1000


async def test_a_question_waits_as_long_as_its_connection_says(nats_server: NatsServer) -> None:
    settings = NatsSettings(nats_url=nats_server.url)
    bus = await Bus.connect(settings, name="t", clock=SystemClock(), answer_s=0.2)
    try:
        await bus.subscribe("mute", lambda _: None)
        for ask in (bus.request, bus.store):
            with pytest.raises(BusTimeoutError, match=r"within 0\.2 s"):
                await ask("mute", b"")
        with pytest.raises(BusTimeoutError, match=r"within 0\.1 s"):
            await bus.request("mute", b"", timeout_s=0.1)
    finally:
        await bus.close()


async def test_a_queue_group_shares_messages(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[int] = []
        await bus.subscribe("a", lambda _: got.append(1), queue="q")
        await bus.subscribe("a", lambda _: got.append(2), queue="q")
        for _ in range(200):
            await bus.publish("a", b"")
        await eventually(lambda: len(got) == 200)
        assert set(got) == {1, 2}


async def test_a_handler_that_raises_is_logged_and_the_next_message_comes(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        got: list[bytes] = []

        def handler(message: Received) -> None:
            got.append(message.data)
            if message.data == b"bad":
                raise KeyError("bug")

        await bus.subscribe("a", handler)
        await bus.publish("a", b"bad")
        await bus.publish("a", b"good")
        await eventually(lambda: got == [b"bad", b"good"])
        assert [r.action for r in caplog.records if r.levelno >= logging.ERROR] == [  # type: ignore[attr-defined]  # from extra
            "handler_failed"
        ]
        assert bus.generation == 1


async def test_request_without_responders_and_without_answer(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        with pytest.raises(NoRespondersError, match="nobody"):
            await bus.request("nobody", b"")
        await bus.subscribe("mute", lambda _: None)
        with pytest.raises(BusTimeoutError, match="mute"):
            await bus.request("mute", b"", timeout_s=0.05)


async def test_an_answer_after_its_timeout_harms_nothing(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        waiting: list[str] = []
        await bus.subscribe("slow", lambda m: waiting.append(m.reply))
        with pytest.raises(BusTimeoutError):
            await bus.request("slow", b"", timeout_s=0.05)
        await eventually(lambda: waiting)  # the question may be late as well
        await bus.publish(waiting[0], b"late")
        await bus.subscribe("fast", lambda m: bus.publish_nowait(m.reply, b"now"))
        assert (await bus.request("fast", b"")).data == b"now"
        assert bus.generation == 1


async def test_a_cancelled_request_leaves_nothing_behind(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await bus.subscribe("mute", lambda _: None)
        task = asyncio.create_task(bus.request("mute", b""))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bus._exchange._answers == {}


async def test_headers_count_towards_the_largest_message(nats_server: NatsServer) -> None:
    """nats-py checks the payload alone, and the server then ends the connection."""
    async with connected(nats_server.url) as bus:
        got: list[int] = []
        await bus.subscribe("a", lambda m: got.append(len(m.data)))
        most = 1_048_576
        with pytest.raises(MessageTooLargeError):
            await bus.publish("a", b"x" * (most + 1))
        with pytest.raises(MessageTooLargeError):
            await bus.publish("a", b"x" * (most - 10), headers={"k": "v"})
        with pytest.raises(MessageTooLargeError):
            await bus.request("a", b"x" * most, headers={"k": "v"})
        overhead = len(b"NATS/1.0\r\nk: v\r\n\r\n")
        await bus.publish("a", b"x" * (most - overhead), headers={"k": "v"})
        await bus.publish("a", b"x" * most)
        await eventually(lambda: got == [most - overhead, most])
        assert bus.generation == 1


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n", "a\tb"])
async def test_a_subject_cannot_smuggle_a_command(nats_server: NatsServer, subject: str) -> None:
    async with connected(nats_server.url) as bus:
        with pytest.raises(ValueError, match="no NATS subject"):
            await bus.publish(subject, b"")
        with pytest.raises(ValueError, match="no NATS subject"):
            await bus.subscribe(subject, lambda _: None)
        with pytest.raises(ValueError, match="no NATS subject"):
            await bus.publish("a", b"", reply=subject or " ")


async def test_a_header_value_cannot_add_a_line(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[Received] = []
        await bus.subscribe("a", got.append)
        await bus.publish("a", b"", headers={"k": "1\r\nevil: 2", "ü": "ignored", "w": "größe"})
        await eventually(lambda: got)
        assert got[0].headers["k"] == "1  evil: 2"
        assert got[0].headers["w"] == "größe"
        assert "evil" not in got[0].headers


async def test_large_bursts_arrive_whole(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[int] = []
        await bus.subscribe("a", lambda m: got.append(len(m.data)))
        for _ in range(200):
            await bus.publish("a", b"x" * 200_000)
        await eventually(lambda: len(got) == 200)
        assert bus.generation == 1


async def test_store_tells_sequence_and_refusal(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        with pytest.raises(NoRespondersError):
            await bus.store("s.a", b"")
        await bus.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "max_msg_size": 100})
        first = await bus.store("s.a", b"", headers={"Nats-Msg-Id": "1"})
        again = await bus.store("s.a", b"", headers={"Nats-Msg-Id": "1"})
        assert (first.sequence, first.duplicate) == (1, False)
        assert (again.sequence, again.duplicate) == (1, True)
        with pytest.raises(WrongRevisionError):
            await bus.store("s.a", b"", headers={"Nats-Expected-Last-Subject-Sequence": "7"})
        with pytest.raises(BusRefusedError, match="size exceeds") as refused:
            await bus.store("s.a", b"x" * 101)
        assert refused.value.code == 10054


async def test_api_refusal_has_a_code(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        with pytest.raises(BusRefusedError) as refused:
            await bus.api("STREAM.INFO.NONE")
        assert refused.value.code == 10059


async def test_login(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    config = server.folder / "nats.conf"
    config.write_text(config.read_text() + "authorization { user: api, password: s3cret }\n")
    server.start()
    try:
        good = NatsSettings.model_validate(
            {"nats_url": server.url, "nats_user": "api", "nats_password": "s3cret"}
        )
        bus = await Bus.connect(good, name="t", clock=SystemClock(), wait_s=60)
        await bus.close()
        bad = NatsSettings.model_validate(
            {"nats_url": server.url, "nats_user": "api", "nats_password": "wrong"}
        )
        with pytest.raises(BusDisconnectedError):
            await Bus.connect(bad, name="t", clock=SystemClock(), wait_s=0.5)
    finally:
        server.stop()


async def test_a_missing_permission_is_no_lost_connection(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    config = server.folder / "nats.conf"
    config.write_text(
        config.read_text() + "authorization { users: [{ user: u, password: p, permissions: "
        '{ publish: ["_INBOX_u.>", "ok"], subscribe: ["_INBOX_u.>", "ok"] } }] }\n'
    )
    server.start()
    try:
        settings = NatsSettings.model_validate(
            {"nats_url": server.url, "nats_user": "u", "nats_password": "p"}
        )
        bus = await Bus.connect(settings, name="t", clock=SystemClock(), wait_s=60)
        await bus.publish("forbidden", b"")
        got: list[Received] = []
        await bus.subscribe("ok", got.append)
        await bus.publish("ok", b"")
        await eventually(lambda: got)
        assert bus.generation == 1
        await bus.close()
    finally:
        server.stop()


async def test_no_server_within_the_wait() -> None:
    settings = NatsSettings(nats_url=f"nats://127.0.0.1:{free_port()}")
    with pytest.raises(BusDisconnectedError, match=r"within 0\.3 s"):
        await Bus.connect(settings, name="t", clock=SystemClock(), wait_s=0.3)


async def test_a_server_that_comes_later_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    settings = NatsSettings(nats_url=server.url)
    connecting = asyncio.create_task(
        Bus.connect(settings, name="t", clock=SystemClock(), wait_s=60)
    )
    try:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.start)
        bus = await connecting
        assert (bus.connected, bus.generation) == (True, 1)
        await bus.close()
    finally:
        connecting.cancel()
        server.stop()


async def test_the_next_server_of_a_list_is_tried(nats_server: NatsServer) -> None:
    async with connected(f"nats://127.0.0.1:{free_port()}, {nats_server.url}") as bus:
        assert bus.connected


@pytest.mark.parametrize("url", ["", " , ", "ws://127.0.0.1:1", "127.0.0.1:4222"])
async def test_a_url_that_cannot_work_is_the_operators_mistake(url: str) -> None:
    with pytest.raises(MisconfiguredError, match="nats_url"):
        await Bus.connect(NatsSettings(nats_url=url), name="t", clock=SystemClock())


async def test_close_sends_what_was_published_and_can_be_repeated(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as witness:
        got: list[Received] = []
        await witness.subscribe("bye", got.append)
        async with connected(nats_server.url) as bus:
            await bus.publish("bye", b"")
            await bus.close()
            assert not bus.connected
            await bus.close()
            with pytest.raises(BusDisconnectedError):
                await bus.publish("bye", b"")
            with pytest.raises(BusDisconnectedError):
                await bus.request("bye", b"")
            with pytest.raises(BusDisconnectedError):
                await bus.subscribe("bye", got.append)
        await eventually(lambda: len(got) == 1)


async def test_close_ends_what_waits(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await bus.subscribe("mute", lambda _: None)
        waiting = asyncio.create_task(bus.request("mute", b"", timeout_s=30))
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(BusTimeoutError):
            await waiting
