"""What a caller of an endpoint is told when no worker answered."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_client.call_errors import (
    CallBrokenError,
    CallError,
    CallForbiddenError,
    CallRefusedError,
    EndpointClosedError,
    NoSlotError,
    QueueFullError,
    RouterBusyError,
    StartsFailError,
    UnknownEndpointError,
    WorkerFailedError,
    error_of,
    failure_of,
)
from penstock_client.retrying import Repeatable, RetryPolicy, decide_pause_s
from penstock_client.wire import Reply, WireError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PAGE = Path(__file__).parents[3] / "docs" / "router.md"

BY_STATUS: dict[int, tuple[type[CallError], ...]] = {
    401: (CallForbiddenError,),
    403: (CallForbiddenError,),
    404: (UnknownEndpointError,),
    429: (QueueFullError,),
    502: (WorkerFailedError,),
    503: (NoSlotError, StartsFailError, EndpointClosedError, RouterBusyError),
    504: (WorkerFailedError,),
}


def reply(status: int, reason: str, retry_after: str | None = None, **more: object) -> Reply:
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["retry-after"] = retry_after
    problem = {"title": "", "status": status, "detail": "told", "reason": reason, **more}
    return Reply(status, headers, json.dumps(problem).encode())


def documented() -> list[tuple[int, str]]:
    """(status, reason) of every row of the page's table of errors."""
    rows = []
    for line in PAGE.read_text().split("## When it does not work")[1].splitlines():
        if found := re.match(r"\| (\d{3}[\d, ]*) \| (.+?) \|", line):
            statuses = [int(status) for status in found[1].split(",")]
            rows += [(s, r) for s in statuses[:1] for r in re.findall("`(.+?)`", found[2])]
    return rows


def again(outcome: Reply | WireError, repeatable: Repeatable) -> bool:
    failure = failure_of(outcome, error_of(outcome, NOW))
    return (
        decide_pause_s(
            RetryPolicy(), failure, repeatable=repeatable, attempt=1, elapsed_s=0.0, ratio=0.5
        )
        is not None
    )


def test_every_reason_that_the_page_names_has_the_error_of_its_kind() -> None:
    rows = documented()
    assert len(rows) > 20
    for status, reason in rows:
        kinds = BY_STATUS.get(status, (CallRefusedError,))
        assert type(error_of(reply(status, reason), NOW)) in kinds, reason
    vague = [
        r for s, r in rows if s >= 500 and type(error_of(reply(s, r), NOW)) is CallRefusedError
    ]
    assert not vague


def test_an_error_carries_what_the_router_says_of_the_queue() -> None:
    error = error_of(reply(429, "queue_full", "2", queue_length=7, position=8), NOW)
    assert isinstance(error, QueueFullError)
    assert (error.status, error.reason, str(error)) == (429, "queue_full", "told")
    assert (error.problem.queue_length, error.problem.position) == (7, 8)
    assert error.retry_after_s == 2.0


@pytest.mark.parametrize(
    ("outcome", "if_harmful", "if_harmless"),
    [
        (reply(429, "queue_full", "2"), True, True),
        (reply(503, "no_capacity", "30"), True, True),
        (reply(503, "deleting"), False, False),
        (reply(502, "worker_unreachable"), True, True),
        (reply(502, "worker_disconnected"), False, True),
        (reply(504, "request_timeout"), False, True),
        (reply(404, "unknown_endpoint"), False, False),
        (Reply(502, {"content-type": "text/html"}, b"<html>"), False, True),
        (WireError("refused", sent=False), True, True),
        (WireError("reset", sent=True), False, True),
    ],
)
def test_a_request_is_sent_again_where_no_worker_has_seen_it(
    outcome: Reply | WireError, if_harmful: bool, if_harmless: bool
) -> None:
    assert again(outcome, Repeatable.NO) == if_harmful
    assert again(outcome, Repeatable.HARMLESS) == if_harmless


@given(st.integers(100, 599), st.binary(max_size=200), st.sampled_from(["text/html", ""]))
def test_what_is_no_router_is_said_to_be_none(status: int, body: bytes, kind: str) -> None:
    error = error_of(Reply(status, {"content-type": kind}, body), NOW)
    assert isinstance(error, CallBrokenError)
    assert str(status) in str(error)
