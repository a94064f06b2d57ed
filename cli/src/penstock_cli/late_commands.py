"""Commands whose code is loaded when they are chosen, so that `penstock` starts at once.

A table says where each command is, and one line about it. Of that alone the groups are made whose
`--help` and completion the shell asks for most; a `LateCommand` in them stands for each command,
and loads it when its own options are needed: to run it, for its `--help`, or to complete them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Row:
    """A command."""

    #: where its function is: `module:name`, the module below `penstock_cli`
    function: str
    #: the line in its group's `--help`: the first sentence of the function's docstring
    summary: str
    #: everything behind the first argument is another program's, whatever it looks like
    passes_on: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Commands with a word before them."""

    help: str
    commands: Mapping[str, "Row | Group"]


class LateCommand(TyperCommand):
    """Stands for a command that is not loaded: it knows its name and its summary, no options."""

    def __init__(self, name: str, row: Row) -> None:
        super().__init__(name, short_help=row.summary, rich_markup_mode=None)
        self.row = row

    @override
    def make_context(self, *args: Any, **extra: Any) -> Any:
        """What typer asks for before anything else of a command that was chosen."""
        return self.load().make_context(*args, **extra)

    def load(self) -> Any:  # noqa: ANN401  # click's command
        """The command itself."""
        # typer makes the command of an app that has no other.
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        settings = {"allow_interspersed_args": not self.row.passes_on}
        alone.command(self.name, context_settings=settings)(load_function(self.row.function))
        return get_command(alone)


class _Option(TyperOption):
    """An option whose default, or text, stands as it is.

    typer reads every value with pydantic, also text and that of an option that was not given; to
    load it takes longer than all the rest of `--help` and of completing a command's name.
    """

    def __init__(self, option: TyperOption) -> None:
        vars(self).update(vars(option))

    @override
    def process_value(self, ctx: Any, value: Any) -> Any:
        is_text = isinstance(value, str) and self.type_descriptor.annotation is str
        return value if is_text or value is self.default else super().process_value(ctx, value)


class LateGroup(TyperGroup):
    """A group whose own options take nothing to load, unless one that is no text is given."""

    _params: list[Any] | None = None

    @override
    def get_params(self, ctx: Any) -> list[Any]:
        """The same ones in every call: click compares them by identity."""
        if self._params is None:
            params = super().get_params(ctx)
            self._params = [_Option(p) if isinstance(p, TyperOption) else p for p in params]
        return self._params


def load_function(function: str) -> Any:  # noqa: ANN401  # any function
    """The function at `module:name`; its module, below `penstock_cli`, is loaded."""
    module, _, name = function.partition(":")
    return getattr(import_module(f"penstock_cli.{module}"), name)


def make_commands(table: Mapping[str, Row | Group]) -> dict[str, Any]:
    """Click's commands and groups for this table, in its order; loads none of them."""
    return {name: _make(name, entry) for name, entry in table.items()}


def _make(name: str, entry: Row | Group) -> LateCommand | LateGroup:
    if isinstance(entry, Row):
        return LateCommand(name, entry)
    return LateGroup(
        name=name,
        commands=make_commands(entry.commands),
        help=entry.help,
        short_help=entry.help,
        no_args_is_help=True,
        rich_markup_mode=None,
    )
