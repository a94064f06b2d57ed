"""What each NATS user may do [pure]: the server holds to it, whatever a program tries.

Theory of operation. Each service has a user of its name, whose permissions follow from the table in
`layout.py`: it may write the buckets and streams of which it is the writer, read those that it
reads, send and hear the core subjects that it sends and hears, and use of JetStream's API what
that takes. A user has an inbox prefix of its own, so none reads the answers to another. What this
does not keep apart: docs/adr/0019.

Only the api may change a stream. All services may make one that is missing, as after a restart of
the server those in memory are gone.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, Ids, Service
from penstock_common.nats import layout
from penstock_common.nats.rows import Bucket, Core, Stream, pattern
from penstock_common.subjects import inbox_prefix, kv_stream, kv_subject

#: Programs of others: all calls of the api, or only those that read.
INTEGRATION: Final = "integration"
INTEGRATION_READER: Final = "integration-reader"
#: A person who inspects or repairs: everything.
OPERATOR: Final = "operator"


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects, with wildcards, that a user may use; all others are refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """As nats-server's configuration has it."""
        return {"publish": {"allow": self.publish}, "subscribe": {"allow": self.subscribe}}


def user_config(user: str, password: str, permissions: Permissions | None) -> str:
    """A user as it stands in nats-server's list of users; without permissions it may do all."""
    entry = {"user": user, "password": password}
    return json.dumps(entry | ({"permissions": permissions.config} if permissions else {}))


def _calling(user: str, calls: tuple[str, ...]) -> Permissions:
    return Permissions(publish=calls, subscribe=(f"{inbox_prefix(user)}.>", subjects.EVENTS_ALL))


def _of_service(service: Service) -> Permissions:
    inbox = f"{inbox_prefix(service)}.>"
    return Permissions(
        publish=_once((inbox, *_publishes(service))),
        subscribe=_once((inbox, *_subscribes(service))),
    )


def _publishes(service: Service) -> Iterator[str]:
    yield "$JS.API.STREAM.NAMES"
    yield "$JS.API.STREAM.INFO.*"
    for name in _streams():
        yield f"$JS.API.STREAM.CREATE.{name}"
        if service is Service.API:
            yield f"$JS.API.STREAM.UPDATE.{name}"
    for bucket in layout.BUCKETS:
        yield from _on_bucket(service, bucket)
    for stream in layout.STREAMS:
        yield from _on_stream(service, stream)
    for row in layout.CORE:
        yield from _sends(service, row)
    if service is Service.API:
        for caller in (INTEGRATION, INTEGRATION_READER, OPERATOR):
            yield f"{inbox_prefix(caller)}.>"


def _on_bucket(service: Service, bucket: Bucket) -> Iterator[str]:
    if service is bucket.writer:
        yield kv_subject(bucket.name, ">")
    if service is bucket.writer or service in bucket.readers:
        stream = kv_stream(bucket.name)
        yield from _reading(stream)
        yield f"$JS.API.STREAM.MSG.GET.{stream}"


def _on_stream(service: Service, stream: Stream) -> Iterator[str]:
    if service in stream.writers:
        yield from _event_subjects(service) if stream.message is None else stream.patterns
        if stream.trimmed:
            yield f"$JS.API.STREAM.PURGE.{stream.name}"
    if service in stream.readers:
        yield from _reading(stream.name)
        yield f"$JS.API.STREAM.MSG.GET.{stream.name}"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.*"
        yield f"$JS.ACK.{stream.name}.>"
    if any(
        c.watched and c.stream == stream.name and service in c.made_by for c in layout.CONSUMERS
    ):
        yield f"$JS.API.CONSUMER.NAMES.{stream.name}"
        yield f"$JS.API.CONSUMER.INFO.{stream.name}.*"


def _reading(stream: str) -> Iterator[str]:
    """By direct gets and by consumers, whose flow control is answered."""
    yield f"$JS.API.DIRECT.GET.{stream}"
    yield f"$JS.API.DIRECT.GET.{stream}.>"
    yield f"$JS.API.CONSUMER.CREATE.{stream}.>"
    yield f"$JS.API.CONSUMER.DELETE.{stream}.*"
    yield f"$JS.FC.{stream}.>"


def _event_subjects(service: Service) -> Iterator[str]:
    for row in CATALOGUE.values():
        if row.publisher is service:
            yield row.family.subject(Ids(), row.verb)
    if service is Service.API:
        yield subjects.WEBHOOK_EVENTS_ALL


def _sends(service: Service, row: Core) -> Iterator[str]:
    if service is row.writer:
        yield row.pattern
    if service in row.readers and row.answer is not None:
        if row.answer_subject is None:
            yield f"{inbox_prefix(row.writer)}.>"
        else:
            yield pattern(row.answer_subject)


def _subscribes(service: Service) -> Iterator[str]:
    for stream in layout.STREAMS:
        if service in stream.readers:
            yield from stream.patterns
    for row in layout.CORE:
        if service in row.readers:
            yield row.pattern
        if service is row.writer and row.answer_subject is not None:
            yield pattern(row.answer_subject)
    if service is Service.API:
        yield subjects.CALLS_ALL


def _streams() -> Iterator[str]:
    yield from (kv_stream(bucket.name) for bucket in layout.BUCKETS)
    yield from (stream.name for stream in layout.STREAMS)


def _once(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))


#: Every user of an installation → what it may do; None = everything.
USERS: Final[Mapping[str, Permissions | None]] = {
    **{service.value: _of_service(service) for service in Service},
    INTEGRATION: _calling(INTEGRATION, (subjects.CALLS_ALL,)),
    INTEGRATION_READER: _calling(INTEGRATION_READER, subjects.CALLS_READING),
    OPERATOR: None,
}
