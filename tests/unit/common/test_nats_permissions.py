"""What NATS users may do, as a table."""

import pytest

from penstock_common import subjects
from penstock_common.events.catalogue import Service
from penstock_common.nats import layout
from penstock_common.nats.permissions import INTEGRATION, INTEGRATION_READER, OPERATOR, USERS
from penstock_common.subjects import inbox_prefix, is_inbox, kv_stream, kv_subject


@pytest.mark.parametrize(
    "subject", ["_INBOX.abc", "_INBOX.abc.1", "_INBOX_integration.a-b_c", "_INBOX_node-agent.x.y"]
)
def test_inboxes(subject: str) -> None:
    assert is_inbox(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "_INBOX",
        "_INBOX.",
        "_INBOX..a",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.a b",
        "$KV.PENSTOCK_ENDPOINTS.ep-1",
        "$JS.API.STREAM.DELETE.KV_PENSTOCK_ENDPOINTS",
        "penstock.v1.events.endpoint.ep-1.created",
        "x_INBOX.a",
        "_INBOX/.a",
    ],
)
def test_everything_else_is_none(subject: str) -> None:
    assert not is_inbox(subject)


def fits(pattern: str, subject: str) -> bool:
    """Whether a subject is one of a pattern, as NATS has it."""
    tokens, parts = pattern.split("."), subject.split(".")
    if tokens[-1] == ">":
        return len(parts) >= len(tokens) and fits(
            ".".join(tokens[:-1]), ".".join(parts[: len(tokens) - 1])
        )
    return len(tokens) == len(parts) and all(
        t in ("*", p) for t, p in zip(tokens, parts, strict=True)
    )


def may_publish(user: str, subject: str) -> bool:
    permissions = USERS[user]
    assert permissions is not None
    return any(fits(pattern, subject) for pattern in permissions.publish)


def test_every_user_has_an_inbox_that_is_one_and_nobody_elses() -> None:
    for user, permissions in USERS.items():
        assert is_inbox(f"{inbox_prefix(user)}.x")
        if permissions is not None:
            inboxes = [s for s in permissions.subscribe if s.startswith("_INBOX")]
            assert inboxes == [f"{inbox_prefix(user)}.>"]
            # whoever hears all hears the others' answers as well
            assert not {">", "*.>", "penstock.>", "$KV.>", "$JS.>"} & {*permissions.subscribe}


def test_each_key_is_written_by_one_user_alone() -> None:
    for bucket in layout.BUCKETS:
        key = kv_subject(bucket.name, bucket.key.replace("<", "").replace(">", ""))
        writers = [user for user in USERS if user != OPERATOR and may_publish(user, key)]
        assert writers == [bucket.writer]


def test_secrets_are_read_by_those_that_need_them() -> None:
    for name in (
        subjects.REGISTRY_AUTHS,
        subjects.API_KEYS,
        subjects.JOIN_TOKENS,
        subjects.REPEATS,
    ):
        (bucket,) = (b for b in layout.BUCKETS if b.name == name)
        for subject in (
            f"$JS.API.DIRECT.GET.{kv_stream(name)}.{kv_subject(name, 'a')}",
            f"$JS.API.STREAM.MSG.GET.{kv_stream(name)}",
            f"$JS.API.CONSUMER.CREATE.{kv_stream(name)}.w.{kv_subject(name, '>')}",
        ):
            readers = {user for user in USERS if user != OPERATOR and may_publish(user, subject)}
            assert readers == {bucket.writer, *bucket.readers}


@pytest.mark.parametrize("verb", ["DELETE", "PURGE", "UPDATE", "MSG.DELETE", "SNAPSHOT", "RESTORE"])
def test_streams_are_destroyed_by_none_of_them(verb: str) -> None:
    allowed = {
        (user, name)
        for user in USERS
        if user != OPERATOR
        for row in (*layout.BUCKETS, *layout.STREAMS)
        for name in (row.name, kv_stream(row.name))
        if may_publish(user, f"$JS.API.STREAM.{verb}.{name}")
    }
    if verb == "UPDATE":
        assert {user for user, _ in allowed} == {Service.API}
    else:
        trimmed = {
            (Service.NODE_AGENT, subjects.LOGS),
            (Service.API, subjects.AUDIT),
            (Service.API, subjects.DELIVERIES),
        }
        assert allowed == (trimmed if verb == "PURGE" else set())


def test_an_integration_only_calls() -> None:
    for user in (INTEGRATION, INTEGRATION_READER):
        permissions = USERS[user]
        assert permissions is not None
        assert all(s.startswith("penstock.v1.api.") for s in permissions.publish)
        assert permissions.subscribe == (f"{inbox_prefix(user)}.>", subjects.EVENTS_ALL)
    assert may_publish(INTEGRATION, subjects.call("endpoint.create"))
    assert not may_publish(INTEGRATION_READER, subjects.call("endpoint.create"))
    assert may_publish(INTEGRATION_READER, subjects.call("endpoint.get"))
    for service in Service:
        assert not may_publish(service, subjects.call("endpoint.create"))
