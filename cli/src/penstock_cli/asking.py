"""One question to an api, with a client of its own."""

from collections.abc import Callable
from typing import TypeVar

from penstock_client.retrying import RetryPolicy
from penstock_client.sync.client import PenstockSyncClient

T = TypeVar("T")


def ask(
    url: str,
    key: str,
    question: Callable[[PenstockSyncClient], T],
    *,
    timeout_s: float = 30.0,
    retry: RetryPolicy | None = None,
) -> T:
    """What `question` answers; it may call the client several times.

    Args:
        url: of the api.
        key: an API key.
        question: e.g. `lambda client: client.nodes.show("node-a")`.
        timeout_s: longest wait for one answer of the api.
        retry: how often requests are sent again; None = as the client does.

    Raises:
        ApiError, UnreachableError: as the client does.
    """
    with PenstockSyncClient(url, key, timeout_s=timeout_s, retry=retry or RetryPolicy()) as client:
        return question(client)
