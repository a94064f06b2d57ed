"""Probes of one worker: until it is healthy, then as long as it is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from penstock_common.clock import Clock
from penstock_common.specs import EndpointSpec
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.workers.health_answers import (
    Answer,
    Diagnosis,
    Question,
    Reply,
    Sight,
    diagnose,
)
from penstock_node_agent.workers.probes import ProbeTarget, asked, readiness_interval, speaks_tls

#: A worker that is not healthy so long after its start is told about.
_FIRST_TOLD_S: Final = 1.0
#: It is told about again after at least so long, and after this share of the time that it started
#: ago: what changes at each probe makes few writes.
_LEAST_PAUSE_S: Final = 1.0
_PAUSE_RATIO: Final = 0.05
#: Longest look at where it listens, and at whether it speaks TLS; the next probe waits for it.
_LOOK_S: Final = 0.5
#: The same of a worker that is given up, for what it is remembered by; an engine may be busy.
_LAST_LOOK_S: Final = 5.0


@dataclass(slots=True)
class Pace:
    """When there is time to tell of a worker that is not healthy yet."""

    next_s: float = _FIRST_TOLD_S

    def due(self, elapsed_s: float) -> bool:
        """Whether it is time, `elapsed_s` seconds after the start; if so, not again soon."""
        if elapsed_s < self.next_s:
            return False
        self.next_s = elapsed_s + max(_LEAST_PAUSE_S, elapsed_s * _PAUSE_RATIO)
        return True


@dataclass(frozen=True, slots=True)
class HealthWatch:
    """Asks one worker again and again."""

    target: ProbeTarget
    question: Question
    spec: EndpointSpec
    clock: Clock
    #: gives where it listens; None = not known
    listeners: Callable[[], Awaitable[tuple[Listener, ...] | None]]
    #: whether a failed probe says nothing against the worker: its engine, and the way to it, is away
    excused: Callable[[], bool]
    #: called when its port accepts a connection, also again
    on_listening: Callable[[], object]
    #: called with why it is not healthy yet, now and then, also with the same again
    on_unready: Callable[[Diagnosis], object]
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
        last: Answer | None = None
        pace, probes = Pace(), 0
        while (elapsed := clock.monotonic() - begun) < spec.workers.start_timeout_s:
            left_s = spec.workers.start_timeout_s - elapsed
            async with asked(self.target, min(spec.health.timeout_s, left_s)) as answer:
                if answer.listening:
                    self.on_listening()
                if answer.healthy:
                    self.on_healthy()
            if answer.healthy:
                return None
            probes += 1
            # A probe that the deadline cut short says nothing against what an earlier one said.
            cut_short = answer.reply is Reply.TIMED_OUT and left_s < spec.health.timeout_s
            last = last if last is not None and cut_short else answer
            if not self.excused() and pace.due(elapsed):
                self.on_unready(await self._diagnosis(last))
            await asyncio.sleep(min(readiness_interval(elapsed), left_s))
            if self.excused():  # the time that this took does not count
                begun += clock.monotonic() - begun - elapsed
        late = f"not healthy within {spec.workers.start_timeout_s:g} s"
        if last is None:
            return f"{late}; no probe was made"
        why = await self._diagnosis(last, _LAST_LOOK_S)
        probe = "the only probe" if probes == 1 else f"the last of {probes} probes"
        return f"{late}; {probe}: {why.problem}; {why.fix}"

    async def until_unhealthy(self) -> str:
        """Probe until too many probes in a row fail; gives what to say then."""
        health = self.spec.health
        failures, last = 0, Answer(Reply.ANSWERED)
        while failures < health.failure_threshold:
            await asyncio.sleep(health.interval_s)
            async with asked(self.target, health.timeout_s) as answer:
                failures = 0 if answer.healthy or self.excused() else failures + 1
            last = answer
        why = await self._diagnosis(last, _LAST_LOOK_S)
        times = "probe" if failures == 1 else "probes in a row"
        return f"{failures} {times} failed; the last: {why.problem}"

    async def _diagnosis(self, answer: Answer, look_s: float = _LOOK_S) -> Diagnosis:
        """Why it is not healthy, after a look where the answer alone does not say."""
        if not answer.is_riddle or self.excused():
            return diagnose(self.question, answer)
        tls = answer.reply is not Reply.REFUSED and await speaks_tls(self.target.address, look_s)
        listeners = None
        try:
            async with asyncio.timeout(look_s):
                listeners = await self.listeners()
        except TimeoutError:
            pass  # an engine that is slow to tell: the sentence does without
        return diagnose(self.question, answer, Sight(listeners, tls))
