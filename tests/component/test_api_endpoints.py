"""Endpoints over HTTP: their whole life, with a real nats-server behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.messages import EndpointRecord, QueueReport, WorkerLoad
from penstock_common.nats.kv import Bucket
from penstock_common.sketch import quantile
from penstock_common.states import EndpointReason, EndpointState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def test_an_endpoint_is_made_shown_and_listed(api: ApiServer) -> None:
    answer = await api.ask("POST", "/v1/endpoints", {"image": {"image": "acme/echo:1"}})
    made = answer.document
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/endpoints/{made['id']}"
    assert made["app_name"].startswith("echo-")
    assert made["name"] == made["app_name"]
    assert made["url"] == f"http://router.test:8080/{made['app_name']}"
    assert (made["state"], made["revision"], made["workers_running"]) == ("deploying", 1, 0)

    assert await api.show(made["id"]) == made
    assert await api.show(made["app_name"]) == made
    second = await api.create("second")
    listed = (await api.ask("GET", "/v1/endpoints")).document
    assert [e["id"] for e in listed["endpoints"]] == [made["id"], second["id"]]

    record = await api.record(made["id"])
    assert (record.endpoint_id, record.revision, record.paused) == (made["id"], 1, False)


async def test_secrets_are_sealed_in_kv_and_shown_by_name(api: ApiServer) -> None:
    made = await api.create(secrets={"TOKEN": "s3cret", "OTHER": "0ther"})
    assert made["secrets"] == ["OTHER", "TOKEN"]
    entry = await Bucket(api.bus, subjects.ENDPOINTS).get(made["id"])
    assert entry is not None
    assert b"s3cret" not in entry.value
    sealed = EndpointRecord.decode(entry.value).spec.secrets
    assert api.sealer.open(sealed) == {"TOKEN": "s3cret", "OTHER": "0ther"}

    patch = {"secrets": {"TOKEN": None, "NEW": "n3w"}}
    patched = await api.ask("PATCH", "/v1/endpoints/echo", patch)
    assert patched.document["secrets"] == ["NEW", "OTHER"]
    assert patched.document["revision"] == 2
    after = (await api.record(made["id"])).spec.secrets
    assert after["OTHER"] == sealed["OTHER"]
    assert api.sealer.open(after) == {"NEW": "n3w", "OTHER": "0ther"}


async def test_every_error_of_a_document_is_told_at_once(api: ApiServer) -> None:
    answer = await api.ask(
        "POST",
        "/v1/endpoints",
        {"image": {"http_prot": 1}, "workers": {"min": 2, "max": 1}, "gpu": {"count": "many"}},
    )
    assert answer.status == 422
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.document
    assert (problem["reason"], problem["status"]) == ("invalid_document", 422)
    told = {e["pointer"]: e["message"] for e in problem["errors"]}
    assert told.keys() == {"/image/http_prot", "/workers", "/gpu/count"}
    assert "did you mean 'http_port'" in told["/image/http_prot"]
    assert (await api.ask("GET", "/v1/endpoints")).document == {
        "endpoints": [],
        "next_cursor": None,
    }


async def test_an_app_name_is_unique_also_among_concurrent_creates(api: ApiServer) -> None:
    document = {"app_name": "echo", "image": {"image": "acme/echo"}}
    answers = await asyncio.gather(*(api.ask("POST", "/v1/endpoints", document) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    refused = next(answer.document for answer in answers if answer.status == 409)
    assert refused["reason"] == "app_name_taken"
    other = await api.create("other")
    renamed = await api.ask("PATCH", f"/v1/endpoints/{other['id']}", {"app_name": "echo"})
    assert (renamed.status, renamed.document["reason"]) == (409, "app_name_taken")
    assert (await api.ask("PATCH", "/v1/endpoints/other", {"app_name": "third"})).status == 200
    assert (await api.show("third"))["id"] == other["id"]
    assert (await api.create("other"))["id"] != other["id"]


async def test_a_patch_makes_a_revision_only_of_what_runs(api: ApiServer) -> None:
    made = await api.create()

    async def patch(document: object) -> dict[str, Any]:
        answer = await api.ask(
            "PATCH",
            "/v1/endpoints/echo",
            document,
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert answer.status == 200, answer
        changed: dict[str, Any] = answer.document
        return changed

    scaled = await patch({"workers": {"max": 9}})
    assert (scaled["revision"], scaled["workers"]["max"]) == (1, 9)
    assert scaled["updated_at"] > made["updated_at"]
    again = await patch({"workers": {"max": 9}})
    assert again == scaled
    newer = await patch({"env": {"A": "1"}})
    assert newer["revision"] == 2
    assert (await patch({"workers": None}))["workers"]["max"] == 3


async def test_concurrent_patches_are_all_kept(api: ApiServer) -> None:
    await api.create()
    answers = await asyncio.gather(
        *(api.ask("PATCH", "/v1/endpoints/echo", {"env": {f"N{n}": "1"}}) for n in range(20))
    )
    assert {answer.status for answer in answers} == {200}
    shown = await api.show("echo")
    assert shown["env"] == {f"N{n}": "1" for n in range(20)}
    assert shown["revision"] == 21


async def test_a_patch_that_loses_a_race_to_another_process_is_made_again(
    api: ApiServer, nats_server: NatsServer
) -> None:
    await api.create()
    async with running_api(nats_server, api.folder) as other:
        await other.show("echo")
        answers = await asyncio.gather(
            *(
                server.ask("PATCH", "/v1/endpoints/echo", {"env": {f"{name}{n}": "1"}})
                for name, server in (("A", api), ("B", other))
                for n in range(10)
            )
        )
        assert {answer.status for answer in answers} == {200}
        env = {f"{name}{n}": "1" for name in "AB" for n in range(10)}
        await api.becomes("echo", env=env, revision=21)
        await other.becomes("echo", env=env, revision=21)


async def test_pause_and_resume(api: ApiServer) -> None:
    made = await api.create()
    await api.say(made["id"], EndpointState.SERVING)
    await api.becomes("echo", state="serving")
    paused = await api.ask("POST", "/v1/endpoints/echo/pause")
    assert (paused.status, paused.document["state"]) == (200, "paused")
    assert (await api.ask("POST", "/v1/endpoints/echo/pause")).document == paused.document
    assert (await api.record(made["id"])).paused
    await api.say(made["id"], EndpointState.PAUSED)
    resumed = await api.ask("POST", "/v1/endpoints/echo/resume")
    assert resumed.status == 200
    await api.becomes("echo", state="deploying")
    assert not (await api.record(made["id"])).paused


async def test_a_deleted_endpoint_stays_until_nothing_of_it_runs(api: ApiServer) -> None:
    made = await api.create()
    deleted = await api.ask("DELETE", "/v1/endpoints/echo")
    assert (deleted.status, deleted.document["state"]) == (202, "deleting")
    again = await api.ask("DELETE", f"/v1/endpoints/{made['id']}")
    assert (again.status, again.document) == (202, deleted.document)
    for method, path in (("PATCH", ""), ("POST", "/pause"), ("POST", "/resume")):
        refused = await api.ask(method, f"/v1/endpoints/echo{path}", {})
        assert (refused.status, refused.document["reason"]) == (409, "endpoint_deleting")
    taken = await api.ask(
        "POST", "/v1/endpoints", {"app_name": "echo", "image": {"image": "acme/echo"}}
    )
    assert taken.status == 409

    await api.say(made["id"], EndpointState.DELETING)

    async def is_gone() -> bool:
        return (await api.ask("GET", "/v1/endpoints/echo")).status == 404

    await eventually(is_gone)
    gone = await api.ask("DELETE", f"/v1/endpoints/{made['id']}")
    assert (gone.status, gone.document["reason"]) == (404, "endpoint_not_found")
    assert (await api.create())["id"] != made["id"]


async def test_the_status_of_the_scheduler_and_the_load_of_the_routers_are_shown(
    api: ApiServer,
) -> None:
    made = await api.create()
    await api.say(
        made["id"],
        EndpointState.FAILED,
        reason=EndpointReason.CRASH_BACKOFF,
        message="exited with 7; next try in 4 s",
        exit_code=7,
        log_tail=("no model here",),
        workers_starting=1,
        desired_workers=2,
    )
    shown = await api.becomes("echo", state="failed")
    assert (shown["reason"], shown["exit_code"]) == ("crash_backoff", 7)
    assert (shown["workers_starting"], shown["workers_desired"]) == (1, 2)
    assert shown["log_tail"] == ["no model here"]

    reports = [
        QueueReport(
            router_id=router,
            endpoint_id=made["id"],
            sent_at=CLOCK.utc(),
            waiting=waiting,
            oldest_wait_s=waiting / 10,
            in_flight=1,
            arrivals_total=9,
            completions_total=1,
            service_times=((waiting, 1.0),),
            workers=(
                WorkerLoad(
                    worker_id="wk-1",
                    in_flight=1,
                    accepting=True,
                    idle_s=0,
                    assignment_revision=1,
                ),
            ),
        )
        for router, waiting in (("rt-1", 3), ("rt-2", 4))
    ]

    async def load() -> dict[str, Any] | None:
        # Again each time: an old report counts no more.
        for data in (*(report.encode() for report in reports), b"no report"):
            await api.bus.publish(subjects.queue_metrics(made["id"]), data)
        told: dict[str, Any] = (await api.show("echo"))["load"]
        return told if told["waiting"] == 7 else None

    assert await eventually(load) == {
        "waiting": 7,
        "in_flight": 2,
        "oldest_wait_s": 0.4,
        # one request in each of two buckets
        "service_p50_s": quantile(((3, 1.0),), 1),
        "service_p95_s": quantile(((4, 1.0),), 1),
        "service_p99_s": quantile(((4, 1.0),), 1),
        "first_byte_p50_s": None,
        "first_byte_p95_s": None,
        "arrivals_per_s": 0.0,  # a first report says nothing of how fast they came
    }
