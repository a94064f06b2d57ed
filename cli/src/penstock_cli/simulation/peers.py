"""Scalers of other systems, each from its published formula and defaults.

Common to all: the endpoint's min and max, and requests that wait for a worker in order (no peer's
routing is simulated, only its scaling). Where a formula needs a target of requests per worker, it is
70 % of the slots, which is Knative's default utilization.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from typing_extensions import override

from penstock_cli.simulation.ours import Penstock
from penstock_cli.simulation.view import Orders, Scaler, View, scale_to

TARGET_UTILIZATION_RATIO: Final = 0.7


def _target(view: View) -> float:
    return view.spec.workers.max_concurrency * TARGET_UTILIZATION_RATIO


class _Averages:
    """Mean load over windows, from the integral; a window counts from the first request on."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._points: deque[tuple[float, float]] = deque()

    def note(self, view: View) -> None:
        self._points.append((view.now, view.load_integral))
        while len(self._points) > 2 and self._points[1][0] <= view.now - self._longest_s:
            self._points.popleft()

    def over(self, window_s: float, view: View) -> float:
        """Mean over the window; over what there is of it if that is less."""
        begin = self._points[0]
        for point in reversed(self._points):
            if point[0] <= view.now - window_s:
                begin = point
                break
        elapsed_s = view.now - begin[0]
        if elapsed_s <= 0:
            return float(view.load)
        return (view.load_integral - begin[1]) / elapsed_s

    def clear(self) -> None:
        self._points.clear()


class _Peer(Scaler):
    waiting_period_s = math.inf

    @override
    def note_start(self, view: View, took_s: float) -> None:
        """No peer learns how long starts take."""


class KnativeKpa(_Peer):
    """Knative's pod autoscaler: a stable and a panic window over the concurrency."""

    name = "Knative KPA"
    source = "knative/serving pkg/autoscaler/scaling/autoscaler.go, config-autoscaler defaults"
    period_s = 2.0
    _STABLE_S = 60.0
    _PANIC_S = 6.0
    _PANIC_THRESHOLD_RATIO = 2.0
    _MAX_DOWN_RATE = 2.0
    #: after an idle stable window, how long the last pod stays (scale-to-zero-grace-period)
    _GRACE_S = 30.0

    def __init__(self) -> None:
        self._averages = _Averages(self._STABLE_S)
        self._panic_at: float | None = None
        self._panic_pods = 0
        self._zero_since: float | None = None

    @override
    def decide(self, view: View) -> Orders:
        """One turn of the autoscaler."""
        if not view.workers and not view.load:
            self._averages.clear()
            return scale_to(view, 0)
        self._averages.note(view)
        target, ready = _target(view), max(1, view.running)
        stable = math.ceil(self._averages.over(self._STABLE_S, view) / target)
        panic = math.ceil(self._averages.over(self._PANIC_S, view) / target)
        floor = math.floor(ready / self._MAX_DOWN_RATE)
        stable, panic = max(stable, floor), max(panic, floor)
        if panic / ready >= self._PANIC_THRESHOLD_RATIO:
            self._panic_at = view.now
        elif self._panic_at is not None and view.now - self._panic_at > self._STABLE_S:
            self._panic_at, self._panic_pods = None, 0
        desired = stable
        if self._panic_at is not None:
            self._panic_pods = max(self._panic_pods, panic, view.running)
            desired = max(stable, self._panic_pods)
        return scale_to(view, self._to_zero(view, max(desired, 1 if view.waiting else 0)))

    def _to_zero(self, view: View, desired: int) -> int:
        idle = self._averages.over(self._STABLE_S, view) == 0
        if desired and not idle:
            self._zero_since = None
            return desired
        if self._zero_since is None:
            self._zero_since = view.now
        return 0 if idle and view.now - self._zero_since >= self._GRACE_S else max(desired, 1)


class _Runpod(_Peer):
    """Workers that are idle for the idle timeout go."""

    source = "docs.runpod.io/serverless/endpoints/endpoint-configurations"
    period_s = 0.5
    waiting_period_s = 0.5

    def _idle(self, view: View, keep: int) -> Orders:
        limits = view.spec.workers
        least = max(keep, limits.min)
        idle = [
            w
            for w in view.workers
            if w.ready and not w.in_flight and view.now - w.idle_since >= limits.idle_timeout_s
        ]
        idle.sort(key=lambda w: w.idle_since)
        return Orders(stop=tuple(idle[: max(0, len(view.workers) - least)]))


