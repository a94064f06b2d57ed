"""Where the progress of a deployment is shown: on a terminal, in a pipe, or nowhere."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from typing_extensions import override

from penstock_cli.deployment.panel import panel
from penstock_cli.deployment.progress import Progress
from penstock_cli.output.printing import print_line
from penstock_cli.output.screen import make_console


class Screen(Protocol):
    """Shows one deployment while it goes on; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, progress: Progress, news: Sequence[str], now: float) -> None:
        """Show how it goes; `news` are the sentences that are new."""
        ...


class LivePanel:
    """A panel on a terminal, drawn over itself; its last state stays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, progress: Progress, news: Sequence[str], now: float) -> None:
        """Draw the panel."""
        width, height = self._console.size
        # A line below the panel is the cursor's.
        lines = panel(progress, now, width=width, height=height - 1)
        self._live.update(Group(*lines), refresh=True)


class Lines:
    """A plain line for each thing that changed, on stdout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def show(self, progress: Progress, news: Sequence[str], now: float) -> None:
        """Print the news."""
        for sentence in news:
            print_line(sentence)


class Nothing(Lines):
    """Shows nothing: stdout is for a document."""

    @override
    def show(self, progress: Progress, news: Sequence[str], now: float) -> None:
        """Say nothing."""


def make_screen(*, quiet: bool) -> Screen:
    """The screen that fits where stdout goes; quiet = none."""
    if quiet:
        return Nothing()
    if sys.stdout.isatty():
        return LivePanel(make_console())
    return Lines()
