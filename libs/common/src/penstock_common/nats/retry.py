"""How long to wait between tries: fast at first, then ever slower, with jitter. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Growing pauses between tries of one thing.

    The n-th pause is `first_s` doubled n-1 times, at most `cap_s`, times a factor in 0.5..1 that
    the caller draws, so that many clients of one server do not return together.
    """

    first_s: float = 0.05
    cap_s: float = 2.0
    _next_s: float = 0.0

    def pause_s(self, ratio: float) -> float:
        """The next pause in seconds; `ratio` in 0..1 is the jitter."""
        base = self._next_s or self.first_s
        self._next_s = min(base * 2, self.cap_s)
        return min(base, self.cap_s) * (0.5 + ratio / 2)

    def reset(self) -> None:
        """It worked: begin with the short pauses again."""
        self._next_s = 0.0


def patience() -> Backoff:
    """How long to wait for an answer of JetStream's API, from try to try: 2, 4, then 5 s.

    On a cluster what is asked while leaders change, or falls to a server that just died, is never
    answered; so the first wait is short. A server that many ask at once gets longer.
    """
    return Backoff(first_s=2.0, cap_s=5.0)
