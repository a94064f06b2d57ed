"""Answers the api's question whether this router's tables show a write.

The api answers its caller only then, so that who creates an endpoint and calls it at once is not
told that there is none. Nothing is owed: a question that is not answered costs the api's caller a
short wait.
"""

from collections.abc import Callable
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.messages import Sight
from penstock_common.nats.connection import Received
from penstock_router.slot_protocol.wire import Wire, decode

#: Nobody waits for an answer for so long.
_KEEP_S: Final = 5.0


class Sightings:
    """The questions that wait for their row."""

    def __init__(
        self, wire: Wire, router_id: str, shows: Callable[[Sight], bool], clock: Clock
    ) -> None:
        """Nobody has asked.

        Args:
            wire: to the api.
            router_id: of this router.
            shows: whether the tables show this write now.
            clock: for questions that nobody waits for any more.
        """
        self._wire = wire
        self._router_id = router_id
        self._shows = shows
        self._clock = clock
        #: (bucket, key) → (question, where the answer goes, when it came)
        self._open: dict[tuple[str, str], list[tuple[Sight, str, float]]] = {}

    @property
    def open(self) -> int:
        """Questions that wait."""
        return sum(map(len, self._open.values()))

    async def start(self) -> None:
        """Listen for questions.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        await self._wire.listen_raw(subjects.router_sight(self._router_id), self.on_question)

    def on_question(self, received: Received) -> None:
        """The api asks."""
        sight = decode(received, Sight)
        if sight is None or not received.reply:
            return
        if self._shows(sight):
            self._wire.answer(received.reply)
            return
        waiting = self._open.setdefault((sight.bucket, sight.key), [])
        waiting.append((sight, received.reply, self._clock.monotonic()))

    def look(self, bucket: str, key: str) -> None:
        """This row has changed, and what follows from it was done."""
        waiting = self._open.pop((bucket, key), None)
        if waiting is None:
            return
        left = []
        for sight, reply, asked_at in waiting:
            if self._shows(sight):
                self._wire.answer(reply)
            else:
                left.append((sight, reply, asked_at))
        if left:
            self._open[bucket, key] = left

    def tick(self, now: float) -> None:
        """Forget old questions; to be called once a second."""
        for row, waiting in tuple(self._open.items()):
            waiting[:] = [question for question in waiting if now - question[2] < _KEEP_S]
            if not waiting:
                del self._open[row]
