"""Orders to stop workers: what a request makes of them, and when they go."""

from datetime import UTC, datetime, timedelta

from penstock_api.worker_orders import KEPT_S, carried_out, plan_stop
from penstock_client.documents import StopRequest
from penstock_common.messages import WorkerAssignment, WorkerOrder
from penstock_common.specs import parse_endpoint

AT = datetime(2030, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=60)
WORKER = WorkerAssignment(
    worker_id="wk-1",
    node_id="node-a",
    endpoint_id="ep-1",
    revision=1,
    spec=parse_endpoint({"name": "n", "app_name": "a", "image": {"command": "x"}}),
    fencing_token=1,
    decided_at=AT,
    assigned_at=AT,
)


def plan(old: WorkerOrder | None = None, *, now: datetime = AT, **fields: object) -> WorkerOrder:
    return plan_stop(WORKER, old, StopRequest.model_validate(fields), now=now)


def test_an_order_names_its_worker_and_says_since_when_why_and_until_when() -> None:
    assert plan(reason="hangs", deadline_s=30) == WorkerOrder(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id="ep-1",
        reason="hangs",
        at=AT,
        deadline_at=AT + timedelta(seconds=30),
    )
    assert plan().deadline_at is None


def test_a_repeated_order_changes_what_it_says_and_nothing_else() -> None:
    first = plan(reason="hangs", deadline_s=30)
    assert plan(first, now=LATER) is first
    sooner = plan(first, now=LATER, deadline_s=0)
    assert (sooner.at, sooner.reason, sooner.deadline_at) == (AT, "hangs", LATER)
    assert plan(sooner, now=LATER, deadline_s=None).deadline_at is None


def test_an_order_goes_with_its_worker_but_not_at_once() -> None:
    orders = {"node-a.wk-1": plan()}
    kept = AT + timedelta(seconds=KEPT_S)
    assert carried_out(orders, lambda _: True, now=LATER) == []
    assert carried_out(orders, lambda _: False, now=kept - timedelta(seconds=1)) == []
    assert carried_out(orders, lambda _: False, now=kept) == ["node-a.wk-1"]
