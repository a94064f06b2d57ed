"""Revisions: what is filed, what differs, what a rollback changes and when one is made."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock_api.endpoint_changes import EndpointDeletingError, plan_change, plan_creation
from penstock_api.revisions import (
    KEPT,
    RevisionNotFoundError,
    outdated,
    plan_retreat,
    plan_rollback,
    present_revision,
    previous_revision,
    revision_documents,
)
from penstock_common.messages import EndpointRecord, EndpointStatus, RevisionRecord
from penstock_common.states import EndpointState

MADE = datetime(2030, 1, 1, tzinfo=UTC)
LATER = MADE + timedelta(hours=1)
Filed = dict[int, RevisionRecord]


def make() -> EndpointRecord:
    document = {"app_name": "echo", "image": {"image": "echo:1"}, "secrets": {"TOKEN": "one"}}
    return plan_creation(document, endpoint_id="ep-1", suffix="x", seal=dict, now=MADE)


def change(record: EndpointRecord, filed: Filed, **patch: Any) -> EndpointRecord:
    filed[record.revision] = present_revision(record)
    return plan_change(record, patch, seal=dict, now=LATER)


def status(record: EndpointRecord, **values: Any) -> EndpointStatus:
    fields = {
        "endpoint_id": record.endpoint_id,
        "state": EndpointState.UPDATING,
        "revision": record.revision,
        "message": "exit code 1",
        "fencing_token": 1,
        "updated_at": LATER,
    }
    return EndpointStatus.model_validate({**fields, **values})


def test_going_back_changes_what_runs_and_nothing_else() -> None:
    filed: Filed = {}
    first = make()
    second = change(first, filed, image={"image": "echo:2"}, workers={"start_timeout_s": 5})
    limits = plan_change(second, {"workers": {"max": 7}}, seal=dict, now=LATER)
    back = plan_rollback(limits, filed[1], why=None, now=LATER)
    assert (back.revision, back.revision_cause, back.same_as) == (3, "rolled_back", (1,))
    assert back.spec.image.image == "echo:1"
    assert back.spec.workers.start_timeout_s == first.spec.workers.start_timeout_s
    assert back.spec.workers.max == 7
    assert back.runs(1)
    assert not back.runs(2)


def test_what_is_the_same_is_known_through_several_rollbacks() -> None:
    filed: Filed = {}
    second = change(make(), filed, env={"A": "1"})
    filed[2] = present_revision(second)
    third = plan_rollback(second, filed[1], why=None, now=LATER)
    fourth = change(third, filed, env={"A": "2"})
    filed[4] = present_revision(fourth)
    fifth = plan_rollback(fourth, filed[3], why=None, now=LATER)
    assert fifth.same_as == (3, 1)
    assert plan_rollback(fifth, filed[1], why=None, now=LATER) is fifth
    assert previous_revision(fifth, filed) == 4


def test_a_change_after_a_rollback_is_the_same_as_nothing() -> None:
    filed: Filed = {}
    second = change(make(), filed, env={"A": "1"})
    back = plan_rollback(second, filed[1], why="it failed", now=LATER)
    after = plan_change(back, {"env": {"A": "3"}}, seal=dict, now=LATER)
    assert (after.same_as, after.revision_why, after.revision_cause) == ((), None, "updated")


def test_the_judgement_counts_only_for_the_revision_it_was_made_of() -> None:
    filed: Filed = {}
    second = change(make(), filed, env={"A": "1"})
    judged = status(second, failed_revision=2, good_revision=1)
    back = plan_retreat(second, judged, filed, now=LATER)
    why = "revision 2 could not start, went back to revision 1: exit code 1"
    assert (back.revision, back.revision_why) == (3, why)
    assert plan_retreat(back, judged, filed, now=LATER) is back
    third = change(second, filed, env={"A": "2"})
    assert plan_retreat(third, judged, filed, now=LATER) is third
    assert plan_retreat(second, judged, {}, now=LATER) is second
    paused = second.model_copy(update={"paused": True})
    assert plan_retreat(paused, judged, filed, now=LATER) is paused


def test_one_that_is_being_deleted_does_not_go_back() -> None:
    filed: Filed = {}
    second = change(make(), filed, env={"A": "1"})
    deleted = second.model_copy(update={"deleted_at": LATER})
    with pytest.raises(EndpointDeletingError):
        plan_rollback(deleted, filed[1], why=None, now=LATER)


def test_without_an_earlier_revision_there_is_no_way_back() -> None:
    with pytest.raises(RevisionNotFoundError):
        previous_revision(make(), {})


def test_the_list_shows_differences_and_no_secret() -> None:
    filed: Filed = {}
    second = change(make(), filed, env={"A_B": "1"}, secrets={"TOKEN": "two"})
    newest, oldest = revision_documents(second, filed)
    assert [(c.pointer, c.before, c.after) for c in newest.changes or ()] == [
        ("/env/A_B", None, "1"),
        ("/secrets/TOKEN", "(hidden)", "(hidden)"),
    ]
    assert (newest.present, newest.cause, newest.created_at) == (True, "updated", LATER)
    assert (oldest.present, oldest.cause, oldest.created_at) == (False, "created", MADE)
    assert oldest.changes is None


def test_twenty_are_kept_with_the_present_one() -> None:
    filed: Filed = {}
    record = make()
    for number in range(KEPT + 4):
        record = change(record, filed, env={"N": str(number)})
        for gone in outdated(record, [*filed]):
            del filed[gone]
        assert len(revision_documents(record, filed)) == min(number + 2, KEPT)
    assert len(filed) == KEPT - 1
