"""What a person reads when the client could not do it: what is wrong, and the next step [pure]."""

import difflib
import re
from collections.abc import Sequence
from typing import Final

from penstock_cli.exits import CliError, ExitCode
from penstock_cli.input.endpoint_flags import flag_of
from penstock_client.errors import ApiError, NotServingError, UnreachableError, WaitTimeoutError
from penstock_common.errors import PenstockError

#: Reason of a 404 → the command that shows what there is.
LISTS: Final = {
    "endpoint_not_found": "penstock endpoint list",
    "revision_not_found": "penstock endpoint revisions APP",
    "worker_not_found": "penstock worker list",
    "node_not_found": "penstock node list",
    "volume_not_found": "penstock volume list",
    "prewarm_not_found": "penstock prewarm list",
    "registry_auth_not_found": "penstock registry list",
    "api_key_not_found": "penstock key list",
    "delivery_not_found": "penstock webhook deliveries WEBHOOK",
    "join_token_not_found": "penstock node token list",
    "webhook_not_found": "penstock webhook list",
}
_QUOTED: Final = re.compile(r"'([^']+)'")


def as_cli_error(error: PenstockError, named_by: str = "", names: Sequence[str] = ()) -> CliError:
    """The lines and the exit code for an error of the client.

    Args:
        error: what went wrong.
        named_by: who named the api, e.g. `context prod`.
        names: of what there is, for an error that names what there is not.
    """
    match error:
        case ApiError():
            return _refusal(error, named_by, names)
        case NotServingError():
            app = error.endpoint.app_name
            lines = [str(error), *(f"  | {line}" for line in error.endpoint.log_tail)]
            hint = f"see `penstock endpoint show {app}`, and its output: `penstock endpoint logs {app}`"
            return CliError(*lines, hint, code=ExitCode.REFUSED)
        case WaitTimeoutError():
            return CliError(f"{error}; wait longer with --wait-timeout", code=ExitCode.TIMEOUT)
        case UnreachableError():
            told = f" (named by {named_by})" if named_by else ""
            hint = (
                "is `penstock up` running? name another api with --api, PENSTOCK_API_URL or "
                "--context; `penstock doctor` looks further"
            )
            return CliError(f"{error}{told}; {hint}", code=ExitCode.UNREACHABLE)
        case _:
            return CliError(str(error), code=ExitCode.REFUSED)


def _refusal(error: ApiError, named_by: str, names: Sequence[str]) -> CliError:
    lines = [f"{error}{_next_step(error, named_by, names)}"]
    for item in error.problem.errors:
        field = item.pointer.strip("/").replace("/", ".") or "document"
        flag = flag_of(item.pointer)
        lines.append(f"  {field}{f' ({flag})' if flag else ''}: {item.message}")
    codes = {401: ExitCode.DENIED, 403: ExitCode.DENIED, 404: ExitCode.NOT_FOUND}
    return CliError(*lines, code=codes.get(error.status, ExitCode.REFUSED))


def _next_step(error: ApiError, named_by: str, names: Sequence[str]) -> str:
    match error.status:
        case 401:
            told = f" (the api was named by {named_by})" if named_by else ""
            return (
                f"{told}; set PENSTOCK_API_KEY, name the directory with its admin.key with --data, "
                "or a context with --context; an admin makes keys with `penstock key create`"
            )
        case 403:
            return "; an admin makes keys that may with `penstock key create NAME --scope …`"
        case 404:
            nearest = nearest_name(str(error), names)
            meant = f"; did you mean '{nearest}'?" if nearest else ";"
            shows = LISTS.get(error.reason)
            return f"{meant} `{shows}` shows what there is" if shows else ""
        case 429:
            return "; try again in a moment"
        case 503:
            return "; try again in a moment; if it stays so, `penstock doctor` looks for the cause"
        case _:
            return ""


def nearest_name(message: str, names: Sequence[str]) -> str | None:
    """The name most like the one that a message has in quotes; None = none is like it."""
    quoted = _QUOTED.search(message)
    if quoted is None:
        return None
    found = difflib.get_close_matches(quoted[1], names, n=1)
    return found[0] if found else None
