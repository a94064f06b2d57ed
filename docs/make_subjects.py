"""Writes docs/subjects.md from the tables in the code: python docs/make_subjects.py."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from penstock_api.rpc.service import OPERATIONS
from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, Ids, Service
from penstock_common.nats import layout
from penstock_common.nats.permissions import INTEGRATION, INTEGRATION_READER, OPERATOR
from penstock_common.nats.rows import Bucket, Stream

HERE = Path(__file__).parent

HEAD = """# NATS: subjects, buckets, streams

Made by `docs/make_subjects.py` from the code: `penstock_common/nats/layout.py`, the event catalogue and
the api's table of calls; a test fails when they differ. Each key has one writing service; `<…>` stands
for one id. Models are the pydantic ones in `penstock_common/messages/`, JSON on the wire; who reads
ignores fields that he does not know.

Integrations use two parts of it: [calls](#calls) and [events](#events). How: [integrations.md](integrations.md).
What the others hold may change with any version.
"""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = tuple(heads)
    lines = [" | ".join(heads), "|".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---|" not in line else f"|{line}|" for line in lines)


def names(services: Iterable[str]) -> str:
    """Services in a cell."""
    return ", ".join(services) or "-"


def model(kind: type[BaseModel] | str | None) -> str:
    """A model in a cell."""
    return "-" if kind is None else kind if isinstance(kind, str) else f"`{kind.__name__}`"


def span(seconds: int | None) -> str:
    """A time in a cell."""
    if seconds is None:
        return "for ever"
    if seconds % 86_400 == 0:
        return f"{seconds // 86_400} day{'s' if seconds > 86_400 else ''}"
    return f"{seconds} s"


def size(n_bytes: int) -> str:
    """A size in a cell."""
    return f"{n_bytes // 1024**2} MiB" if n_bytes >= 1024**2 else f"{n_bytes // 1024} KiB"


def buckets() -> str:
    """The table of buckets."""
    return table(
        ("bucket", "key", "value", "written by", "read by", "storage", "a key stays", "what"),
        (
            (
                f"`{bucket.name}`",
                f"`{bucket.key}`",
                model(bucket.value),
                bucket.writer,
                names(bucket.readers),
                bucket.storage,
                "until it is removed" if bucket.expires_s is None else span(bucket.expires_s),
                bucket.meaning,
            )
            for bucket in layout.BUCKETS
        ),
    )


def limits(stream: Stream) -> str:
    """What bounds a stream."""
    bounds = [size(stream.max_bytes), f"{size(stream.max_msg_bytes)} a message"]
    if stream.max_msgs is not None:
        bounds.append(f"{stream.max_msgs:,} messages")
    if stream.max_msgs_per_subject is not None:
        bounds.append(f"{stream.max_msgs_per_subject:,} a subject")
    return (
        ", ".join(bounds)
        + f"; full: the {'oldest goes' if stream.discard == 'old' else 'newest is refused'}"
    )


def streams() -> str:
    """The table of streams."""
    return table(
        (
            "stream",
            "subject",
            "message",
            "written by",
            "read by",
            "storage",
            "kept",
            "limits",
            "what",
        ),
        (
            (
                f"`{stream.name}`",
                ", ".join(f"`{form}`" for form in stream.subjects),
                "by [event](#events)" if stream.message is None else model(stream.message),
                names(stream.writers),
                names(stream.readers),
                stream.storage + (", written behind" if stream.written_behind else ""),
                "until taken" if stream.retention == "workqueue" else span(stream.max_age_s),
                limits(stream),
                stream.meaning,
            )
            for stream in layout.STREAMS
        ),
    )


def consumers() -> str:
    """The table of consumers."""
    return table(
        ("consumer", "of", "made by", "kind", "what"),
        (
            (
                f"`{consumer.name}`",
                "a bucket" if consumer.stream is None else f"`{consumer.stream}`",
                names(consumer.made_by),
                consumer.kind,
                consumer.meaning,
            )
            for consumer in layout.CONSUMERS
        ),
    )


def core() -> str:
    """The table of core subjects."""
    return table(
        ("subject", "message", "sent by", "heard by", "answer", "what"),
        (
            (
                f"`{row.subject}`",
                model(row.message),
                row.writer,
                names(row.readers),
                model(row.answer)
                + (f" on `{row.answer_subject}`" if row.answer_subject is not None else ""),
                row.meaning,
            )
            for row in layout.CORE
        ),
    )


def calls() -> str:
    """The table of calls."""
    return table(
        ("subject", "body", "answer", "headers", "what"),
        (
            (
                f"`{operation.subject}`",
                model(operation.request),
                model(operation.answer),
                ", ".join(
                    f"`{header}`"
                    for header, taken in (
                        ("Idempotency-Key", operation.changes),
                        ("If-Match", operation.conditional),
                    )
                    if taken
                )
                or "-",
                operation.summary,
            )
            for operation in OPERATIONS
        ),
    )


def events() -> str:
    """The table of events."""
    ids = Ids("<endpoint_id>", "<worker_id>", "<node_id>")
    return table(
        ("subject", "type", "data", "published by", "what"),
        (
            (
                f"`{row.family.subject(ids, row.verb)}`",
                f"`{row.name}`",
                model(row.data),
                row.publisher,
                row.meaning,
            )
            for row in CATALOGUE.values()
        ),
    )


def users() -> str:
    """The table of NATS users."""
    rows = (*layout.BUCKETS, *layout.STREAMS)

    def listed(held: Iterable[Bucket | Stream]) -> str:
        return names(f"`{row.name.removeprefix('PENSTOCK_')}`" for row in held)

    def writes(service: Service, row: Bucket | Stream) -> bool:
        if isinstance(row, Bucket):
            return row.writer is service
        return service in row.writers

    services = (
        (
            f"`{service}`",
            listed(row for row in rows if writes(service, row)),
            listed(row for row in rows if service in row.readers),
        )
        for service in Service
    )
    calls = {INTEGRATION: [subjects.CALLS_ALL], INTEGRATION_READER: [*subjects.CALLS_READING]}
    others = (
        (
            f"`{user}`",
            f"calls: {names(f'`{c}`' for c in allowed)}",
            f"hears `{subjects.EVENTS_ALL}`",
        )
        for user, allowed in calls.items()
    )
    return table(
        ("user", "writes", "reads, beside what it writes"),
        (*services, *others, (f"`{OPERATOR}`", "everything", "everything")),
    )


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            HEAD,
            "## Calls",
            "",
            f"Request and reply in core NATS, shared by the apis (queue group `{subjects.CALLS_QUEUE}`).",
            "",
            calls(),
            "",
            "## Events",
            "",
            f"In the stream `{subjects.EVENTS}`; the attributes are headers `ce-…`, the data the payload.",
            "",
            events(),
            "",
            "## Buckets",
            "",
            "A bucket B is the stream `KV_B` over the subjects `$KV.B.<key>`, with one message a key.",
            "",
            buckets(),
            "",
            "## Streams",
            "",
            streams(),
            "",
            "## Consumers",
            "",
            consumers(),
            "",
            "## Core subjects between services",
            "",
            "Not stored: every protocol on them makes up for what is lost.",
            "",
            core(),
            "",
            "## Users",
            "",
            "What the server lets each NATS user do, without `PENSTOCK_` and beside the core subjects above:",
            "[ADR 19](adr/0019-each-service-has-its-own-nats-user.md).",
            "",
            users(),
            "",
        ]
    )


if __name__ == "__main__":
    (HERE / "subjects.md").write_text(page())
