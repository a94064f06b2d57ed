"""Signatures of webhooks, against the example of the specification and by property."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.webhooks.signing import (
    ID,
    SIGNATURE,
    TIMESTAMP,
    key_of,
    secret_of,
    sign,
    signed_headers,
)

#: Source: the test vector that the libraries of github.com/standard-webhooks share.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP_S = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE_OF_IT = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

KEYS = st.binary(min_size=24, max_size=64)


def test_the_example_of_the_specification() -> None:
    found = sign(SECRET, message_id=MESSAGE_ID, timestamp=TIMESTAMP_S, body=BODY)
    assert found == SIGNATURE_OF_IT


def test_headers_bear_one_signature_per_secret() -> None:
    other = secret_of(b"k" * 32)
    headers = signed_headers(
        [other, SECRET],
        message_id=MESSAGE_ID,
        at=datetime.fromtimestamp(TIMESTAMP_S + 0.9, UTC),
        body=BODY,
    )
    assert (headers[ID], headers[TIMESTAMP]) == (MESSAGE_ID, str(TIMESTAMP_S))
    signatures = headers[SIGNATURE].split(" ")
    assert len(signatures) == 2
    assert signatures[1] == SIGNATURE_OF_IT


@given(KEYS)
def test_a_secret_has_a_text_form(key: bytes) -> None:
    secret = secret_of(key)
    assert secret.startswith("whsec_")
    assert key_of(secret) == key


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_secret_of_another_size_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        secret_of(b"x" * size)


def test_what_is_no_secret_is_not_shown() -> None:
    with pytest.raises(ValueError, match="base64") as raised:
        key_of("whsec_canary!")
    assert "canary" not in str(raised.value)


@given(KEYS, st.binary(max_size=200), st.integers(0, 2**40), st.data())
def test_any_change_changes_the_signature(
    key: bytes, body: bytes, timestamp: int, data: st.DataObject
) -> None:
    secret = secret_of(key)
    signature = sign(secret, message_id="ev-1", timestamp=timestamp, body=body)
    digest = hmac.new(key, b"ev-1.%d." % timestamp + body, hashlib.sha256).digest()
    assert signature == f"v1,{base64.b64encode(digest).decode()}"
    other_body = data.draw(st.binary(max_size=200).filter(lambda other: other != body))
    for changed in (
        sign(secret, message_id="ev-2", timestamp=timestamp, body=body),
        sign(secret, message_id="ev-1", timestamp=timestamp + 1, body=body),
        sign(secret, message_id="ev-1", timestamp=timestamp, body=other_body),
        sign(secret_of(key[::-1] + b"x" * 24), message_id="ev-1", timestamp=timestamp, body=body)
        if len(key) <= 40
        else "",
    ):
        assert changed != signature
