"""Which image each revision of an endpoint runs: the digest that its first worker found.

The scheduler keeps the first digest that it sees of a revision, in the endpoint's status, and puts
it into every later assignment. Two workers that start at once may still find different ones, when
the tag moves just then; the one that lost strays, and is replaced like a worker of an old revision.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from penstock_common.messages import EndpointRecord
from penstock_scheduler.snapshot import Worker

#: So many revisions' digests are kept, as many as the api keeps revisions.
KEPT: Final = 20


def learn_pins(
    pins: Mapping[int, str], workers: Iterable[Worker], record: EndpointRecord
) -> Mapping[int, str]:
    """The digests by revision, with what these workers tell; the same mapping when that is nothing.

    Args:
        pins: what is known; never changed.
        workers: of one endpoint.
        record: the endpoint.
    """
    told = [
        (w.assignment.assigned_at, w.id, w.assignment.revision, w.status.image_digest)
        for w in workers
        if w.status is not None
        and w.status.image_digest is not None
        and w.assignment.revision not in pins
    ]
    outdated = [n for n in pins if n <= record.revision - KEPT and n not in record.same_as]
    if not told and not outdated:
        return pins
    learnt = {n: digest for n, digest in pins.items() if n not in outdated}
    for _, _, revision, digest in sorted(told):
        learnt.setdefault(revision, digest)
    return learnt


def pin_of(record: EndpointRecord, pins: Mapping[int, str]) -> str | None:
    """The digest that workers of the present revision run; None = none has told yet."""
    found = (pins.get(revision) for revision in (record.revision, *record.same_as))
    return next((digest for digest in found if digest is not None), None)


def strays(worker: Worker, pin: str | None) -> bool:
    """Whether a worker runs another image than its revision does."""
    told = worker.status.image_digest if worker.status is not None else None
    return pin is not None and told is not None and told != pin
