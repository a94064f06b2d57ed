"""Events as a person reads them, and the instants that one writes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock_cli.input.instants import parse_instant
from penstock_cli.output.event_lines import EventPrinter
from penstock_cli.output.event_sentences import sentence
from penstock_client.documents import EventDocument, EventGapDocument
from penstock_common.events.catalogue import CATALOGUE
from penstock_common.events.examples import AT, ENDPOINT_ID, EXAMPLES

NAMES = {ENDPOINT_ID: "llama"}
WORKER = "wk-0r9t4c6h1n2pz of llama"
SENTENCES = {
    "penstock.endpoint.created": "llama is created: vllm/vllm-openai:v0.9",
    "penstock.endpoint.updated": "llama is updated: revision 2",
    "penstock.endpoint.rolled_back": (
        "llama is rolled back by revision 3: revision 2 could not start: exit code 1"
    ),
    "penstock.endpoint.paused": "llama is paused",
    "penstock.endpoint.resumed": "llama is resumed",
    "penstock.endpoint.deleted": "llama is being deleted",
    "penstock.scale.decided": "llama 0 → 1 workers: 1 waiting, oldest 0.5 s, none running",
    "penstock.worker.assigned": f"{WORKER} is to start on node-a with 1 GPU",
    "penstock.worker.running": f"{WORKER} runs on node-a after 18.0 s",
    "penstock.worker.draining": f"{WORKER} drains (idle)",
    "penstock.worker.stopped": f"{WORKER} has stopped (idle)",
    "penstock.worker.stop_ordered": f"{WORKER} is ordered to stop: answers slowly",
    "penstock.worker.failed": f"{WORKER} has failed (exited): exit code 1",
    "penstock.node.joined": "node-a has joined: 1 x rtx-4090-24gb",
    "penstock.node.restarting": "node-a restarts its agent, and its workers run on",
    "penstock.node.left": "node-a has left",
    "penstock.node.lost": "node-a is lost with 2 workers",
    "penstock.node.cordoned": "node-a takes no new worker: new fan",
    "penstock.node.uncordoned": "node-a takes workers again",
    "penstock.node.draining": "node-a is to be empty: new fan",
    "penstock.node.drained": "node-a is empty",
    "penstock.node.engine_lost": "node-a has trouble with its engine: no answer within 10 s",
    "penstock.node.engine_found": "node-a has its engine back",
    "penstock.node.gpu_unhealthy": (
        "node-a has a bad GPU, rtx-4090-24gb GPU-1: the driver told XID 79"
    ),
    "penstock.node.gpu_healthy": "node-a has its GPU GPU-1 back, rtx-4090-24gb",
    "penstock.node.image_removed": ("node-a removed the image vllm/vllm-openai:v0.8, 9.7 GB"),
}


def document(name: str, data: Any = None, **update: Any) -> EventDocument:
    event = CATALOGUE[name].of(EXAMPLES[name])
    return EventDocument.of(
        {
            "specversion": "1.0",
            "id": "ev-1",
            "source": "/penstock/api",
            "type": name,
            "subject": event.about,
            "time": AT.isoformat(),
            **event.extensions,
            "data": event.data.model_dump(mode="json") if data is None else data,
            **update,
        }
    )


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_event_is_told_in_a_sentence(name: str) -> None:
    assert sentence(document(name), NAMES) == SENTENCES[name]


def test_a_canary_is_told_with_its_share() -> None:
    name = "penstock.endpoint.updated"
    data = EXAMPLES[name].model_copy(update={"canary_percent": 10, "stable_revision": 1})
    assert sentence(document(name, data.model_dump(mode="json")), NAMES) == (
        "llama is updated: revision 2 is a canary with 10 % of the requests"
    )


def test_an_update_that_changes_nothing_of_what_runs_says_so() -> None:
    name = "penstock.endpoint.updated"
    later = AT + timedelta(hours=1)
    data = EXAMPLES[name].model_copy(update={"updated_at": later})
    assert sentence(document(name, data.model_dump(mode="json")), NAMES) == (
        "llama is updated, and runs on as revision 2"
    )


def test_of_what_another_penstock_tells_its_subject_is_shown() -> None:
    assert sentence(document("penstock.node.lost", {"other": 1}), {}) == "node-a"
    newer = document("penstock.node.lost").model_copy(update={"type": "penstock.job.done"})
    assert sentence(newer, {}) == "node-a"


def test_a_line_has_time_type_and_sentence_and_no_colour_when_piped() -> None:
    printer = EventPrinter(colours=False, names=NAMES)
    assert printer.text(document("penstock.node.drained")) == (
        "2026-03-01 09:30:00Z  node.drained          node-a is empty"
    )


def test_names_of_endpoints_are_learnt_from_their_events() -> None:
    printer = EventPrinter(colours=False, names={})
    assert ENDPOINT_ID in printer.text(document("penstock.worker.draining"))
    printer.text(document("penstock.endpoint.updated"))
    assert printer.text(document("penstock.worker.draining")).endswith(f"{WORKER} drains (idle)")


def test_on_a_terminal_what_happened_has_a_colour_and_controls_do_not_get_there() -> None:
    data = EXAMPLES["penstock.worker.failed"].model_copy(update={"message": "\x1b[2J"})
    told = document("penstock.worker.failed", data.model_dump(mode="json"))
    text = EventPrinter(colours=True, names=NAMES).text(told)
    assert "\x1b[31mworker.failed" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(
    ("why", "told"), [("expired", "older than what is kept"), ("renewed", "made anew")]
)
def test_what_is_missing_is_said(why: str, told: str) -> None:
    gap = EventGapDocument.of({"first": 2, "last": 3, "why": why})
    assert told in EventPrinter(colours=False, names={}).text(gap)


NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("2030-01-31", NOW.replace(hour=0)),
        ("2030-01-31T12:00:00Z", NOW),
        ("2030-01-31T13:00:00+01:00", NOW),
    ],
)
def test_an_instant_is_so_long_ago_a_date_or_rfc_3339(text: str, instant: datetime) -> None:
    assert parse_instant(text, NOW) == instant


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "yesterday", "2030-01-31T12:00:00"])
def test_what_is_no_instant_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="write how long ago"):
        parse_instant(text, NOW)
