"""What can go wrong when an endpoint is called, each with what the router says of it [pure]."""

import json
from datetime import datetime
from typing import ClassVar, Final

from pydantic import ValidationError

from penstock_client.documents.calls import CallProblemDocument
from penstock_client.retrying import Failure, parse_retry_after_s
from penstock_client.wire import Reply, WireError
from penstock_common.errors import PenstockError

#: Set by the router on what a worker answers, and on nothing else.
WORKER_HEADER: Final = "x-penstock-worker"
_PROBLEM: Final = "application/problem+json"


class CallError(PenstockError):
    """No worker answered the request to an endpoint."""

    error_type: ClassVar[str] = "call_failed"


class CallBrokenError(CallError):
    """The router cannot be reached, or the connection broke; a worker may have seen the request."""

    error_type: ClassVar[str] = "call_broken"


class CallRefusedError(CallError):
    """The router answered in a worker's place; `problem` says why (docs/router.md)."""

    error_type: ClassVar[str] = "call_refused"

    def __init__(self, problem: CallProblemDocument, retry_after_s: float | None) -> None:
        self.problem = problem
        #: after so long another try makes sense; None = the router does not say that it helps
        self.retry_after_s = retry_after_s
        super().__init__(problem.detail)

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self.problem.status

    @property
    def reason(self) -> str:
        """Stable name of the error, e.g. `queue_full`."""
        return self.problem.reason


class CallForbiddenError(CallRefusedError):
    """There is no key, or it may not call this endpoint."""

    error_type: ClassVar[str] = "call_forbidden"


class UnknownEndpointError(CallRefusedError):
    """No endpoint has this name."""

    error_type: ClassVar[str] = "unknown_endpoint"


class QueueFullError(CallRefusedError):
    """So many requests wait already as may; `problem` has their number."""

    error_type: ClassVar[str] = "queue_full"


class NoSlotError(CallRefusedError):
    """No slot came free in time, or there is no place for another worker."""

    error_type: ClassVar[str] = "no_slot"


class StartsFailError(CallRefusedError):
    """The endpoint's workers fail to start."""

    error_type: ClassVar[str] = "starts_fail"


class EndpointClosedError(CallRefusedError):
    """The endpoint is paused, or is being deleted."""

    error_type: ClassVar[str] = "endpoint_closed"


class RouterBusyError(CallRefusedError):
    """This router takes no more for a moment; another one may."""

    error_type: ClassVar[str] = "router_busy"


class WorkerFailedError(CallRefusedError):
    """A worker had the request, and broke off or took too long; it may have done its work."""

    error_type: ClassVar[str] = "worker_failed"


_BY_REASON: Final[dict[str, type[CallRefusedError]]] = {
    "missing_api_key": CallForbiddenError,
    "invalid_api_key": CallForbiddenError,
    "forbidden": CallForbiddenError,
    "unknown_endpoint": UnknownEndpointError,
    "queue_full": QueueFullError,
    "queue_timeout": NoSlotError,
    "no_capacity": NoSlotError,
    "quota_exceeded": NoSlotError,
    "crash_backoff": StartsFailError,
    "paused": EndpointClosedError,
    "deleting": EndpointClosedError,
    "router_stopping": RouterBusyError,
    "router_overloaded": RouterBusyError,
    "too_many_connections": RouterBusyError,
    "worker_unreachable": WorkerFailedError,
    "worker_disconnected": WorkerFailedError,
    "first_byte_timeout": WorkerFailedError,
    "stream_idle_timeout": WorkerFailedError,
    "request_timeout": WorkerFailedError,
}


def error_of(outcome: Reply | WireError, now: datetime) -> CallError:
    """What the caller is told when no worker answered.

    Args:
        outcome: an answer that names no worker, or how there was none.
        now: aware, for a date in `Retry-After`.
    """
    if isinstance(outcome, WireError):
        return CallBrokenError(str(outcome))
    try:
        if not outcome.headers.get("content-type", "").startswith(_PROBLEM):
            raise ValueError(outcome.headers.get("content-type"))
        problem = CallProblemDocument.of(json.loads(outcome.body))
    except (ValueError, ValidationError):
        return CallBrokenError(
            f"what answered {outcome.status} is no router of Penstock: it names no worker"
        )
    after_s = parse_retry_after_s(outcome.headers.get("retry-after"), now)
    return _BY_REASON.get(problem.reason, CallRefusedError)(problem, after_s)


def failure_of(outcome: Reply | WireError, error: CallError) -> Failure:
    """The same for the decision whether the request is sent again."""
    if isinstance(outcome, WireError):
        return Failure(maybe_done=outcome.sent)
    if not isinstance(error, CallRefusedError):
        return Failure(outcome.status)
    if isinstance(error, WorkerFailedError):
        seen = error.reason != "worker_unreachable"
        return Failure(error.status, error.reason, error.retry_after_s, maybe_done=seen)
    if error.retry_after_s is None:  # trying again will not help
        return Failure(_FINAL, error.reason)
    return Failure(error.status, error.reason, error.retry_after_s, maybe_done=False)


#: A status that no other attempt changes.
_FINAL: Final = 400
