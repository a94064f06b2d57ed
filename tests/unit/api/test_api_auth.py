"""Keys and what they may do."""

from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from penstock_api.auth import KeyExpiredError, authorize, hash_key, read_admin_key
from penstock_api.problems import RefusedError
from penstock_api.routes.route import Scope
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.messages import ApiKeyRecord
from tests.fakes.clock import EPOCH

KEYS = [
    ApiKeyRecord(
        key_id=f"key-{scope}", sha256=hash_key(f"secret-{scope}"), scope=scope, created_at=EPOCH
    )
    for scope in ("admin", "read", "invoke")
]


def status(scope: Scope, authorization: str | None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        authorize(make_mocked_request("GET", "/", headers), scope, KEYS, EPOCH)
    except RefusedError as error:
        challenged = error.headers.get("WWW-Authenticate", "").startswith("Bearer")
        return error.status if challenged == (error.status == 401) else 0
    return 200


@pytest.mark.parametrize(
    ("authorization", "statuses"),
    [
        (None, (200, 401, 401)),
        ("Bearer secret-admin", (200, 200, 200)),
        ("bearer  secret-admin ", (200, 200, 200)),
        ("Bearer secret-read", (200, 200, 403)),
        ("Bearer secret-invoke", (200, 403, 403)),
        ("Bearer wrong", (200, 401, 401)),
        ("Bearer", (200, 401, 401)),
        ("Bearer ", (200, 401, 401)),
        ("Basic secret-admin", (200, 401, 401)),
        ("secret-admin", (200, 401, 401)),
        # the hash is no key
        (f"Bearer {hash_key('secret-admin')}", (200, 401, 401)),
    ],
)
def test_what_each_key_may_do(authorization: str | None, statuses: tuple[int, int, int]) -> None:
    scopes: tuple[Scope, ...] = ("open", "read", "admin")
    assert tuple(status(scope, authorization) for scope in scopes) == statuses


def test_a_key_held_twice_has_the_greater_right() -> None:
    keys = [key.model_copy(update={"sha256": hash_key("same")}) for key in reversed(KEYS)]
    request = make_mocked_request("GET", "/", {"Authorization": "Bearer same"})
    authorize(request, "admin", keys, EPOCH)


def test_a_key_opens_until_it_expires() -> None:
    whole = KEYS[0]
    later = EPOCH + timedelta(seconds=9)
    key = whole.model_copy(
        update={
            "expires_at": later,
            "old_sha256": hash_key("before"),
            "old_expires_at": EPOCH + timedelta(seconds=1),
        }
    )
    for secret, ends_at in (("secret-admin", later), ("before", EPOCH + timedelta(seconds=1))):
        request = make_mocked_request("GET", "/", {"Authorization": f"Bearer {secret}"})
        assert authorize(request, "admin", [key], ends_at - timedelta(seconds=0.001)) is key
        with pytest.raises(KeyExpiredError, match="expired at 20") as refused:
            authorize(request, "admin", [key], ends_at)
        assert (refused.value.status, refused.value.reason) == (401, "expired_api_key")
        assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
        assert refused.value.record is key
        # The same secret in a key that goes on opens: whoever holds it twice loses nothing.
        goes_on = whole.model_copy(update={"sha256": hash_key(secret)})
        assert authorize(request, "admin", [key, goes_on], ends_at) is goes_on


@pytest.mark.parametrize("text", ["", "short", "x" * 30 + "\n" + "y" * 30, "ключ" * 20])
def test_an_unusable_key_file_is_an_operators_mistake(tmp_path: Path, text: str) -> None:
    file = tmp_path / "admin.key"
    file.write_text(text)
    with pytest.raises(MisconfiguredError, match=r"admin\.key"):
        read_admin_key(file)


def test_a_missing_key_file_is_an_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(MisconfiguredError, match="ADMIN_KEY_FILE"):
        read_admin_key(None)
    with pytest.raises(MisconfiguredError, match="nowhere"):
        read_admin_key(tmp_path / "nowhere")


def test_the_key_is_the_files_text_without_the_line_end(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    file.write_text("k" * 43 + "\n")
    assert read_admin_key(file) == "k" * 43
