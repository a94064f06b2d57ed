"""How a command ends when it cannot do what it was asked: lines on stderr and an exit code."""

import enum
from typing import Self


class ExitCode(enum.IntEnum):
    """Exit codes of every command."""

    #: for people: docs/cli.md shows it
    meaning: str

    DONE = 0, "done"
    REFUSED = 1, "the api refused, what was waited for cannot come, or a check found a problem"
    USAGE = 2, "the command line, a file that it names, or the configuration is wrong"
    UNREACHABLE = 3, "the api cannot be reached, or what answers is none"
    TIMEOUT = 4, "what was waited for did not come in time"
    NOT_FOUND = 5, "there is nothing of that name"
    DENIED = 6, "there is no API key, or it may not do this"
    NOT_SERVING = 7, "it was deployed, and does not serve as it was"
    WOULD_CHANGE = 8, "`deploy --dry-run`: something would change"
    INTERRUPTED = 130, "interrupted with Ctrl-C"

    def __new__(cls, code: int, meaning: str) -> Self:
        """A code with what it means."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class CliError(Exception):
    """The command ends with these lines on stderr and this code."""

    def __init__(self, *lines: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__("\n".join(lines))
        self.code = code
