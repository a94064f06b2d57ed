"""Refusals as RFC 9457 problem details."""

import json
from http import HTTPStatus
from typing import Final

from penstock_router.admission import Refusal

CONTENT_TYPE: Final = "application/problem+json"


def problem_body(refusal: Refusal) -> bytes:
    """The JSON body of a refusal: type, title, status, detail and reason.

    Of the queue `queue_length` and `position`, where they say something.
    """
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "reason": refusal.reason,
    }
    if refusal.queue_length is not None:
        body["queue_length"] = refusal.queue_length
    if refusal.position is not None:
        body["position"] = refusal.position
    return json.dumps(body).encode()


def problem_headers(refusal: Refusal) -> list[tuple[str, str]]:
    """The header fields that go with it."""
    fields = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
    if refusal.retry_after_s is not None:
        fields.append(("Retry-After", str(refusal.retry_after_s)))
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        fields.append(("WWW-Authenticate", 'Bearer realm="penstock"'))
    return fields
