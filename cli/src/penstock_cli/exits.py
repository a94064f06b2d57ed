"""How a command ends when it cannot do what it was asked: lines on stderr and an exit code."""

import enum

from penstock_cli.input.endpoint_flags import flag_of
from penstock_client.errors import ApiError, NotServingError, UnreachableError, WaitTimeoutError
from penstock_common.errors import PenstockError


class ExitCode(enum.IntEnum):
    """Exit codes of every command; `docs/http-api.md` lists them."""

    OK = 0
    #: the api refused, or what was waited for did not come
    REFUSED = 1
    #: the command line is wrong
    USAGE = 2
    #: the api cannot be reached
    UNREACHABLE = 3


class CliError(Exception):
    """The command ends with these lines on stderr and this code."""

    def __init__(self, *lines: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__("\n".join(lines))
        self.code = code


def as_cli_error(error: PenstockError) -> CliError:
    """What a person reads about an error of the client."""
    match error:
        case ApiError():
            return CliError(*_refusal(error), code=ExitCode.REFUSED)
        case NotServingError():
            lines = [str(error), *(f"  | {line}" for line in error.endpoint.log_tail)]
            return CliError(*lines, code=ExitCode.REFUSED)
        case WaitTimeoutError():
            return CliError(str(error), code=ExitCode.REFUSED)
        case UnreachableError():
            hint = "is `penstock up` running? name another api with --api or PENSTOCK_API_URL"
            return CliError(f"{error}; {hint}", code=ExitCode.UNREACHABLE)
        case _:
            return CliError(str(error), code=ExitCode.REFUSED)


def _refusal(error: ApiError) -> list[str]:
    hints = {
        401: "; set PENSTOCK_API_KEY, or name the directory with its admin.key with --data",
        503: "; try again in a moment",
    }
    lines = [f"{error}{hints.get(error.status, '')}"]
    for item in error.problem.errors:
        field = item.pointer.strip("/").replace("/", ".") or "document"
        flag = flag_of(item.pointer)
        lines.append(f"  {field}{f' ({flag})' if flag else ''}: {item.message}")
    return lines
