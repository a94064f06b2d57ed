"""docs/webhooks.md says what the code does: its snippet verifies what a receiver really gets."""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_api.settings import ApiSettings
from penstock_api.webhooks.changes import MAX_WEBHOOKS
from penstock_api.webhooks.deliveries import KEPT
from penstock_api.webhooks.pace import CONCURRENCY, FAILING_AFTER
from penstock_api.webhooks.schedule import RetrySchedule
from penstock_api.webhooks.sender import RESPONSE_CHARACTERS
from tests.support.api_server import running_api
from tests.support.nats_server import NatsServer
from tests.support.webhook_receiver import running_receiver

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()


def documented_verify() -> Callable[..., bool]:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(textwrap.dedent(snippet), scope)
    verify: Callable[..., bool] = scope["verify"]
    return verify


@pytest.mark.nats
@pytest.mark.slow
async def test_the_snippet_verifies_a_delivery(nats_server: NatsServer, tmp_path: Path) -> None:
    verify = documented_verify()
    allowed = {"webhook_allowed_networks": "127.0.0.1/32"}
    async with (
        running_receiver() as receiver,
        running_api(nats_server, tmp_path / "api", **allowed) as api,
    ):
        made = (await api.ask("POST", "/v1/webhooks", {"url": receiver.url})).document
        rotated = await api.ask("POST", f"/v1/webhooks/{made['id']}/rotate-secret")
        await api.create("echo")
        (taken,) = await receiver.until(1)
    for secret in (made["secret"], rotated.document["secret"]):
        assert verify(secret, taken.headers, taken.body)
    assert not verify(made["secret"], taken.headers, taken.body + b" ")
    assert not verify("whsec_" + "A" * 44, taken.headers, taken.body)
    other_id = {**taken.headers, "webhook-id": "ev-other"}
    assert not verify(made["secret"], other_id, taken.body)
    assert not verify(made["secret"], taken.headers, taken.body, tolerance_s=-1)


def test_the_figures_stand_there() -> None:
    schedule, settings = RetrySchedule(), ApiSettings()
    assert f"or {schedule.attempts} attempts have" in PAGE
    assert f"with {schedule.attempts} attempts more" in PAGE
    assert f"the last {KEPT:,} deliveries" in PAGE
    assert f"first {RESPONSE_CHARACTERS} characters" in PAGE
    assert f"There may be {MAX_WEBHOOKS} webhooks" in PAGE
    assert f"`PENSTOCK_API_WEBHOOK_TIMEOUT_S` | {settings.webhook_timeout_s:g} |" in PAGE
    assert f"`PENSTOCK_API_WEBHOOK_RETRY_S` | {settings.webhook_retry_s:g} |" in PAGE
    assert (CONCURRENCY, FAILING_AFTER) == (8, 5), "eight at once, five in a row"
