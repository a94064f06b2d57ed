"""What can go wrong when a client asks the api."""

from typing import ClassVar

from penstock_client.documents import EndpointDocument, ProblemDocument
from penstock_client.documents.base import NoTagError
from penstock_common.errors import PenstockError

__all__ = [
    "ApiError",
    "DrainEndedError",
    "NoTagError",
    "NotServingError",
    "UnreachableError",
    "WaitTimeoutError",
]


class ApiError(PenstockError):
    """The api refused the request; `problem` says why."""

    error_type: ClassVar[str] = "api_refused"

    def __init__(self, problem: ProblemDocument, *, retry_after_s: float | None = None) -> None:
        self.problem = problem
        #: so long the api asks to wait before the next try; None = it does not say
        self.retry_after_s = retry_after_s
        super().__init__(problem.detail)

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self.problem.status

    @property
    def reason(self) -> str:
        """Stable name of the error, e.g. `app_name_taken`."""
        return self.problem.reason


class UnreachableError(PenstockError):
    """The api could not be asked, or what answered is no Penstock api.

    A request that was sent may have been done all the same: repeated with the same
    `idempotency_key`, it is done once.
    """

    error_type: ClassVar[str] = "api_unreachable"


class WaitTimeoutError(PenstockError):
    """What was waited for did not come in time."""

    error_type: ClassVar[str] = "wait_timeout"


class NotServingError(PenstockError):
    """The endpoint failed, or was paused or deleted, while somebody waited for it to serve."""

    error_type: ClassVar[str] = "not_serving"

    def __init__(self, endpoint: EndpointDocument) -> None:
        self.endpoint = endpoint
        why = endpoint.message or endpoint.reason
        super().__init__(f"'{endpoint.app_name}' is {endpoint.state}" + (f": {why}" if why else ""))


class DrainEndedError(PenstockError):
    """The order to drain a node was taken back while somebody waited for it to be drained."""

    error_type: ClassVar[str] = "drain_ended"
