"""Writes the second half of docs/cli.md from the code of the command: python docs/make_cli.py.

Above the mark the page is written by hand; below it stands every command with its options.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from typer.main import get_command

from penstock_cli.app import app
from penstock_cli.exits import ExitCode
from penstock_cli.late_commands import LateCommand

HERE = Path(__file__).parent
MARK: Final = (
    "<!-- From here on made by docs/make_cli.py; a test fails when it is not current. -->\n"
)
#: Options that are described once.
SHARED: Final = ("--json", "--yaml", "--context", "--api", "--data")


def page(before: str) -> str:
    """The whole page.

    Args:
        before: the page as it is; what stands above the mark is kept.
    """
    by_hand = before.partition(MARK)[0]
    return by_hand + MARK + "\n" + "\n".join(_made()) + "\n"


def _made() -> Iterator[str]:
    root: Any = get_command(app)
    yield from ("## Exit codes", "", "| exit code | meaning |", "|---|---|")
    yield from (f"| {code.value} | {code.meaning} |" for code in ExitCode)
    yield from ("", "## Options before every command", "")
    yield from _table(_shown(root))
    yield from ("", "## Shared options", "", "Of every command that asks the api.", "")
    listing = root.commands["endpoint"].commands["list"].load()
    yield from _table(p for p in _shown(listing) if _is_shared(p))
    yield from ("", "## Commands", "", "| command | |", "|---|---|")
    for words, command in _commands(root, "penstock"):
        anchor = words.replace(" ", "-")
        yield f"| [`{words}`](#{anchor}) | {command.row.summary.rstrip('.')} |"
    for words, command in _commands(root, "penstock"):
        yield from _section(words, command.load())


def _commands(group: Any, words: str) -> Iterator[tuple[str, LateCommand]]:  # noqa: ANN401  # click's
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def _section(words: str, command: Any) -> Iterator[str]:  # noqa: ANN401  # click's
    params = list(_shown(command))
    names = "".join(
        f" {_metavar(p)}" if p.required else f" [{_metavar(p)}]" for p in params if _is_argument(p)
    )
    yield from ("", f"### {words}", "", f"`{words}{names}`", "")
    yield from _paragraphs(command.help)
    shared = {param.opts[-1] for param in params if _is_shared(param)}
    asks = shared >= {"--context", "--api", "--data"}
    own = [param for param in params if not (asks and _is_shared(param))]
    if own:
        yield ""
        yield from _table(own)
    if asks:
        but = "" if shared == set(SHARED) else " but for --json and --yaml"
        yield from ("", f"And the [shared options](#shared-options){but}.")


def _table(params: Iterable[Any]) -> Iterator[str]:
    yield from ("| | meaning | default |", "|---|---|---|")
    for param in params:
        yield f"| {_name(param)} | {_meaning(param)} | {_default(param)} |"


def _shown(command: Any) -> Iterator[Any]:  # noqa: ANN401  # click's
    return (param for param in command.params if not getattr(param, "hidden", False))


def _is_argument(param: Any) -> bool:  # noqa: ANN401  # click's
    return bool(param.param_type_name == "argument")


def _is_shared(param: Any) -> bool:  # noqa: ANN401  # click's
    return not _is_argument(param) and param.opts[-1] in SHARED


def _metavar(param: Any) -> str:  # noqa: ANN401  # click's
    if param.metavar:
        return str(param.metavar)
    kind = param.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(member.value for member in kind)
    return {int: "N", float: "N", Path: "PATH"}.get(kind, "TEXT")


def _name(param: Any) -> str:  # noqa: ANN401  # click's
    if _is_argument(param):
        return f"`{_metavar(param)}`"
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    return names if param.is_flag else f"{names} `{_metavar(param)}`".replace("|", "\\|")


def _meaning(param: Any) -> str:  # noqa: ANN401  # click's
    meaning = (param.help or "").replace("|", "\\|")
    low, high = param.min, param.max
    if low is not None or high is not None:
        least = "" if low is None else f"at least {low:g}"
        most = "" if high is None else f"at most {high:g}"
        meaning += f" {', '.join(filter(None, (least, most))).capitalize()}."
    if param.envvar:
        meaning += f" Environment: `{param.envvar}`."
    return str(meaning)


def _default(param: Any) -> str:  # noqa: ANN401  # click's
    if param.required:
        return "required"
    shown = getattr(param, "show_default", None)
    if isinstance(shown, str):
        return f"`{shown}`"
    default = param.default.value if isinstance(param.default, Enum) else param.default
    if default is None or default is False or callable(default):
        return ""
    if default is True:
        return f"`{param.opts[0]}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _paragraphs(help_: str | None) -> Iterator[str]:
    paragraphs = [" ".join(part.split()) for part in (help_ or "").split("\n\n")]
    yield "\n\n".join(paragraphs)


if __name__ == "__main__":
    path = HERE / "cli.md"
    path.write_text(page(path.read_text()))
