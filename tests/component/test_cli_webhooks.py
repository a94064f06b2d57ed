"""`penstock webhook` against a real api and a real receiver."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.component.test_cli_commands import Penstock
from tests.support.api_server import running_api
from tests.support.nats_server import NatsServer
from tests.support.webhook_receiver import Receiver, running_receiver

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as server:
        yield server


@pytest.fixture
async def penstock(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Penstock]:
    folder = tmp_path / "cwd"
    folder.mkdir()
    settings = {"webhook_allowed_networks": "127.0.0.1/32", "webhook_retry_s": 3600}
    async with running_api(nats_server, tmp_path / "api", **settings) as api:
        yield Penstock(api, folder)


async def test_a_webhook_lives_its_life(penstock: Penstock, receiver: Receiver) -> None:
    made = await penstock("webhook", "create", receiver.url, "--type", "penstock.endpoint.")
    assert (made.code, made.err) == (0, "")
    told, secret = made.out.splitlines()
    webhook = told.split()[1].rstrip(";")

    tested = await penstock("webhook", "test", webhook)
    assert (tested.code, tested.err, tested.out[:13]) == (0, "", "delivered ev-")
    assert receiver.taken[0].signed_with(secret)
    receiver.answer(500, text="out of\torder")
    failed = await penstock("webhook", "test", webhook)
    assert (failed.code, "the receiver answered 500" in failed.err) == (1, True)
    event_id = receiver.taken[1].id

    again = await penstock("webhook", "redeliver", webhook, event_id)
    assert again.out.startswith(f"delivered {event_id} in ")
    table = (await penstock("webhook", "deliveries", webhook)).out.splitlines()
    assert [line.split()[-4:] for line in table[1:]] == [["delivered", n, "200", "-"] for n in "21"]
    detail = (await penstock("webhook", "deliveries", webhook, event_id)).out
    assert "out of order" in detail
    assert '"type": "penstock.webhook.test"' in detail

    off = await penstock("webhook", "update", webhook, "--disable", "--description", "ours")
    assert off.out == f"updated {webhook}\n"
    listed = (await penstock("webhook", "list")).out.splitlines()
    assert listed[1].split() == [
        webhook,
        "disabled",
        "0",
        "penstock.endpoint.",
        "any",
        receiver.url,
    ]
    assert (await penstock("webhook", "delete", webhook)).out == f"deleted {webhook}\n"


async def test_what_is_wrong_is_said(penstock: Penstock) -> None:
    inside = await penstock("webhook", "create", "http://10.0.0.1/hook", "--type", "penstock.wrong")
    assert inside.code == 1
    assert "url: no address that webhooks may be sent to" in inside.err
    assert "event_types.0: no event is of the type 'penstock.wrong'" in inside.err
    nothing = await penstock("webhook", "update", "wh-1")
    assert (nothing.code, "nothing to change" in nothing.err) == (2, True)
