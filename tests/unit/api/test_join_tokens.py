"""Who may join with a token."""

from datetime import timedelta

import pytest

from penstock_api.auth import hash_key
from penstock_api.join_tokens import (
    EXPIRED_KEPT,
    MAX_HOSTS,
    JoinTokenExpiredError,
    JoinTokenUsedUpError,
    find_by_hash,
    is_over,
    plan_token,
    plan_use,
    token_document,
)
from penstock_common.errors import InvalidDocumentError
from penstock_common.join_tokens import parse_join_request, parse_join_token
from penstock_common.messages import JoinedHost, JoinTokenRecord
from tests.fakes.clock import EPOCH

HOUR = timedelta(hours=1)


def token(**fields: object) -> JoinTokenRecord:
    return plan_token(
        parse_join_token(fields),
        token_id="jt-1",
        sha256=hash_key("secret"),
        made_by="key-admin",
        now=EPOCH,
    )


def host(after: timedelta = timedelta(), name: str = "gpu-1") -> JoinedHost:
    return JoinedHost(at=EPOCH + after, hostname=name, address="10.0.0.2")


def test_a_token_lets_one_host_in_within_an_hour_unless_told_otherwise() -> None:
    record = token()
    assert (record.max_uses, record.expires_at) == (1, EPOCH + HOUR)
    used = plan_use(record, host(HOUR - timedelta(seconds=1)))
    assert (used.uses, [each.hostname for each in used.hosts]) == (1, ["gpu-1"])
    with pytest.raises(JoinTokenUsedUpError):
        plan_use(used, host())
    with pytest.raises(JoinTokenExpiredError):
        plan_use(record, host(HOUR))


def test_a_token_for_many_tells_of_the_last_ones() -> None:
    record = token(max_uses=MAX_HOSTS + 10)
    for number in range(MAX_HOSTS + 10):
        record = plan_use(record, host(name=f"gpu-{number}"))
    assert (record.uses, len(record.hosts)) == (MAX_HOSTS + 10, MAX_HOSTS)
    assert record.hosts[-1].hostname == f"gpu-{MAX_HOSTS + 9}"
    with pytest.raises(JoinTokenUsedUpError):
        plan_use(record, host())


def test_a_token_is_found_by_its_hash_and_shown_without_it() -> None:
    record = token(name="rack 7", labels={"rack": "7"})
    assert find_by_hash([token(), record], hash_key("secret")) is record
    assert find_by_hash([record], hash_key("guess")) is None
    assert find_by_hash([record], "") is None
    shown = token_document(record)
    assert record.sha256 not in shown.model_dump_json()
    assert (shown.labels, shown.made_by) == ({"rack": "7"}, "key-admin")


def test_a_token_is_forgotten_a_week_after_its_end() -> None:
    assert not is_over(token(), EPOCH + HOUR + EXPIRED_KEPT - timedelta(seconds=1))
    assert is_over(token(), EPOCH + HOUR + EXPIRED_KEPT)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"expires_in_s": 0}, "/expires_in_s"),
        ({"expires_in_s": 10**9}, "/expires_in_s"),
        ({"max_uses": 0}, "/max_uses"),
        ({"max_uses": True}, "/max_uses"),
        ({"labels": {"a b": "c"}}, "/labels/a b/[key]"),
        ({"labels": {"a": ""}}, "/labels/a"),
        ({"labels": ["a=b"]}, "/labels"),
        ({"token": "mine"}, "/token"),
    ],
)
def test_wrong_documents_are_told(document: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        parse_join_token(document)
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


def test_an_error_shows_no_token() -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        parse_join_request({"token": "canary" * 100})
    assert "canary" not in str(refused.value)
    assert "canary" not in repr(parse_join_request({"token": "canary"}))
