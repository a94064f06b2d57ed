"""The client's side, as an exchange sees it."""

import asyncio
from typing import Protocol

from penstock_router.admission import Refusal

#: When something is due at the latest, and what.
Due = tuple[float, str]


class Downstream(Protocol):
    """The client's connection, as an exchange uses it."""

    transport: asyncio.Transport

    def watch(self, at: float) -> None:
        """Call `expire` when something is due at this time of the loop's."""
        ...

    def update_reading(self) -> None:
        """Look whether the client's bytes are wanted."""
        ...

    def refuse(self, refusal: Refusal, request_id: str) -> None:
        """The exchange is over: answer with this refusal."""
        ...

    def end_exchange(self) -> None:
        """The exchange is over: its response was passed on whole."""
        ...

    def take_held(self) -> bytes:
        """What the client sent behind its request; once."""
        ...

    def cut(self) -> None:
        """The exchange is over: close the connection, so that the client sees a failure."""
        ...
