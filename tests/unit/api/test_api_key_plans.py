"""What becomes of the record of an API key."""

from datetime import timedelta
from typing import Any

import pytest

from penstock_api.api_keys import (
    EXPIRED_KEPT,
    ApiKeyEndedError,
    plan_cleanup,
    plan_key,
    plan_key_change,
    plan_revocation,
    plan_rotation,
)
from penstock_common.api_keys import (
    ApiKeyRotation,
    parse_api_key,
    parse_api_key_change,
    parse_api_key_rotation,
)
from penstock_common.errors import InvalidDocumentError
from penstock_common.messages import ApiKeyRecord, EndpointRecord
from penstock_common.specs import EndpointSpec, ImageSpec
from tests.fakes.clock import EPOCH

HOUR = timedelta(hours=1)


def key(**fields: Any) -> ApiKeyRecord:
    return ApiKeyRecord.model_validate(
        {"key_id": "key-1", "sha256": "a" * 64, "scope": "deploy", "created_at": EPOCH, **fields}
    )


def made_by(owner: str) -> EndpointRecord:
    spec = EndpointSpec(name="e", app_name="e", image=ImageSpec(image="i"))
    return EndpointRecord(
        endpoint_id="ep-1", owner=owner, spec=spec, revision=1, created_at=EPOCH, updated_at=EPOCH
    )


def planned(**fields: Any) -> ApiKeyRecord:
    spec = parse_api_key({"name": "n", "scope": "read", **fields})
    return plan_key(spec, key_id="key-1", sha256="b" * 64, endpoint_ids=(), now=EPOCH)


def problems(document: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidDocumentError) as refused:
        planned(**document)
    return [problem.pointer for problem in refused.value.problems]


def test_a_key_expires_at_an_instant_or_after_some_time_or_never() -> None:
    assert planned().expires_at is None
    assert planned(expires_in_s=3600).expires_at == EPOCH + HOUR
    assert planned(expires_at=(EPOCH + HOUR).isoformat()).expires_at == EPOCH + HOUR
    assert problems({"expires_at": EPOCH.isoformat()}) == ["/expires_at"]
    assert problems({"expires_at": "2099-01-01T00:00:00"}) == ["/expires_at"]  # in which zone?
    assert problems({"expires_in_s": 0}) == ["/expires_in_s"]
    both = {"expires_in_s": 60, "expires_at": (EPOCH + HOUR).isoformat()}
    assert problems(both) == [""]


def test_an_expiry_is_changed_taken_away_and_left() -> None:
    old = key(expires_at=EPOCH + HOUR)

    def changed(document: dict[str, Any]) -> ApiKeyRecord:
        return plan_key_change(old, parse_api_key_change(document), now=EPOCH)

    assert changed({"expires_in_s": 60}).expires_at == EPOCH + timedelta(seconds=60)
    assert changed({"expires_at": None}).expires_at is None
    assert changed({"name": "n"}).expires_at == EPOCH + HOUR
    assert changed({}) is old
    with pytest.raises(InvalidDocumentError):
        changed({"expires_at": EPOCH.isoformat()})
    with pytest.raises(InvalidDocumentError):
        changed({"expires_in_s": None})
    revoked = key(revoked_at=EPOCH, sha256="")
    with pytest.raises(ApiKeyEndedError):
        plan_key_change(revoked, parse_api_key_change({"expires_in_s": 60}), now=EPOCH)


def test_a_rotated_key_has_a_new_secret_beside_the_old_one() -> None:
    rotation = parse_api_key_rotation({"old_expires_in_s": 3600})
    new = plan_rotation(key(), rotation, sha256="b" * 64, now=EPOCH)
    assert new.hashes() == {"b" * 64: None, "a" * 64: EPOCH + HOUR}
    again = plan_rotation(new, rotation, sha256="c" * 64, now=EPOCH)
    assert again.hashes() == {"c" * 64: None, "b" * 64: EPOCH + HOUR}
    at_once = plan_rotation(key(), ApiKeyRotation(), sha256="b" * 64, now=EPOCH)
    assert at_once.hashes() == {"b" * 64: None}
    expiring = plan_rotation(key(expires_at=EPOCH + HOUR / 2), rotation, sha256="b" * 64, now=EPOCH)
    assert set(expiring.hashes().values()) == {EPOCH + HOUR / 2}
    for ended in (key(expires_at=EPOCH), key(revoked_at=EPOCH, sha256="")):
        with pytest.raises(ApiKeyEndedError):
            plan_rotation(ended, rotation, sha256="b" * 64, now=EPOCH)


def test_a_revoked_key_loses_the_secret_that_was_rotated_away_too() -> None:
    rotated = key(old_sha256="b" * 64, old_expires_at=EPOCH + HOUR)
    left = plan_revocation(rotated, [made_by("key-1")], now=EPOCH)
    assert left is not None
    assert left.hashes() == {}


def test_what_is_left_of_a_key_that_ended() -> None:
    now = EPOCH + EXPIRED_KEPT
    mine, others = [made_by("key-1")], [made_by("key-2")]
    for stays in (key(), key(expires_at=EPOCH + timedelta(seconds=1)), key(expires_at=now + HOUR)):
        assert plan_cleanup(stays, others, now=now) is stays
    expired = key(expires_at=EPOCH)
    assert plan_cleanup(expired, others, now=now) is None
    left = plan_cleanup(expired, mine, now=now)
    assert left is not None
    assert (left.hashes(), left.revoked_at) == ({}, EPOCH)
    assert plan_cleanup(left, mine, now=now) is left, (
        "its quota holds while its endpoints are there"
    )
    assert plan_cleanup(left, others, now=now) is None
    assert plan_cleanup(key(sha256="", revoked_at=now), others, now=now) is None
