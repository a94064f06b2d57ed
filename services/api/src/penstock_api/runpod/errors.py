"""Errors as RunPod's clients know them: `error`, `status` [pure]."""

from penstock_api.problems import RefusedError
from penstock_client.documents import Document


class RunpodError(Document):
    """An error of the RunPod API."""

    error: str
    #: the HTTP status
    status: int


def runpod_error(error: RefusedError, status: int) -> RunpodError:
    """The refusal in their form; every problem stands in the text."""
    told = [f"{p.pointer[1:].replace('/', '.') or 'body'} {p.message}" for p in error.problems]
    return RunpodError(error="; ".join([str(error), *told]), status=status)
