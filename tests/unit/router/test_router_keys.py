"""Who may call."""

import hashlib

import pytest

from penstock_common.messages import ApiKeyRecord, EndpointRecord
from penstock_common.specs import EndpointSpec, ImageSpec
from penstock_router.keys import check_key, index_keys
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
    refusal = check_key(KEYS, authorization, endpoint())
    assert (refusal.status if refusal else None) == status


def test_a_public_endpoint_asks_for_no_key() -> None:
    assert check_key({}, None, endpoint(public=True)) is None
