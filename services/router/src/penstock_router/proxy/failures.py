"""How a request fails on its way: what the client is told."""

from penstock_router.admission import Refusal
from penstock_router.proxy.heads import HttpError
from penstock_router.proxy.upstream import BrokenError, OverloadedError, UnreachableError
from penstock_router.settings import RouterSettings


def body_too_large(most: int) -> HttpError:
    """The error of a body beyond `max_body_bytes`."""
    detail = f"The request's body is longer than {most} bytes (max_body_bytes)."
    return HttpError(413, "body_too_large", detail)


def too_many_connections(most: int) -> Refusal:
    """The client's connection is one too many."""
    detail = f"This router has as many connections as it takes: {most} (max_connections)."
    return Refusal(503, "too_many_connections", detail, retry_after_s=1)


def overloaded(error: OverloadedError) -> Refusal:
    """The router itself cannot."""
    return Refusal(503, error.error_type, str(error), retry_after_s=1)


def bad_gateway(error: UnreachableError | BrokenError) -> Refusal:
    """The worker failed."""
    return Refusal(502, error.error_type, str(error))


def body_timeout(settings: RouterSettings) -> Refusal:
    """The client paused for too long."""
    limit_s = settings.body_idle_timeout_s
    detail = f"The request's body paused for {limit_s:g} s (body_idle_timeout_s)."
    return Refusal(408, "body_timeout", detail)


def worker_timeout(what: str, settings: RouterSettings, timeout_s: float) -> Refusal:
    """The worker took too long.

    Args:
        what: was due: `first_byte`, `stream` or `total`.
        settings: have the limits of the first two.
        timeout_s: the limit of the third.
    """
    if what == "first_byte":
        detail = (
            f"The worker did not begin its answer within {settings.first_byte_timeout_s:g} s"
            " (first_byte_timeout_s)."
        )
        return Refusal(504, "first_byte_timeout", detail)
    if what == "stream":
        detail = (
            f"The worker paused in its answer for {settings.stream_idle_timeout_s:g} s"
            " (stream_idle_timeout_s)."
        )
        return Refusal(504, "stream_idle_timeout", detail)
    detail = f"The worker did not answer within {timeout_s:g} s (workers.request_timeout_s)."
    return Refusal(504, "request_timeout", detail)
