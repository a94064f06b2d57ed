"""How an error is told to whom: in the words of the API that was asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aiohttp import web

from penstock_api.novita.errors import NovitaError, novita_error
from penstock_api.problems import CONTENT_TYPE, RefusedError, problem_document, respond
from penstock_api.runpod.errors import RunpodError, runpod_error
from penstock_client.documents import Document, ProblemDocument


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """The form of one API's errors."""

    media_type: str
    model: type[Document]
    #: the answer's document, given the status that it is sent with
    document: Callable[[RefusedError, int], Document]
    #: our status → theirs, where they differ
    statuses: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def status(self, ours: int) -> int:
        """The status that this API's clients know."""
        return self.statuses.get(ours, ours)


NATIVE: Final = ErrorForm(CONTENT_TYPE, ProblemDocument, lambda error, _: problem_document(error))
NOVITA: Final = ErrorForm(
    "application/json", NovitaError, novita_error, MappingProxyType({422: 400})
)
RUNPOD: Final = ErrorForm(
    "application/json", RunpodError, runpod_error, MappingProxyType({422: 400})
)

#: First part of a path → how its errors are told; all others natively.
_FORMS: Final[Mapping[str, ErrorForm]] = MappingProxyType(
    {"/gpu-instance/openapi/v1/": NOVITA, "/gpus/v2/": NOVITA, "/runpod/v1/": RUNPOD}
)


def form_of(path: str) -> ErrorForm:
    """The form of errors on this path, be there a route or not."""
    return next((form for first, form in _FORMS.items() if path.startswith(first)), NATIVE)


def error_response(path: str, error: RefusedError) -> web.Response:
    """The answer to a request for this path that is refused."""
    form = form_of(path)
    status = form.status(error.status)
    return respond(error, status, form.document(error, status), form.media_type)
