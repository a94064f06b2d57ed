"""A canary: the present revision gets a share of the traffic, an earlier one the rest [pure].

The record then tells both (`EndpointRecord.canary`). One ends by being promoted, when the present
revision gets everything, or aborted, when what the stable one runs does, as a new revision. Until
then nothing else that makes a revision is taken (docs/adr/0017).
"""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from penstock_client.documents import CanaryRequest
from penstock_common.errors import InvalidDocumentError, PenstockError, Problem
from penstock_common.messages import Canary, EndpointRecord
from penstock_common.specs import EndpointSpec, with_what_runs


class CanaryRunningError(PenstockError):
    """A canary shares the traffic; promote or abort it first."""

    error_type: ClassVar[str] = "canary_running"
    status_hint: ClassVar[int] = 409


class NoCanaryError(PenstockError):
    """No canary shares the traffic of this endpoint."""

    error_type: ClassVar[str] = "no_canary"
    status_hint: ClassVar[int] = 409


def refuse_canary(record: EndpointRecord) -> None:
    """Nothing, when no canary shares the traffic.

    Raises:
        CanaryRunningError: one does.
    """
    if record.canary is not None:
        raise CanaryRunningError


def plan_canary(
    record: EndpointRecord,
    request: CanaryRequest,
    change: Callable[[EndpointRecord, object], EndpointRecord],
    *,
    now: datetime,
) -> EndpointRecord:
    """The record with a canary begun, or with another share for the one that runs.

    Args:
        record: the endpoint now.
        request: the share, and for a new canary what it changes.
        change: gives the record with a merge patch applied (`plan_change`).
        now: the instant of the change.

    Raises:
        CanaryRunningError: one runs, and the request brings a change.
        InvalidDocumentError: none runs and the request brings no change of what runs, or a wrong one.
        EndpointDeletingError: the endpoint is being deleted.
    """
    running = record.canary
    if running is not None:
        if request.change is not None:
            raise CanaryRunningError
        change(record, {})  # refuses an endpoint that is being deleted
        if running.percent == request.percent:
            return record
        canary = running.model_copy(update={"percent": request.percent})
        return record.model_copy(update={"canary": canary, "updated_at": now})
    if request.change is None:
        raise InvalidDocumentError([Problem("/change", "say what the canary changes")])
    try:
        changed = change(record, request.change)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(
            [Problem(f"/change{p.pointer}", p.message) for p in error.problems]
        ) from None
    if changed.revision == record.revision:
        told = "changes nothing that runs, so there is nothing to compare; use PATCH"
        raise InvalidDocumentError([Problem("/change", told)])
    canary = Canary(
        percent=request.percent,
        stable=record.revision,
        same_as=record.same_as,
        spec=record.spec,
    )
    return changed.model_copy(update={"canary": canary})


def plan_promotion(record: EndpointRecord, *, now: datetime) -> EndpointRecord:
    """The record whose present revision gets all traffic.

    Raises:
        NoCanaryError: no canary runs.
    """
    if record.canary is None:
        raise NoCanaryError
    return record.model_copy(update={"canary": None, "updated_at": now})


def plan_abort(record: EndpointRecord, *, why: str | None, now: datetime) -> EndpointRecord:
    """The record with a new revision that runs what the stable one does, and gets all traffic.

    Args:
        record: the endpoint now.
        why: how the canary failed; None = somebody asked for the abort.
        now: the instant of the change.

    Raises:
        NoCanaryError: no canary runs.
    """
    canary = record.canary
    if canary is None:
        raise NoCanaryError
    return go_back(record, canary.spec, (canary.stable, *canary.same_as), why=why, now=now)


def go_back(
    record: EndpointRecord,
    past: EndpointSpec,
    same_as: tuple[int, ...],
    *,
    why: str | None,
    now: datetime,
) -> EndpointRecord:
    """The record with a new revision that runs what the revisions `same_as` ran, and no canary."""
    return record.model_copy(
        update={
            "spec": with_what_runs(record.spec, past),
            "revision": record.revision + 1,
            "revision_cause": "rolled_back",
            "revision_why": why,
            "revised_at": now,
            "same_as": same_as,
            "canary": None,
            "updated_at": now,
        }
    )
