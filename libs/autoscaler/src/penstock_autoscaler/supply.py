"""A fluid model of how an endpoint's queue drains.

A worker with S slots and a mean service time T takes S requests the moment it is ready and S/T per
second from then on. Requests leave in order as that supply grows.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Supply:
    """Workers that run, and when others become ready."""

    slots: int
    service_time_s: float
    running: int
    #: seconds from now, ascending
    ready_in_s: tuple[float, ...]

    def with_new(self, n: int, ready_in_s: float) -> "Supply":
        """The same with `n` workers more, ready so many seconds from now."""
        ready = tuple(sorted(self.ready_in_s + (ready_in_s,) * n))
        return Supply(self.slots, self.service_time_s, self.running, ready)

    def queue_at(self, at_s: float, waiting: float, arrival_rate: float) -> float:
        """How many wait at `at_s` if `waiting` do now and `arrival_rate` per second come."""
        queue, t, workers = waiting, 0.0, self.running
        per_worker = self.slots / self.service_time_s
        for ready_s in (*(r for r in self.ready_in_s if r < at_s), at_s):
            queue = max(0.0, queue + (arrival_rate - workers * per_worker) * (ready_s - t))
            t = ready_s
            if ready_s < at_s:
                queue = max(0.0, queue - self.slots)
                workers += 1
        return queue

    def left_at(self, since_s: float, queue: float) -> float:
        """When the last of `queue` requests, waiting at `since_s`, has left; inf = never."""
        if queue <= 0:
            return since_s
        per_worker = self.slots / self.service_time_s
        t, workers = since_s, self.running + sum(r < since_s for r in self.ready_in_s)
        for ready_s in (r for r in self.ready_in_s if r >= since_s):
            rate = workers * per_worker
            if queue <= rate * (ready_s - t):
                break
            queue -= rate * (ready_s - t) + self.slots
            t, workers = ready_s, workers + 1
            if queue <= 0:
                return t
        rate = workers * per_worker
        return t + queue / rate if rate else math.inf
