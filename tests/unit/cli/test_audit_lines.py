"""A record of the audit trail in one line."""

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock_cli.output.audit import record_line
from penstock_client.documents import AuditGapDocument, AuditRecordDocument

RECORD: dict[str, Any] = {
    "id": "au-1",
    "at": datetime(2030, 1, 1, 12, tzinfo=UTC),
    "last_at": datetime(2030, 1, 1, 12, tzinfo=UTC),
    "count": 1,
    "request_id": "req-1",
    "key_id": "key-1",
    "key_name": "ours",
    "source": "10.0.0.7",
    "forwarded_for": "",
    "action": "endpoints_update",
    "route": "PATCH /v1/endpoints/{endpoint}",
    "targets": [{"kind": "endpoint", "id": "ep-1", "name": "echo"}],
    "status": 200,
    "reason": "",
    "why": "",
    "changes": [{"target": "ep-1", "pointer": "/revision", "before": 1, "after": 2}],
    "changes_left_out": 0,
}
OWN = {
    "key_id": "scheduler",
    "key_name": "",
    "source": "",
    "action": "endpoints_roll_back",
    "why": "revision 2 could not start",
}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "ours endpoints_update echo 200 /revision 1 → 2 from 10.0.0.7"),
        ({"status": None, "changes": []}, "ours endpoints_update echo attempted from 10.0.0.7"),
        (
            {"status": 401, "reason": "unauthorized", "key_id": None, "key_name": "", "count": 7}
            | {"targets": [], "changes": [], "source": ""},
            "nobody endpoints_update - 401 unauthorized (7 times)",
        ),
        (
            OWN,
            "scheduler endpoints_roll_back echo done revision 2 could not start; /revision 1 → 2",
        ),
        (
            OWN | {"status": 409, "reason": "overtaken", "changes": []},
            "scheduler endpoints_roll_back echo 409 overtaken revision 2 could not start",
        ),
        ({"key_name": "a\x1b[2Jb"}, None),
    ],
)
def test_a_record_is_a_line(fields: dict[str, Any], told: str | None) -> None:
    line = record_line(AuditRecordDocument.of(RECORD | fields), colours=False)
    assert "\x1b" not in line
    assert "\n" not in line
    if told is not None:
        assert " ".join(line.split()) == f"2030-01-01 12:00:00Z {told}"


def test_what_is_missing_is_a_line_too() -> None:
    gap = AuditGapDocument(first=1, last=2, why="expired")
    assert record_line(gap, colours=False) == gap.sentence
