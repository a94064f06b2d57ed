"""Revisions of an endpoint: filed, compared, gone back to [pure].

A record tells how its present revision came to be; a past one is filed as a `RevisionRecord` before
the next is written. Going back makes a new revision that runs what an old one ran, and leaves
everything else of the document as it is now (docs/adr/0011).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from penstock_api.canaries import go_back, plan_abort, refuse_canary
from penstock_api.endpoint_changes import EndpointDeletingError
from penstock_client.documents import RevisionDocument, SpecChange
from penstock_common.errors import PenstockError
from penstock_common.messages import EndpointRecord, EndpointStatus, RevisionRecord
from penstock_common.specs import REVISION_SECTIONS, REVISION_WORKER_FIELDS, EndpointSpec

#: Revisions of an endpoint that are kept, the present one included.
KEPT: Final = 20
#: Stands for the value of a secret.
_HIDDEN: Final = "(hidden)"


class RevisionNotFoundError(PenstockError):
    """The endpoint has no such revision, or it is not kept any more."""

    error_type: ClassVar[str] = "revision_not_found"
    status_hint: ClassVar[int] = 404


def present_revision(record: EndpointRecord) -> RevisionRecord:
    """The record's present revision, as it is filed once another follows."""
    return RevisionRecord(
        endpoint_id=record.endpoint_id,
        revision=record.revision,
        created_at=record.revised_at or record.created_at,
        cause=record.revision_cause,
        why=record.revision_why,
        same_as=record.same_as,
        spec=record.spec,
    )


def plan_rollback(
    record: EndpointRecord, past: RevisionRecord, *, why: str | None, now: datetime
) -> EndpointRecord:
    """The record with what `past` ran; `record` itself when it runs that already.

    Args:
        record: the endpoint now.
        past: one of its earlier revisions.
        why: how the present revision failed; None = somebody asked for the rollback.
        now: the instant of the change.

    Raises:
        EndpointDeletingError: the endpoint is being deleted.
        CanaryRunningError: a canary shares the traffic.
    """
    if record.deleted_at is not None:
        raise EndpointDeletingError
    if record.canary is None and record.runs(past.revision):
        return record
    refuse_canary(record)
    same_as = (past.revision, *past.same_as)
    return go_back(record, past.spec, same_as, why=why, now=now)


def plan_retreat(
    record: EndpointRecord,
    status: EndpointStatus,
    filed: Mapping[int, RevisionRecord],
    *,
    now: datetime,
) -> EndpointRecord:
    """The record gone back from a revision that cannot start; itself when there is no reason to.

    Args:
        record: the endpoint now.
        status: the scheduler's judgement, perhaps of an earlier record.
        filed: its past revisions.
        now: the instant of the change.
    """
    failed, good = status.failed_revision, status.good_revision
    if failed != record.revision or record.deleted_at is not None or record.paused:
        return record
    how = f": {status.message}" if status.message else ""
    if record.canary is not None:
        back = f"went back to revision {record.canary.stable}"
        return plan_abort(record, why=f"canary {failed} could not start, {back}{how}", now=now)
    if good is None or good not in filed:
        return record
    why = f"revision {failed} could not start, went back to revision {good}{how}"
    return plan_rollback(record, filed[good], why=why, now=now)


def previous_revision(record: EndpointRecord, filed: Mapping[int, RevisionRecord]) -> int:
    """The newest earlier revision that runs something else than the present one.

    Raises:
        RevisionNotFoundError: there is none.
    """
    others = [number for number in filed if number < record.revision and not record.runs(number)]
    if not others:
        raise RevisionNotFoundError("there is no earlier revision to go back to")
    return max(others)


def revision_documents(
    record: EndpointRecord, filed: Mapping[int, RevisionRecord]
) -> tuple[RevisionDocument, ...]:
    """The last revisions, newest first, each with its difference from the one before."""
    known = {**filed, record.revision: present_revision(record)}
    numbers = sorted((n for n in known if n <= record.revision), reverse=True)
    return tuple(
        RevisionDocument(
            revision=number,
            created_at=known[number].created_at,
            cause=known[number].cause,
            why=known[number].why,
            same_as=known[number].same_as,
            present=number == record.revision,
            changes=(
                diff_specs(known[number - 1].spec, known[number].spec)
                if number - 1 in known
                else None
            ),
        )
        for number in numbers[:KEPT]
    )


def outdated(record: EndpointRecord, filed: Sequence[int]) -> list[int]:
    """The filed revisions that are kept no longer, the record's present one counted."""
    return [number for number in filed if number <= record.revision - KEPT]


def diff_specs(old: EndpointSpec, new: EndpointSpec) -> tuple[SpecChange, ...]:
    """What differs in what runs, by JSON pointer; of secrets only the names."""
    return tuple(
        SpecChange(pointer=pointer, before=shown(pointer, was), after=shown(pointer, now))
        for pointer, was, now in differences(_what_runs(old), _what_runs(new))
    )


def differences(old: object, new: object) -> Iterator[tuple[str, Any, Any]]:
    """(JSON pointer, value before, value after) of all that differs in two documents, in order.

    A value is None where it is null or not there; an empty object counts as not there.
    """
    before, after = _flat("", old), _flat("", new)
    for pointer in sorted({*before, *after}):
        was, now = before.get(pointer), after.get(pointer)
        if was != now:
            yield pointer, was, now


def shown(pointer: str, value: object) -> object:
    """A value at this pointer as it may be shown: that of a secret is not."""
    return value and _HIDDEN if pointer.startswith("/secrets/") else value


def _what_runs(spec: EndpointSpec) -> dict[str, Any]:
    document = spec.model_dump(mode="json")
    what: dict[str, Any] = {name: document[name] for name in REVISION_SECTIONS}
    what["workers"] = {name: document["workers"][name] for name in REVISION_WORKER_FIELDS}
    return what


def _flat(pointer: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {pointer: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        step = str(name).replace("~", "~0").replace("/", "~1")
        flat |= _flat(f"{pointer}/{step}", inner)
    return flat
