"""Answers to calls as they travel: the documents of HTTP, its statuses only where something failed.

An error is told by the headers of NATS's own service API (ADR-32 of NATS: `Nats-Service-Error-Code`
and `Nats-Service-Error`), which its tools and clients know, and by problem details as the body.
"""

from typing import Final

from penstock_api.answers import Answer
from penstock_api.problems import CONTENT_TYPE, error_json, problem_document, refused
from penstock_common.errors import PenstockError

ERROR_CODE: Final = "Nats-Service-Error-Code"
ERROR: Final = "Nats-Service-Error"


def error_answer(error: PenstockError) -> Answer:
    """The answer to a call that is refused or has failed."""
    refusal = refused(error)
    headers = {
        **refusal.headers,
        "Content-Type": CONTENT_TYPE,
        ERROR_CODE: str(refusal.status),
        ERROR: str(refusal),
    }
    return Answer(refusal.status, headers, error_json(problem_document(refusal)).encode())
