"""What the client sends again, and what it makes of changes, before a real api."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_client.client import PenstockClient
from penstock_client.errors import ApiError, NoTagError, UnreachableError
from penstock_client.retrying import NEVER, RetryPolicy
from tests.support.api_server import ADMIN_KEY, ApiServer, running_api
from tests.support.flaky_proxy import CUT, LOSE, FlakyProxy, Refuse, flaky_proxy
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

SOON = RetryPolicy(max_attempts=4, first_pause_s=0.01, longest_pause_s=0.05)
ECHO = {"app_name": "echo", "image": {"image": "acme/echo"}}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


@pytest.fixture
async def proxy(api: ApiServer) -> AsyncIterator[FlakyProxy]:
    async with flaky_proxy(api.url) as running:
        yield running


@pytest.fixture
async def client(proxy: FlakyProxy) -> AsyncIterator[PenstockClient]:
    async with PenstockClient(proxy.url, ADMIN_KEY, retry=SOON) as connected:
        yield connected


async def test_a_creation_whose_answer_is_lost_twice_makes_one(
    client: PenstockClient, proxy: FlakyProxy, api: ApiServer
) -> None:
    proxy.faults += [LOSE, LOSE]
    made = await client.endpoints.create(ECHO)
    assert [seen.method for seen in proxy.seen] == ["POST"] * 3
    assert len({seen.headers["Idempotency-Key"] for seen in proxy.seen}) == 1
    assert made.id == (await api.show("echo"))["id"]
    assert len((await client.endpoints.list().whole()).endpoints) == 1


async def test_a_conditional_change_whose_answer_is_lost_is_no_conflict(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    seen = await client.endpoints.create(ECHO)
    proxy.faults += [LOSE]
    changed = await client.endpoints.update("echo", {"public": True}, if_match=seen.etag)
    assert changed.public
    assert changed.etag != seen.etag
    with pytest.raises(ApiError) as caught:  # somebody with the old one comes too late
        await client.endpoints.update("echo", {"public": False}, if_match=seen.etag)
    assert (caught.value.status, caught.value.reason) == (412, "precondition_failed")


async def test_a_deletion_whose_answer_is_lost_is_answered_all_the_same(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    document = {"name": "ours", "username": "robot", "password": "secret-1"}
    auth = await client.registry_auths.create(document)
    proxy.faults += [LOSE]
    assert await client.registry_auths.delete(auth.id) == auth
    with pytest.raises(ApiError, match=auth.id):
        await client.registry_auths.show(auth.id)


async def test_every_change_of_an_endpoint_may_be_conditional(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    stale = (await client.endpoints.create(ECHO)).etag
    await client.endpoints.update("echo", {"workers": {"max": 2}})
    calls = client.endpoints
    for change in (
        calls.update("echo", {"public": True}, if_match=stale),
        calls.delete("echo", if_match=stale),
        calls.pause("echo", if_match=stale),
        calls.resume("echo", if_match=stale),
        calls.share_traffic("echo", 10, {"env": {"A": "b"}}, if_match=stale),
    ):
        with pytest.raises(ApiError) as caught:
            await change
        assert caught.value.status == 412
    seen = await calls.show("echo")
    begun = await calls.share_traffic("echo", 10, {"env": {"A": "b"}}, if_match=seen.etag)
    for late in (calls.promote, calls.abort):
        with pytest.raises(ApiError) as caught:
            await late("echo", if_match=stale)
        assert caught.value.status == 412
    promoted = await calls.promote("echo", if_match=begun.etag)
    with pytest.raises(ApiError) as caught:
        await calls.roll_back("echo", if_match=begun.etag)
    assert caught.value.status == 412
    back = await calls.roll_back("echo", if_match=promoted.etag)
    assert (await calls.delete("echo", if_match=back.etag)).deleted_at is not None


async def test_what_a_list_shows_has_no_tag_and_says_so(client: PenstockClient) -> None:
    await client.endpoints.create(ECHO)
    (listed,) = (await client.endpoints.list().whole()).endpoints
    with pytest.raises(NoTagError, match="show it alone"):
        _ = listed.etag
    shown = await client.endpoints.show("echo")
    assert shown == listed
    assert shown.raw == listed.raw


async def test_the_same_key_makes_one_also_over_two_clients(proxy: FlakyProxy) -> None:
    document = {"image": {"image": "acme/echo"}}
    made = []
    for _ in range(2):
        async with PenstockClient(proxy.url, ADMIN_KEY) as one:
            made.append(await one.endpoints.create(document, idempotency_key="deploy-7"))
    assert made[0].id == made[1].id


async def test_a_breath_of_the_api_is_waited_for_as_it_asks(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    proxy.faults += [
        Refuse(429, {"Retry-After": "0"}, "too_many_requests"),
        Refuse(503, {}, "nats_disconnected"),
        Refuse(502),
    ]
    assert (await client.nodes.list().whole()).nodes == ()
    assert len(proxy.seen) == 4


async def test_the_last_refusal_is_told_when_attempts_run_out(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    proxy.faults += [Refuse(503, {}, "nats_disconnected")] * 4
    with pytest.raises(ApiError) as caught:
        await client.nodes.list().whole()
    assert caught.value.reason == "nats_disconnected"
    assert len(proxy.seen) == 4
    proxy.faults += [CUT] * 4
    with pytest.raises(UnreachableError, match="4 attempts"):
        await client.nodes.list().whole()


async def test_a_wait_that_is_too_long_is_left_to_the_caller(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    proxy.faults += [Refuse(429, {"Retry-After": "3600"}, "too_many_requests")]
    with pytest.raises(ApiError) as caught:
        await client.nodes.list().whole()
    assert (caught.value.retry_after_s, len(proxy.seen)) == (3600.0, 1)


async def test_what_may_have_been_written_is_not_written_again(
    client: PenstockClient, proxy: FlakyProxy
) -> None:
    proxy.faults += [Refuse(503, {}, "nats_timeout")]
    with pytest.raises(ApiError) as caught:
        await client.endpoints.create(ECHO)
    assert (caught.value.reason, len(proxy.seen)) == ("nats_timeout", 1)
    proxy.faults += [Refuse(503, {}, "nats_timeout")]
    assert (await client.endpoints.list().whole()).endpoints == ()


async def test_nothing_is_sent_again_where_that_is_the_policy(proxy: FlakyProxy) -> None:
    proxy.faults += [CUT]
    async with PenstockClient(proxy.url, ADMIN_KEY, retry=NEVER) as client:
        with pytest.raises(UnreachableError):
            await client.nodes.show("node-a")
    assert len(proxy.seen) == 1
