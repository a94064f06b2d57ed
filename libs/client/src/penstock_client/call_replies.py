"""What a worker answered, and what the router says of how it came [pure]."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock_client.call_errors import WORKER_HEADER


@dataclass(frozen=True, slots=True)
class CallHead:
    """The head of a worker's answer."""

    #: of HTTP; the worker's own, errors included
    status: int
    #: names in lower case
    headers: Mapping[str, str]

    @property
    def is_ok(self) -> bool:
        """Whether the worker says that it went well."""
        return self.status < 400

    @property
    def worker_id(self) -> str:
        """The worker that answered."""
        return self.headers[WORKER_HEADER]

    @property
    def request_id(self) -> str:
        """Under which routers and workers know the request."""
        return self.headers.get("x-request-id", "")

    @property
    def queue_s(self) -> float:
        """Seconds that the request waited for a slot."""
        return float(self.headers.get("x-penstock-queue-ms", "0")) / 1000

    @property
    def is_cold_start(self) -> bool:
        """Whether no worker ran when the request came."""
        return self.headers.get("x-penstock-cold-start") == "1"


@dataclass(frozen=True, slots=True)
class CallReply:
    """A worker's answer, whole."""

    head: CallHead
    body: bytes

    @property
    def status(self) -> int:
        """Of HTTP; the worker's own, errors included."""
        return self.head.status

    @property
    def text(self) -> str:
        """The body as text in UTF-8; what is none shows as U+FFFD."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:  # noqa: ANN401 - a worker answers what it likes
        """The body as parsed JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)
