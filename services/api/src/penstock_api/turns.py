"""Nobody asks too often: a request takes its caller's turn, or is told when the next is there."""

import math
from typing import TYPE_CHECKING

from penstock_api.problems import RefusedError

if TYPE_CHECKING:  # the context knows the limits
    from penstock_api.context import Api


def take_turn(api: "Api", caller: str) -> None:
    """Count one request of this caller.

    Raises:
        RefusedError: 429: it has asked too often.
    """
    wait_s = api.limits.take(caller, api.clock.monotonic())
    if wait_s:
        raise RefusedError(
            429,
            "too_many_requests",
            f"more than {api.settings.rate_limit_per_s:g} requests a second; slow down",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )
