"""Where a worker accepts connections [pure]."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a worker accepts connections, as its own network sees it."""

    host: str
    port: int

    @property
    def for_itself(self) -> bool:
        """Whether nobody outside its own network reaches it."""
        return self.host == "::1" or self.host.startswith("127.")
