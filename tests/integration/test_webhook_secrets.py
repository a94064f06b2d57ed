"""A webhook's secret is shown once, and an endpoint's secrets go out with no event."""

import asyncio
import json
import logging
import uuid
from pathlib import Path

import pytest

from penstock_api.webhooks.signing import key_of
from penstock_common import subjects
from tests.integration.test_secrets_stay_inside import stored_bytes
from tests.support.api_server import eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.webhook_receiver import running_receiver

pytestmark = [pytest.mark.nats, pytest.mark.slow]

CANARY = f"canary-secret-{uuid.uuid4().hex}"
TOKEN = f"canary-token-{uuid.uuid4().hex}"


async def test_secrets_stay_inside(
    nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {"webhook_allowed_networks": "127.0.0.1/32", "webhook_retry_s": 0.05}
    async with (
        running_receiver() as receiver,
        running_api(nats_server, tmp_path / "api", **settings) as api,
    ):
        told = await api.listen(f"{subjects.PREFIX}.>")
        # Answers to a POST that may be sent again are stored.
        again = {"Idempotency-Key": str(uuid.uuid4())}
        document = {"url": f"{receiver.url}/?token={TOKEN}"}
        made = await api.ask("POST", "/v1/webhooks", document, headers=again)
        path = f"/v1/webhooks/{made.document['id']}"
        rotated = await api.ask("POST", f"{path}/rotate-secret", headers=again)
        secrets = [made.document["secret"], rotated.document["secret"]]
        receiver.answer(500, 500)
        created = await api.create("echo", secrets={"PASSWORD": CANARY})
        await receiver.until(3)
        wrong = {"url": f"https://user:{TOKEN}@example.com/"}
        refused = await api.ask("POST", "/v1/webhooks", wrong)
        assert refused.status == 422

        async def all_is_delivered() -> bool:
            answer = await api.ask("GET", f"{path}/deliveries?state=delivered")
            return bool(answer.document["deliveries"])

        await eventually(all_is_delivered)
        one = f"{path}/deliveries/{receiver.taken[0].id}"
        pages = [
            await api.ask("GET", page) for page in (path, "/v1/webhooks", f"{path}/deliveries", one)
        ]
        said = [json.dumps(page.document) for page in pages] + [json.dumps(created)]
        sent = [str((one.headers, one.body)) for one in receiver.taken]
        messages = [str((m.subject, m.data, m.headers)) for m in told]
        assert "PASSWORD" in sent[0]
    logged = [str(vars(entry)) for entry in caplog.records]
    assert any("delivery_attempted" in line for line in logged)
    for secret in secrets:
        for place in (*said, *sent, *messages, *logged):
            assert secret not in place
            assert str(key_of(secret)) not in place
    for place in (*sent, *messages, *logged):
        assert CANARY not in place
    assert not [line for line in (*logged, json.dumps(refused.document)) if TOKEN in line]
    stored = await asyncio.to_thread(stored_bytes, nats_server)
    for hidden in (CANARY, *secrets):
        assert hidden.encode() not in stored
    assert b"PASSWORD" in stored, "streams and buckets are searched as they lie on the disk"
