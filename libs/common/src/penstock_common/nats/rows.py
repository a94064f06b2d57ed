"""What a row of the table in `layout.py` says, for each sort of thing that NATS holds or carries [pure].

Subjects and keys are written as forms: `<endpoint_id>` stands for any one id.
"""

import re
from dataclasses import dataclass
from typing import Literal

from penstock_common.events.catalogue import Service
from penstock_common.messages import Message


@dataclass(frozen=True, slots=True)
class Bucket:
    """A KV bucket: the last value of each key, and one service that writes them."""

    name: str
    #: form of its keys
    key: str
    value: type[Message]
    writer: Service
    #: services that read it, beside its writer
    readers: tuple[Service, ...]
    #: one line, for people
    meaning: str
    storage: Literal["file", "memory"] = "file"
    #: a key that is not written again is gone after so long; None = never
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of messages that are kept for a while."""

    name: str
    #: forms of its subjects
    subjects: tuple[str, ...]
    #: None = the event catalogue says which
    message: type[Message] | None
    writers: tuple[Service, ...]
    readers: tuple[Service, ...]
    meaning: str
    max_bytes: int
    max_msg_bytes: int
    storage: Literal["file", "memory"] = "file"
    retention: Literal["limits", "workqueue"] = "limits"
    #: what is full drops its oldest, or refuses the newest
    discard: Literal["old", "new"] = "old"
    #: None = until it is taken
    max_age_s: int | None = None
    max_msgs: int | None = None
    max_msgs_per_subject: int | None = None
    compressed: bool = False
    #: acknowledged before it is on disk, where the stream has one copy
    written_behind: bool = False
    #: its writers drop what is too much of one subject
    trimmed: bool = False
    #: a message may carry a time to live
    message_ttl: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """The subjects that it takes."""
        return tuple(map(pattern, self.subjects))


@dataclass(frozen=True, slots=True)
class Core:
    """A subject of core NATS: who does not listen has missed it."""

    #: its form
    subject: str
    message: type[Message]
    writer: Service
    readers: tuple[Service, ...]
    meaning: str
    #: model of the answer; "empty" = one without a body; None = nobody answers
    answer: type[Message] | Literal["empty"] | None = None
    #: form of the subject on which the answer is wanted, where it is no inbox
    answer_subject: str | None = None

    @property
    def pattern(self) -> str:
        """The subject with `*` for each id."""
        return pattern(self.subject)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer of a stream."""

    #: form of its name
    name: str
    #: the stream's name; None = those of buckets
    stream: str | None
    made_by: tuple[Service, ...]
    kind: str
    meaning: str
    #: who makes it also lists those that there are, and asks how much waits in one
    watched: bool = False


def pattern(form: str) -> str:
    """The NATS pattern of a form: `*` for each id."""
    return re.sub(r"<\w+>", "*", form)
