"""Who may call."""

import hashlib
from datetime import timedelta

import pytest

from penstock_common.messages import ApiKeyRecord, EndpointRecord
from penstock_common.specs import EndpointSpec, ImageSpec
from penstock_router.keys import check_key, check_reader, hash_key, index_keys
from tests.fakes.clock import EPOCH


def key(secret: str, scope: str, *endpoint_ids: str) -> ApiKeyRecord:
    return ApiKeyRecord.model_validate(
        {
            "key_id": f"key-{secret}",
            "sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "scope": scope,
            "endpoint_ids": endpoint_ids,
            "created_at": EPOCH,
        }
    )


KEYS = index_keys(
    [
        key("boss", "admin"),
        key("look", "read"),
        key("any", "invoke"),
        key("one", "invoke", "ep-1"),
        key("two", "invoke", "ep-2"),
        key("maker", "deploy"),
        key("other", "deploy"),
        key("gone", "deploy").model_copy(update={"sha256": ""}),
        key("brief", "invoke").model_copy(update={"expires_at": EPOCH + timedelta(seconds=10)}),
        key("new", "invoke").model_copy(
            update={
                "old_sha256": hashlib.sha256(b"old").hexdigest(),
                "old_expires_at": EPOCH + timedelta(seconds=5),
                "expires_at": EPOCH + timedelta(seconds=10),
            }
        ),
    ]
)


def endpoint(*, public: bool = False) -> EndpointRecord:
    spec = EndpointSpec(name="e", app_name="e", image=ImageSpec(image="i"), public=public)
    return EndpointRecord(
        endpoint_id="ep-1",
        owner="key-maker",
        spec=spec,
        revision=1,
        created_at=EPOCH,
        updated_at=EPOCH,
    )


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer  ", 401),
        ("Basic boss", 401),
        ("Bearer wrong", 401),
        ("Bearer look", 403),
        ("Bearer two", 403),
        ("Bearer other", 403),
        ("Bearer gone", 401),
        ("Bearer maker", None),
        ("Bearer one", None),
        ("bearer any", None),
        ("Bearer  boss", None),
    ],
)
def test_who_may_call_a_private_endpoint(authorization: str | None, status: int | None) -> None:
    refusal = check_key(KEYS, authorization, endpoint(), EPOCH)
    assert (refusal.status if refusal else None) == status


def test_a_public_endpoint_asks_for_no_key() -> None:
    assert check_key({}, None, endpoint(public=True), EPOCH) is None


@pytest.mark.parametrize(
    ("secret", "opens_for_s"), [("brief", 10), ("old", 5), ("new", 10), ("any", None)]
)
def test_a_key_opens_until_it_expires(secret: str, opens_for_s: int | None) -> None:
    for seconds in (0, 4.999, 5, 9.999, 10, 10**9):
        now = EPOCH + timedelta(seconds=seconds)
        refusal = check_key(KEYS, f"Bearer {secret}", endpoint(), now)
        if opens_for_s is None or seconds < opens_for_s:
            assert refusal is None
        else:
            assert refusal is not None
            assert (refusal.status, refusal.reason) == (401, "expired_api_key")


def test_an_expired_key_reads_no_page() -> None:
    expired = check_reader(
        index_keys([key("look", "read").model_copy(update={"expires_at": EPOCH})]),
        hash_key("Bearer look"),
        EPOCH,
    )
    assert expired is not None
    assert expired.reason == "expired_api_key"
