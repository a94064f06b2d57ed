"""What NATS users may do, as a table."""

import pytest

from penstock_common.nats_permissions import INTEGRATIONS, inbox_prefix, is_inbox


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


def test_every_user_has_an_inbox_that_is_one_and_nobody_elses() -> None:
    for user, permissions in INTEGRATIONS.items():
        assert is_inbox(f"{inbox_prefix(user)}.x")
        inboxes = [s for s in permissions.subscribe if s.startswith("_INBOX")]
        assert inboxes == [f"{inbox_prefix(user)}.>"]
