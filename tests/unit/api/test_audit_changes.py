"""What the audit trail tells of a change, and what it keeps to itself."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.audit.changes import HIDDEN, MAX_FIELDS, MAX_VALUE_LENGTH, diff_records, target_of
from penstock_common.messages import ApiKeyRecord, EndpointRecord, RegistryAuthRecord, VolumeRecord
from penstock_common.specs import parse_endpoint
from tests.fakes.clock import EPOCH

CANARY = "canary-4711"


def endpoint(**sections: Any) -> EndpointRecord:
    document = {"name": "n", "app_name": "echo", "image": {"image": "i"}, **sections}
    return EndpointRecord(
        endpoint_id="ep-1",
        spec=parse_endpoint(document),
        revision=1,
        created_at=EPOCH,
        updated_at=EPOCH,
    )


def told(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    changes, left_out = diff_records("ep-1", old, new)
    assert left_out == 0
    assert all(change.target == "ep-1" for change in changes)
    return {change.pointer: (change.before, change.after) for change in changes}


def test_a_change_is_told_field_by_field_in_the_words_of_the_document() -> None:
    old, new = endpoint(env={"A": "1", "B": "2"}), endpoint(env={"A": "3"}, workers={"max": 9})
    assert told(old, new.model_copy(update={"revision": 2, "paused": True})) == {
        "/env/A": ("1", "3"),
        "/env/B": ("2", None),
        "/workers/max": (3, 9),
        "/revision": (1, 2),
        "/paused": (False, True),
    }
    assert told(old, old) == {}


def test_of_what_is_new_the_fields_that_are_not_as_by_default_are_told() -> None:
    changes = told(None, endpoint(workers={"max": 9}))
    assert changes["/workers/max"] == (None, 9)
    assert changes["/image/image"] == (None, "i")
    assert "/workers/min" not in changes
    assert told(endpoint(), None) == {}, "that it is gone says the request"


def test_secrets_are_told_to_have_changed_and_no_more() -> None:
    old = endpoint(secrets={"A": CANARY, "GONE": CANARY}, env={"HF_TOKEN": CANARY})
    new = endpoint(
        secrets={"A": CANARY + "2", "B": CANARY}, env={"HF_TOKEN": CANARY + "2", "DEBUG": "1"}
    )
    assert told(old, new) == {
        "/secrets/A": (HIDDEN, HIDDEN),
        "/secrets/B": (None, HIDDEN),
        "/secrets/GONE": (HIDDEN, None),
        "/env/HF_TOKEN": (HIDDEN, HIDDEN),
        "/env/DEBUG": (None, "1"),
    }


def test_passwords_and_hashes_are_hidden_wherever_they_stand() -> None:
    auth = RegistryAuthRecord(
        registry_auth_id="ra-1",
        name="ours",
        username="robot",
        sealed={"password": CANARY},
        created_at=EPOCH,
    )
    key = ApiKeyRecord(
        key_id="key-1", sha256=CANARY, old_sha256=CANARY, scope="read", created_at=EPOCH
    )
    volume = VolumeRecord.model_validate(
        {
            "volume_id": "vol-1",
            "name": "share",
            "source": {
                "type": "driver_options",
                "options": {"o": f"addr=a,password={CANARY}", "device": f"http://u:{CANARY}@h/x"},
            },
            "created_at": EPOCH,
            "updated_at": EPOCH,
        }
    )
    pulls = endpoint(image={"image": "i", "command": f"serve --api-key={CANARY}"})
    for record in (auth, key, volume, pulls):
        changes = told(None, record)
        assert CANARY not in json.dumps(changes)
        assert HIDDEN in json.dumps(changes)
    assert told(None, auth)["/username"] == (None, "robot")


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_value_of_a_secret_is_ever_told(name: str, value: str) -> None:
    whole = endpoint()
    spec = whole.spec.model_copy(update={"secrets": {name: f"{CANARY}{value}"}})
    new = whole.model_copy(update={"spec": spec})
    for before, after in ((whole, new), (new, whole), (None, new)):
        assert CANARY not in json.dumps(told(before, after))


def test_long_values_and_long_lists_are_cut() -> None:
    new = endpoint(env={f"V{n}": "x" for n in range(MAX_FIELDS + 5)})
    changes, left_out = diff_records("ep-1", endpoint(), new)
    assert (len(changes), left_out) == (MAX_FIELDS, 5)
    long = told(endpoint(), endpoint(env={"A": "y" * 10_000}))["/env/A"][1]
    assert len(long) < MAX_VALUE_LENGTH + 50
    assert long.endswith("(10000 characters)")


def test_a_target_has_its_name() -> None:
    assert target_of("endpoint", "ep-1", endpoint()).name == "echo"
    assert target_of("node", "node-1", None).name == ""
