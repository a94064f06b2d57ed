"""Who has to leave so that a worker finds a place."""

from collections.abc import Sequence
from typing import Final

from penstock_scheduler.holdings.ledger import booking_of
from penstock_scheduler.placement.cluster import Request, Trial
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.snapshot import Worker

#: Most workers tried as ones to make room.
MAX_VICTIMS: Final = 50


def find_room(draft: Draft, request: Request, candidates: Sequence[Worker]) -> list[Worker] | None:
    """Who has to leave so that this worker finds a place.

    Args:
        draft: the plan in the making.
        request: the worker that found none.
        candidates: who may leave, the first to go first.

    Returns:
        Workers to drain; [] = those that leave already make the room; None = nothing helps.
    """
    with Trial(draft.cluster) as trial:
        for booking in draft.ledger.leaving:
            trial.release(booking)
        if trial.find(request):
            return []
        released: list[Worker] = []
        for worker in candidates[:MAX_VICTIMS]:
            trial.release(booking_of(worker.assignment))
            released.append(worker)
            if place := trial.find(request):
                return [
                    w
                    for w in released
                    if w.assignment.node_id == place.node_id
                    and set(w.assignment.gpus) & set(place.gpus)
                ]
    return None
