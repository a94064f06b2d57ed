"""What each NATS user may do [pure]: the server holds to it, whatever a program tries.

A user has an inbox prefix of its own, `_INBOX_<user>`, so none reads the answers to another.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock_common import subjects

#: Programs of others: all calls of the api, or only those that read.
INTEGRATION: Final = "integration"
INTEGRATION_READER: Final = "integration-reader"

_INBOX: Final = re.compile(r"_INBOX[A-Za-z0-9_-]*(\.[^.\s*>]+)+")


def inbox_prefix(user: str) -> str:
    """Where the answers to this user come; without a user, where all clients' do."""
    return f"_INBOX_{user}" if user else "_INBOX"


def is_inbox(subject: str) -> bool:
    """Whether a subject is a place for answers: nothing that a service reads or a stream takes.

    Who answers must ask: a caller may name any subject for the answer, also one to which it may not
    publish and the service may, such as a key of a bucket.
    """
    return _INBOX.fullmatch(subject) is not None


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects, with wildcards, that a user may use; all others are refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """As nats-server's configuration has it."""
        return {"publish": {"allow": self.publish}, "subscribe": {"allow": self.subscribe}}


def _calling(user: str, calls: tuple[str, ...]) -> Permissions:
    return Permissions(publish=calls, subscribe=(f"{inbox_prefix(user)}.>", subjects.EVENTS_ALL))


INTEGRATIONS: Final[Mapping[str, Permissions]] = {
    INTEGRATION: _calling(INTEGRATION, (subjects.CALLS_ALL,)),
    INTEGRATION_READER: _calling(INTEGRATION_READER, subjects.CALLS_READING),
}


def user_config(user: str, password: str, permissions: Permissions | None) -> str:
    """A user as it stands in nats-server's list of users; without permissions it may do all."""
    entry = {"user": user, "password": password}
    return json.dumps(entry | ({"permissions": permissions.config} if permissions else {}))
