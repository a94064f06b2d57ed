"""How changes that nobody asked for are named in the audit trail."""

from penstock_api.audit.own_changes import end_of_key, other_admin_key, retreat
from penstock_api.canaries import plan_abort
from penstock_common.events.catalogue import Service
from penstock_common.messages import ApiKeyRecord, Canary, EndpointRecord
from penstock_common.specs import parse_endpoint
from tests.fakes.clock import EPOCH

SPEC = parse_endpoint({"name": "n", "app_name": "echo", "image": {"image": "i"}})
RECORD = EndpointRecord(
    endpoint_id="ep-1", spec=SPEC, revision=2, created_at=EPOCH, updated_at=EPOCH
)
KEY = ApiKeyRecord(key_id="key-1", name="ours", sha256="", scope="read", created_at=EPOCH)


def test_every_api_gives_a_retreat_the_same_name_and_another_retreat_another() -> None:
    back = RECORD.model_copy(update={"revision": 3, "revision_why": "revision 2 could not start"})
    told = retreat(RECORD, back)
    assert told == retreat(RECORD, back.model_copy(update={"updated_at": EPOCH}))
    assert (told.by, told.action, told.why) == (
        Service.SCHEDULER,
        "endpoints_roll_back",
        "revision 2 could not start",
    )
    assert (told.target.id, told.target.name) == ("ep-1", "echo")
    assert retreat(back, back).audit_id != told.audit_id


def test_a_canary_is_aborted() -> None:
    canary = RECORD.model_copy(
        update={"canary": Canary(percent=5, stable=1, same_as=(), spec=SPEC)}
    )
    told = retreat(canary, plan_abort(canary, why="it could not start", now=EPOCH))
    assert (told.action, told.why) == ("endpoints_abort", "it could not start")


def test_a_key_that_ends_in_two_steps_has_a_record_of_each() -> None:
    first = end_of_key(KEY.model_copy(update={"expires_at": EPOCH}), KEY)
    second = end_of_key(KEY.model_copy(update={"revoked_at": EPOCH}), None)
    assert first.audit_id != second.audit_id
    assert first.why.startswith("expired; kept")
    assert second.why == "revoked, and owns no endpoint any more"


def test_a_file_that_changes_back_and_forth_has_a_record_of_each_change() -> None:
    assert other_admin_key(KEY, 1).audit_id != other_admin_key(KEY, 2).audit_id
