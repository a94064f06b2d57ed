"""Probes of one worker: until it is healthy, then as long as it is."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from penstock_common.clock import Clock
from penstock_common.specs import EndpointSpec
from penstock_node_agent.workers.probes import ProbeTarget, asked, readiness_interval


@dataclass(frozen=True, slots=True)
class HealthWatch:
    """Asks one worker again and again."""

    target: ProbeTarget
    spec: EndpointSpec
    clock: Clock
    #: whether a failed probe says nothing against the worker: its engine, and the way to it, is away
    excused: Callable[[], bool]
    #: called when its port accepts a connection, also again
    on_listening: Callable[[], object]
    #: called when it is healthy for the first time
    on_healthy: Callable[[], object]

    async def until_ready(self, started_at: datetime) -> str | None:
        """Probe until it is healthy; gives what to say when it was not in time, else None.

        Args:
            started_at: UTC instant from which `start_timeout_s` counts.
        """
        spec, clock = self.spec, self.clock
        ran_s = max(0.0, (clock.utc() - started_at).total_seconds())
        begun = clock.monotonic() - ran_s
        problem = ""
        while (elapsed := clock.monotonic() - begun) < spec.workers.start_timeout_s:
            left_s = spec.workers.start_timeout_s - elapsed
            async with asked(self.target, min(spec.health.timeout_s, left_s)) as answer:
                if answer.listening:
                    self.on_listening()
                if answer.healthy:
                    self.on_healthy()
            if answer.healthy:
                return None
            # A probe that the deadline cut short says nothing against what an earlier one said.
            cut_short = answer.timed_out and left_s < spec.health.timeout_s
            problem = problem if problem and cut_short else answer.problem
            await asyncio.sleep(min(readiness_interval(elapsed), left_s))
            if self.excused():  # the time that this took does not count
                begun += clock.monotonic() - begun - elapsed
        last = problem or "none was made"
        return f"not healthy within {spec.workers.start_timeout_s:g} s; the last probe: {last}"

    async def until_unhealthy(self) -> str:
        """Probe until too many probes in a row fail; gives what to say then."""
        health = self.spec.health
        failures, problem = 0, ""
        while failures < health.failure_threshold:
            await asyncio.sleep(health.interval_s)
            async with asked(self.target, health.timeout_s) as answer:
                failures = 0 if answer.healthy or self.excused() else failures + 1
                problem = answer.problem
        times = "probe" if failures == 1 else "probes in a row"
        return f"{failures} {times} failed; the last: {problem}"
