"""Nodes as a person reads them."""

from datetime import UTC, datetime

import pytest

from penstock_cli.output.nodes import drain_progress, print_node, print_nodes
from penstock_client.documents import (
    EngineProblemDocument,
    NodeDetail,
    NodeDocument,
    NodeOrderDocument,
)
from penstock_common.states import NodeState, NodeWish

ORDER = NodeOrderDocument(
    wish=NodeWish.DRAINING,
    reason="fan\x1b",
    at=datetime(2030, 1, 1, tzinfo=UTC),
    deadline_at=None,
)
#: Of a lost node only its order is known.
LOST = dict.fromkeys(NodeDocument.model_fields) | {
    "id": "node-a",
    "state": NodeState.LOST,
    "order": ORDER,
    "gpus": (),
    "gpus_total": 0,
    "gpus_free": 0,
    "static_gpus": False,
    "labels": {},
    "volume_paths": (),
    "volume_kinds": (),
    "workers": (),
}


def test_a_lost_node_shows_its_order_and_nothing_that_nobody_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = NodeDetail.model_validate({**LOST, "worker_details": ()})
    print_node(node, {})
    out = capsys.readouterr().out
    assert "lost (fan" in out
    assert "\x1b" not in out
    assert "draining since 2030-01-01 00:00:00 UTC" in out
    assert "None" not in out
    print_nodes([node])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["node-a", "lost"]
    assert drain_progress(node, ()) == "node-a is lost: no workers"


@pytest.mark.parametrize(
    ("full", "says"),
    [
        (False, "node-a: engine away since 2030-01-01 00:00:00 UTC: refused"),
        (True, "node-a: engine full since 2030-01-01 00:00:00 UTC: refused"),
    ],
)
def test_an_engine_in_trouble_has_a_line(
    full: bool, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    since = datetime(2030, 1, 1, tzinfo=UTC)
    problem = EngineProblemDocument(message="refused", since=since, full=full)
    node = NodeDetail.model_validate({**LOST, "engine_problem": problem, "worker_details": ()})
    print_nodes([node])
    assert capsys.readouterr().out.splitlines()[-1] == says
    print_node(node, {})
    assert says in capsys.readouterr().out
