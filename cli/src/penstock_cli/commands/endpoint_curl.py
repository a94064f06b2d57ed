"""`penstock endpoint curl`: calls an endpoint with the system's curl, its URL and key filled in."""

import os
import shlex
import shutil
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import typer

from penstock_cli.completion import complete_endpoints
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.output.printing import print_line
from penstock_cli.session import Session, with_target

#: Everything behind APP is curl's, whatever it looks like.
CONTEXT: Final = {"allow_interspersed_args": False}
_MASKED: Final = "Authorization: Bearer ****"


class Call(NamedTuple):
    """What curl is told beside the key."""

    url: str
    options: tuple[str, ...]
    #: false = the endpoint is public, or the caller gives credentials
    with_key: bool


@with_target
def curl(
    session: Session,
    app: Annotated[
        str,
        typer.Argument(
            metavar="APP",
            help="app_name or id.",
            show_default=False,
            autocompletion=complete_endpoints,
        ),
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH] [CURL OPTIONS]...",
            help="Path behind the endpoint's URL, and what curl is to be told as it stands.",
            show_default=False,
        ),
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the command, without the key, and do nothing.")
    ] = False,
) -> None:
    """Call an endpoint with curl. Options of penstock's own stand before APP.

    penstock endpoint curl llama /v1/models

    penstock endpoint curl llama /v1/chat/completions --json @request.json
    """
    endpoint = session.ask(lambda client: client.endpoints.show(app))
    call = plan_call(endpoint.url, rest or (), public=endpoint.public)
    if only_print:
        key = ("-H", _MASKED) if call.with_key else ()
        print_line(shlex.join(["curl", *key, call.url, *call.options]))
        return
    program = shutil.which("curl")
    if program is None:
        raise CliError(
            "there is no curl in PATH; install it, or see the request with --print",
            code=ExitCode.REFUSED,
        )
    words = ["curl"]
    if call.with_key:
        words += ["--config", _config_with(session.find_target().key)]
    os.execv(program, [*words, call.url, *call.options])  # noqa: S606  # no shell is what is wanted


def plan_call(url: str, rest: Sequence[str], *, public: bool) -> Call:
    """The call that this command line means.

    Args:
        url: of the endpoint.
        rest: what stands behind APP: a path, unless it begins with a hyphen, then curl's options;
            `--` may stand before these.
        public: whether the endpoint asks for no key. What is sent to one goes on to its workers, so
            it gets none.
    """
    words, path = list(rest), ""
    if words and not words[0].startswith("-"):
        path = words.pop(0)
        if not path.startswith(("/", "?")):
            path = f"/{path}"
    if words and words[0] == "--":
        del words[0]
    return Call(url + path, tuple(words), not public and not _has_credentials(words))


def _has_credentials(words: Sequence[str]) -> bool:
    """Whether a header of these options is `Authorization`."""
    for place, word in enumerate(words):
        if word in ("-H", "--header"):
            header = words[place + 1] if place + 1 < len(words) else ""
        else:
            header = word.removeprefix("-H") if word.startswith("-H") else ""
        if header.lower().startswith("authorization:"):
            return True
    return False


def _config_with(key: str) -> str:
    """The name of a file with curl's options for this key, which only curl can read.

    It is a pipe that curl inherits: the key stands in no process list and on no disk, and standard
    input stays the caller's.
    """
    reading, writing = os.pipe()
    os.write(writing, f'header = "Authorization: Bearer {key}"\n'.encode())
    os.close(writing)
    os.set_inheritable(reading, True)
    return f"/dev/fd/{reading}"
