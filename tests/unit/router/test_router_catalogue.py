"""Rows to what the router acts on."""

import pytest

from penstock_common.messages import ApiKeyRecord, EndpointRecord, WorkerAssignment, WorkerStatus
from penstock_common.specs import EndpointSpec, ImageSpec
from penstock_common.states import DesiredState, WorkerState
from penstock_router.catalogue import Address, Catalogue
from penstock_router.keys import KnownKey, check_reader
from penstock_router.tables import decode_assignment
from tests.fakes.clock import EPOCH


def spec(app: str = "echo") -> EndpointSpec:
    return EndpointSpec(name=app, app_name=app, image=ImageSpec(image="i"))


def endpoint(endpoint_id: str = "ep-1", app: str = "echo", **changes: object) -> EndpointRecord:
    record = EndpointRecord(
        endpoint_id=endpoint_id, spec=spec(app), revision=1, created_at=EPOCH, updated_at=EPOCH
    )
    return record.model_copy(update=changes)


def assignment(endpoint_id: str = "ep-1", **changes: object) -> WorkerAssignment:
    base = WorkerAssignment(
        worker_id="wk-1",
        node_id="node-1",
        endpoint_id=endpoint_id,
        revision=1,
        spec=spec(),
        fencing_token=5,
        decided_at=EPOCH,
        assigned_at=EPOCH,
    )
    return base.model_copy(update=changes)


def status(state: WorkerState = WorkerState.RUNNING, port: int | None = 80) -> WorkerStatus:
    return WorkerStatus(
        worker_id="wk-1",
        node_id="node-1",
        endpoint_id="ep-1",
        revision=1,
        state=state,
        host="10.0.0.1",
        port=port,
        updated_at=EPOCH,
    )


def test_finds_an_endpoint_by_its_name_also_after_it_changed() -> None:
    catalogue = Catalogue()
    catalogue.put_endpoint("ep-1", endpoint())
    catalogue.put_endpoint("ep-1", endpoint(app="other"))
    assert catalogue.find_app("echo") is None
    found = catalogue.find_app("other")
    assert found is not None
    assert found.endpoint_id == "ep-1"
    catalogue.put_endpoint("ep-1", None)
    assert catalogue.find_app("other") is None


def test_a_name_in_use_again_means_the_endpoint_that_lives() -> None:
    catalogue = Catalogue()
    catalogue.put_endpoint("ep-1", endpoint(deleted_at=EPOCH))
    catalogue.put_endpoint("ep-2", endpoint("ep-2"))
    found = catalogue.find_app("echo")
    assert found is not None
    assert found.endpoint_id == "ep-2"


@pytest.mark.parametrize(
    ("worker", "desired", "takes"),
    [
        (status(), DesiredState.RUNNING, True),
        (status(), DesiredState.DRAINING, False),
        (status(WorkerState.DRAINING), DesiredState.RUNNING, False),
        (status(WorkerState.STARTING), DesiredState.RUNNING, False),
        (status(port=None), DesiredState.RUNNING, False),
    ],
)
def test_which_worker_takes_requests(
    worker: WorkerStatus, desired: DesiredState, takes: bool
) -> None:
    catalogue = Catalogue()
    catalogue.put_worker_status("node-1.wk-1", worker, 7)
    concerned = catalogue.put_assignment("node-1.wk-1", assignment(desired=desired), 6)
    assert concerned == ("ep-1",)
    (view,) = catalogue.workers("ep-1")
    assert view.takes_requests is takes
    assert catalogue.runs("ep-1") is takes
    assert (view.revision, view.status_revision) == (6, 7)
    if worker.state is WorkerState.RUNNING and worker.port:
        assert view.address == Address("10.0.0.1", 80)


def test_a_write_of_a_deposed_leader_changes_nothing() -> None:
    catalogue = Catalogue()
    catalogue.put_assignment("node-1.wk-1", assignment(driver="rt-new"), 2)
    assert catalogue.put_assignment("node-1.wk-1", assignment(fencing_token=4), 3) == ()
    (view,) = catalogue.workers("ep-1")
    assert view.assignment.driver == "rt-new"


def test_a_worker_that_is_gone_concerns_its_endpoint() -> None:
    catalogue = Catalogue()
    catalogue.put_assignment("node-1.wk-1", assignment(), 2)
    assert catalogue.put_assignment("node-1.wk-1", None, 0) == ("ep-1",)
    assert list(catalogue.workers("ep-1")) == []
    assert catalogue.put_assignment("node-1.wk-1", None, 0) == ()


def test_a_key_that_is_gone_opens_nothing() -> None:
    catalogue = Catalogue()
    key = ApiKeyRecord(key_id="key-1", sha256="AB", scope="admin", created_at=EPOCH)
    catalogue.put_key("key-1", key)
    assert catalogue.keys_by_hash == {"ab": KnownKey(key, None)}
    rotated = key.model_copy(update={"sha256": "CD", "old_sha256": "AB", "old_expires_at": EPOCH})
    catalogue.put_key("key-1", rotated)
    assert catalogue.keys_by_hash == {
        "ab": KnownKey(rotated, EPOCH),
        "cd": KnownKey(rotated, None),
    }
    catalogue.put_key("key-1", None)
    assert catalogue.keys_by_hash == {}


def test_keys_that_requests_came_with_are_told_once_also_if_they_changed_since() -> None:
    catalogue = Catalogue()
    keys = {
        name: ApiKeyRecord(key_id=name, sha256=name, scope="admin", created_at=EPOCH)
        for name in ("aa", "bb", "cc", "dd")
    }
    for name, key in keys.items():
        catalogue.put_key(name, key)
    used = check_reader(catalogue.keys_by_hash, "aa", EPOCH)
    assert used is None
    for name in ("bb", "cc"):
        assert check_reader(catalogue.keys_by_hash, name, EPOCH) is None
    assert check_reader(catalogue.keys_by_hash, "ee", EPOCH) is not None
    catalogue.put_key("bb", keys["bb"].model_copy(update={"name": "ours"}))
    catalogue.put_key("cc", None)
    assert catalogue.take_used_keys() == {"aa", "bb", "cc"}
    assert catalogue.take_used_keys() == set()


def test_the_schedulers_lease_is_no_worker() -> None:
    assert decode_assignment(b'{"holder":"sch-1","claim":"c","token":3}') is None
    assert decode_assignment(assignment().encode()) == assignment()
    with pytest.raises(ValueError, match="Field required"):
        decode_assignment(b"{}")
