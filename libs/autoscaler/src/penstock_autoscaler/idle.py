"""Who goes when fewer workers are needed: idle ones, the longest idle first, never a busy one."""

from collections.abc import Iterable

from penstock_autoscaler.decide import Decision


def pick_idle(
    idle_s: Iterable[tuple[str, float]], n_workers: int, decision: Decision, timeout_s: float
) -> list[str]:
    """Workers that may stop.

    Args:
        idle_s: (worker, seconds without a request) of those that hold no request now.
        n_workers: workers that count against the limits, busy ones and starting ones included.
        decision: what the autoscaler said.
        timeout_s: `workers.idle_timeout_s`.

    Returns:
        Those idle for the timeout, down to `decision.desired`; beyond them any idle one, down to
        `decision.kept`: so many were not needed at any time within the timeout.
    """
    going: list[str] = []
    for name, seconds in sorted(idle_s, key=lambda w: (-w[1], w[0])):
        left = n_workers - len(going)
        unneeded = decision.kept is not None and left > max(decision.kept, decision.desired)
        if (left > decision.desired and seconds >= timeout_s) or unneeded:
            going.append(name)
    return going
