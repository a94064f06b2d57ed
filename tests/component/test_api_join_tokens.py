"""Join tokens over HTTP, and a node agent that joins by one; on a real nats-server."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from penstock_common import subjects
from penstock_common.join_tokens import JoinAnswer
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.messages import JoinTokenRecord
from penstock_common.nats.kv import Bucket
from penstock_node_agent.joining import CREDENTIALS_FILE, JoinFailedError, applied, join, joined
from penstock_node_agent.settings import Settings
from tests.fakes.clock import ManualClock
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = [pytest.mark.nats]
PATH = "/v1/join-tokens"
JOIN = "/v1/join"


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    password = tmp_path / "nats.node-agent.password"
    password.write_text("pass-of-nats\n")
    async with running_api(
        nats_server,
        tmp_path / "api",
        node_nats_url="nats://10.0.0.1:4222",
        node_nats_password_file=password,
    ) as server:
        yield server


async def make_token(api: ApiServer, **fields: Any) -> dict[str, Any]:
    answer = await api.ask("POST", PATH, fields)
    assert answer.status == 201, answer
    made: dict[str, Any] = answer.document
    return made


async def test_a_host_gets_with_a_token_what_an_agent_needs(api: ApiServer) -> None:
    made = await make_token(api, labels={"rack": "7"})
    token = made.pop("token")
    assert (await api.ask("GET", f"{PATH}/{made['id']}")).document == made
    entry = await Bucket(api.bus, subjects.JOIN_TOKENS).get(made["id"])
    assert entry is not None
    assert token.encode() not in entry.value
    let_in = await api.ask("POST", JOIN, {"hostname": "gpu-1"}, key=token)
    assert let_in.status == 200
    assert api.settings.secret_key_file is not None
    assert let_in.document == {
        "nats_url": "nats://10.0.0.1:4222",
        "nats_user": "node-agent",
        "nats_password": "pass-of-nats",
        "nats_tls_ca": "",
        "nats_replicas": 1,
        "secret_key": api.settings.secret_key_file.read_text().strip(),
        "labels": {"rack": "7"},
    }
    (listed,) = (await api.ask("GET", PATH)).document["join_tokens"]
    assert listed["uses"] == 1
    (host,) = listed["hosts"]
    assert (host["hostname"], host["address"]) == ("gpu-1", "127.0.0.1")
    again = await api.ask("POST", JOIN, {"token": token}, key=None)
    assert (again.status, again.document["reason"]) == (403, "join_token_used_up")
    (used, *_) = (
        await api.ask("GET", f"/v1/audit?key={made['id']}&action=join_tokens_join")
    ).document["records"][1:]
    assert used["status"] == 200
    assert {"/uses", "/hosts"} == {change["pointer"] for change in used["changes"]}
    assert token not in json.dumps(used)


async def test_of_many_that_use_a_single_token_at_once_one_joins(api: ApiServer) -> None:
    token = (await make_token(api, max_uses=2))["token"]
    answers = await asyncio.gather(*(api.ask("POST", JOIN, key=token) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 2 + [403] * 10


async def test_two_apis_count_a_token_together(
    api: ApiServer, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(
        nats_server, tmp_path / "api", node_nats_url="nats://10.0.0.1:4222"
    ) as other:
        for _ in range(5):
            token = (await make_token(api))["token"]

            async def known(token: str = token) -> bool:
                wrong = await other.ask("POST", JOIN, {"host": 1}, key=token)
                return wrong.status == 422

            await eventually(known)
            answers = await asyncio.gather(
                *(one.ask("POST", JOIN, key=token) for one in (api, other) for _ in range(3))
            )
            statuses = sorted(answer.status for answer in answers)
            # The other's table may be a moment behind: then it does not know the token yet.
            assert statuses.count(200) == 1, statuses
            assert set(statuses) <= {200, 401, 403}


async def test_a_stranger_learns_nothing_and_a_holder_what_is_wrong(api: ApiServer) -> None:
    made = await make_token(api)
    entry = await Bucket(api.bus, subjects.JOIN_TOKENS).get(made["id"])
    assert entry is not None
    record = JoinTokenRecord.decode(entry.value)
    past = record.model_copy(update={"expires_at": CLOCK.utc() - timedelta(hours=1)})
    await api.put(subjects.JOIN_TOKENS, made["id"], past)

    async def expired() -> bool:
        answer = await api.ask("POST", JOIN, key=made["token"])
        return bool(answer.document["reason"] == "join_token_expired")

    await eventually(expired)
    for token in ("guess", "pjt_guess", record.sha256, made["id"]):
        stranger = await api.ask("POST", JOIN, key=token)
        assert (stranger.status, stranger.document["reason"]) == (401, "unknown_join_token")
        assert stranger.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await api.ask("POST", JOIN, key=None)).status == 422
    assert (await api.ask("GET", "/v1/nodes", key=made["token"])).status == 401, "it is no API key"
    assert (await api.ask("DELETE", f"{PATH}/{made['id']}")).status == 200
    gone = await api.ask("POST", JOIN, key=made["token"])
    assert gone.document["reason"] == "unknown_join_token"
    assert (await api.ask("DELETE", f"{PATH}/{made['id']}")).status == 404

    other = await make_token(api)
    over = record.model_copy(
        update={"token_id": other["id"], "expires_at": CLOCK.utc() - timedelta(days=30)}
    )
    await api.put(subjects.JOIN_TOKENS, other["id"], over)

    async def removed() -> bool:
        return (await api.ask("GET", f"{PATH}/{other['id']}")).status == 404

    await eventually(removed)


async def test_who_guesses_is_slowed_down_and_stores_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(
        nats_server, tmp_path / "api", rate_limit_per_s=0.01, rate_limit_burst=5
    ) as api:
        headers = {"Idempotency-Key": "mine"}
        statuses = [
            (await api.ask("POST", JOIN, key="guess", headers=headers)).status for _ in range(8)
        ]
        assert statuses == [401] * 5 + [429] * 3
        info = await api.bus.api(f"STREAM.INFO.KV_{subjects.REPEATS}")
        assert info["state"]["messages"] == 0


async def test_without_an_address_of_nats_no_token_is_made(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "api") as api:
        answer = await api.ask("POST", PATH, {})
        assert (answer.status, answer.document["reason"]) == (409, "join_not_configured")
        assert "PENSTOCK_API_NODE_NATS_URL" in answer.document["detail"]
        key = (await api.ask("POST", "/v1/api-keys", {"name": "d", "scope": "deploy"})).document
        assert (await api.ask("POST", PATH, {}, key=key["key"])).status == 403


# ---- the agent's side


def agent(api: ApiServer, folder: Path, **settings: Any) -> Settings:
    values = {"data_dir": folder, "join_api_url": api.url, **settings}
    return Settings.model_validate(values)


async def test_an_agent_joins_once_and_keeps_what_it_got(api: ApiServer, tmp_path: Path) -> None:
    token = (await make_token(api, labels={"rack": "7", "zone": "a"}))["token"]
    folder = tmp_path / "node"
    settings = await joined(agent(api, folder, join_token=token, labels="zone=b"), CLOCK)
    file = folder / CREDENTIALS_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert (settings.nats_url, settings.nats_user) == ("nats://10.0.0.1:4222", "node-agent")
    assert settings.nats_password.get_secret_value() == "pass-of-nats"
    assert api.settings.secret_key_file is not None
    secret_key = api.settings.secret_key_file.read_text().strip()
    assert settings.secret_key.get_secret_value() == secret_key
    assert settings.labels == {"rack": "7", "zone": "b"}, "its own labels come first"
    for secret in (token, "pass-of-nats", secret_key):
        assert secret not in repr(settings)
    # Later starts: with the token used up, without one, and with settings of their own.
    assert await joined(agent(api, folder, join_token=token, labels="zone=b"), CLOCK) == settings
    assert (await joined(agent(api, folder), CLOCK)).nats_url == "nats://10.0.0.1:4222"
    own = await joined(agent(api, folder, nats_url="nats://10.0.0.9:4222"), CLOCK)
    assert (own.nats_url, own.nats_user) == ("nats://10.0.0.9:4222", "")
    file.chmod(0o644)
    with pytest.raises(MisconfiguredError, match="chmod 600"):
        await joined(agent(api, folder), CLOCK)
    file.chmod(0o600)
    file.write_text("{")
    with pytest.raises(MisconfiguredError, match="damaged"):
        await joined(agent(api, folder), CLOCK)

    with pytest.raises(MisconfiguredError, match="as often as it allows"):
        await joined(agent(api, tmp_path / "other", join_token=token), CLOCK)
    with pytest.raises(MisconfiguredError, match="has not joined"):
        await joined(agent(api, tmp_path / "other"), CLOCK)
    with pytest.raises(MisconfiguredError, match="begins with http"):
        await join(agent(api, tmp_path / "other", join_token=token, join_api_url="api"), CLOCK)
    with pytest.raises(MisconfiguredError, match="JOIN_API_URL"):
        await join(agent(api, tmp_path / "other", join_api_url=""), CLOCK)
    assert not (tmp_path / "other" / CREDENTIALS_FILE).exists()


async def test_a_token_is_not_used_up_where_nothing_can_be_kept(
    api: ApiServer, tmp_path: Path
) -> None:
    made = await make_token(api)
    (tmp_path / "file").touch()
    with pytest.raises(MisconfiguredError, match="cannot be written"):
        await join(agent(api, tmp_path / "file" / "node", join_token=made["token"]), CLOCK)
    assert (await api.ask("GET", f"{PATH}/{made['id']}")).document["uses"] == 0


async def test_an_answer_that_was_lost_is_given_again(api: ApiServer) -> None:
    made = await make_token(api)
    headers = {"Idempotency-Key": "one"}
    asked = [
        await api.ask("POST", JOIN, {"hostname": "h"}, key=made["token"], headers=headers)
        for _ in range(2)
    ]
    assert [answer.status for answer in asked] == [200, 200]
    assert asked[0].document == asked[1].document
    assert (await api.ask("GET", f"{PATH}/{made['id']}")).document["uses"] == 1


async def test_an_api_that_is_away_is_asked_for_a_while(tmp_path: Path, api: ApiServer) -> None:
    class Hurried(ManualClock):
        @override
        def monotonic(self) -> float:
            return self.advance(50)  # each look at the clock is so much later

    settings = agent(
        api, tmp_path / "n", join_api_url=f"http://127.0.0.1:{free_port()}", join_token="t"
    )
    with pytest.raises(JoinFailedError, match="cannot be reached"):
        await join(settings, Hurried())


def test_a_host_is_told_which_nats_to_trust() -> None:
    kept = JoinAnswer(
        nats_url="tls://10.0.0.1:4222",
        nats_user="node-agent",
        nats_password="pass-of-nats",
        nats_tls_ca="the api's",
        nats_replicas=3,
        secret_key="key",
        labels={},
    )
    assert applied(Settings(), kept).nats_tls_ca == "the api's"
    assert applied(Settings(nats_tls_ca="its own"), kept).nats_tls_ca == "its own"
    assert applied(Settings(nats_url="nats://10.0.0.9:4222"), kept).nats_tls_ca == ""