class RunpodRequestCount(_Runpod):
    """`ceil((queue + in progress) / value)`; the value here is the slots of a worker."""

    name = "RunPod request count"

    @override
    def decide(self, view: View) -> Orders:
        """One turn."""
        desired = math.ceil(view.load / view.spec.workers.max_concurrency)
        if desired > len(view.workers):
            return scale_to(view, desired)
        return self._idle(view, desired)


class RunpodQueueDelay(_Runpod):
    """One more worker each time the oldest request has waited for another `value` seconds.

    How many at a time is not published; the first from zero is taken to come at once.
    """

    name = "RunPod queue delay"

    def __init__(self) -> None:
        self._passes = 0

    @override
    def decide(self, view: View) -> Orders:
        """One turn."""
        if not view.waiting:
            self._passes = 0
            return self._idle(view, 0)
        value_s = view.spec.scaling.value if view.spec.scaling.type == "queue_delay" else 4.0
        passes = int(view.oldest_wait_s / value_s)
        more = max(0, passes - self._passes)
        self._passes = passes
        return scale_to(view, max(1, len(view.workers) + more))


class RayServe(_Peer):
    """Ray Serve: the mean of ongoing requests, which must ask for a change for a while."""

    name = "Ray Serve"
    source = "ray-project/ray python/ray/serve/autoscaling_policy.py, AutoscalingConfig defaults"
    #: the loop runs every 0.1 s; what it sees comes every 10 s
    period_s = 1.0
    _PUSH_S = 10.0
    _LOOK_BACK_S = 30.0
    _UP_DELAY_S = 30.0
    _DOWN_DELAY_S = 600.0

    def __init__(self) -> None:
        self._averages = _Averages(self._LOOK_BACK_S)
        self._pushed_at = -math.inf
        self._mean = 0.0
        self._above_since: float | None = None
        self._below_since: float | None = None

    @override
    def decide(self, view: View) -> Orders:
        """One turn."""
        if not view.workers:
            self._averages.clear()
            self._above_since = self._below_since = None
            return scale_to(view, 1 if view.load else 0)
        self._averages.note(view)
        if view.now - self._pushed_at >= self._PUSH_S:
            self._pushed_at = view.now
            self._mean = self._averages.over(self._LOOK_BACK_S, view)
        current = len(view.workers)
        desired = math.ceil(self._mean / _target(view))
        if desired > current:
            self._below_since = None
            self._above_since = view.now if self._above_since is None else self._above_since
            if view.now - self._above_since >= self._UP_DELAY_S:
                self._above_since = None
                return scale_to(view, desired)
        elif desired < current:
            self._above_since = None
            self._below_since = view.now if self._below_since is None else self._below_since
            if view.now - self._below_since >= self._DOWN_DELAY_S:
                self._below_since = None
                return scale_to(view, desired)
        else:
            self._above_since = self._below_since = None
        return Orders()


class Keda(_Peer):
    """KEDA's HTTP add-on: concurrency by Kubernetes' HPA, to and from zero by KEDA."""

    name = "KEDA HTTP"
    source = "keda.sh/http-add-on concepts/scaling; kubernetes.io HPA algorithm and defaults"
    #: period of the HPA
    period_s = 15.0
    _TOLERANCE_RATIO = 0.1
    _STABILIZE_DOWN_S = 300.0
    _COOLDOWN_S = 300.0
    #: most that are added in a period: as many as there are, or four
    _UP_PODS = 4

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self._active_at = 0.0

    @override
    def decide(self, view: View) -> Orders:
        """One turn."""
        current = len(view.workers)
        if view.load:
            self._active_at = view.now
        if not current:
            self._recent.clear()
            return scale_to(view, 1 if view.load else 0)
        if not view.load and view.now - self._active_at >= self._COOLDOWN_S:
            return scale_to(view, 0)
        ratio = view.load / (_target(view) * current)
        desired = current
        if abs(ratio - 1) > self._TOLERANCE_RATIO:
            desired = max(1, math.ceil(current * ratio))
        self._recent.append((view.now, desired))
        while self._recent[0][0] < view.now - self._STABILIZE_DOWN_S:
            self._recent.popleft()
        if desired > current:
            return scale_to(view, min(desired, max(2 * current, current + self._UP_PODS)))
        return scale_to(view, min(current, max(n for _, n in self._recent)))


#: Name on the command line → a fresh scaler.
SCALERS: Final[Mapping[str, Callable[[], Scaler]]] = {
    "penstock": Penstock,
    "knative": KnativeKpa,
    "runpod-queue-delay": RunpodQueueDelay,
    "runpod-request-count": RunpodRequestCount,
    "ray-serve": RayServe,
    "keda": Keda,
}
