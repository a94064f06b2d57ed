"""Which api a command talks to, and with which key.

The nearest word decides: flags, then the environment, then the current context, then the
`penstock up` of the directory `.penstock` here. On each level `--api` goes before `--context`, and
that before `--data`.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import typer

from penstock_cli.contexts.config import Config, Context, check_url
from penstock_cli.contexts.config_file import config_path, read_config
from penstock_cli.exits import CliError, ExitCode

DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_DATA: Final = Path(".penstock")
KEY_VARIABLE: Final = "PENSTOCK_API_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """An api and a key, and who named it."""

    url: str
    key: str
    #: for people, e.g. `context prod`
    named_by: str


@dataclass(frozen=True, slots=True)
class Names:
    """What the flags say, or the environment; None = nothing."""

    api: str | None = None
    context: str | None = None
    data: Path | None = None


class Finder:
    """Finds the target from everything that may name one."""

    def __init__(
        self,
        flags: Names,
        environment: Names,
        variables: Mapping[str, str],
        read_config: Callable[[], Config],
    ) -> None:
        """Nothing is read before it is needed.

        Args:
            flags: of this command.
            environment: from PENSTOCK_API_URL, PENSTOCK_CONTEXT, PENSTOCK_DATA.
            variables: the environment, for keys.
            read_config: gives the contexts; raises `CliError` when their file makes no sense.
        """
        self._flags = flags
        self._environment = environment
        self._variables = variables
        self._read_config = read_config

    @property
    def data(self) -> Path:
        """The data directory of `penstock up`; need not exist."""
        return self._flags.data or self._environment.data or DEFAULT_DATA

    def find(self, *, needs_key: bool = True) -> Target:
        """The api to talk to and the key to show it.

        Args:
            needs_key: false = an empty key when there is none.

        Raises:
            CliError: there is no key, no such context, or no usable URL.
        """
        found = self._find(needs_key=needs_key)
        if found.key and found.key == self._variables.get(KEY_VARIABLE, "").strip():
            return replace(found, named_by=f"{found.named_by}, the key by {KEY_VARIABLE}")
        return found

    def _find(self, *, needs_key: bool) -> Target:
        flags, environment = self._flags, self._environment
        for names, api_word, data_word in (
            (flags, "--api", "--data"),
            (environment, "PENSTOCK_API_URL", "PENSTOCK_DATA"),
        ):
            if names.api is not None:
                return self._of_api(names.api, api_word, needs_key=needs_key)
            if names.context is not None:
                context = self._context(names.context)
                return self._of_context(names.context, context, needs_key=needs_key)
            if names.data is not None:
                url = _url_of_running(names.data) or environment.api or DEFAULT_URL
                key = self._key_of_data(needs_key=needs_key)
                return Target(_checked(url), key, f"{data_word} {names.data}")
        current = self._read_config().current
        if current is not None:
            return self._of_context(current, self._context(current), needs_key=needs_key)
        running = _url_of_running(self.data)
        named_by = f"`penstock up` in {self.data}" if running else "no context and no --api"
        url = running or DEFAULT_URL
        return Target(_checked(url), self._key_of_data(needs_key=needs_key), named_by)

    def _of_api(self, url: str, word: str, *, needs_key: bool) -> Target:
        # A key of a context that was not named here goes to no other api.
        named = self._flags.context or self._environment.context
        if named is not None:
            key = self._key_of_context(named, self._context(named), needs_key=needs_key)
        else:
            key = self._key_of_data(needs_key=needs_key)
        return Target(_checked(url), key, word)

    def _of_context(self, name: str, context: Context, *, needs_key: bool) -> Target:
        key = self._key_of_context(name, context, needs_key=needs_key)
        return Target(context.api, key, f"context {name}")

    def _context(self, name: str) -> Context:
        contexts = self._read_config().contexts
        if name not in contexts:
            known = f"there are {', '.join(contexts)}" if contexts else "there is none at all"
            raise CliError(
                f"there is no context '{name}', {known}; "
                "`penstock context list` shows them, `penstock context add` makes one",
                code=ExitCode.NOT_FOUND,
            )
        return contexts[name]

    def _key_of_context(self, name: str, context: Context, *, needs_key: bool) -> str:
        ours = self._variables.get(KEY_VARIABLE, "").strip()
        if ours and self._flags.context is None:
            return ours
        key = self._own_key_of(name, context) or ours
        if not key and needs_key:
            raise CliError(
                f"no API key: context '{name}' has none; set {KEY_VARIABLE}, "
                f"or store one with `penstock context add {name} --replace`",
                code=ExitCode.DENIED,
            )
        return key

    def _own_key_of(self, name: str, context: Context) -> str:
        if context.key_env is not None:
            key = self._variables.get(context.key_env, "").strip()
            if not key:
                raise CliError(
                    f"no API key: context '{name}' takes it from {context.key_env}, "
                    "which is not set here",
                    code=ExitCode.DENIED,
                )
            return key
        if context.key_file is not None:
            return read_key(Path(context.key_file).expanduser(), f"context '{name}' names it")
        return context.key or ""

    def _key_of_data(self, *, needs_key: bool) -> str:
        path = self.data / "admin.key"
        key = self._variables.get(KEY_VARIABLE, "").strip()
        if not key and (needs_key or path.exists()):
            key = read_key(
                path,
                f"set {KEY_VARIABLE}, name the data directory of `penstock up` with --data, "
                "or a context with --context",
            )
        return key


def read_key(path: Path, hint: str) -> str:
    """The API key in this file.

    Raises:
        CliError: there is none; the text ends with the hint.
    """
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        raise CliError(f"no API key: there is no {path}; {hint}", code=ExitCode.DENIED) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(
            f"no API key: {path} cannot be read: {error}; {hint}", code=ExitCode.DENIED
        ) from None
    if not key:
        raise CliError(f"no API key: {path} is empty; {hint}", code=ExitCode.DENIED)
    return key


def _checked(url: str) -> str:
    try:
        return check_url(url)
    except ValueError as error:
        raise CliError(f"'{url}' {error}") from None


def _url_of_running(data: Path) -> str | None:
    try:
        ready = json.loads((data / "ready.json").read_text())
    except (OSError, ValueError):  # nothing runs there, or it is being written
        return None
    url = ready.get("api") if isinstance(ready, dict) else None
    return url if isinstance(url, str) else None


def make_finder(ctx: typer.Context) -> Finder:
    """What finds the target of a command, told apart by who said what."""
    environment = dict(os.environ)
    path = config_path(environment)
    return Finder(
        flags=_said(ctx, "COMMANDLINE"),
        environment=_said(ctx, "ENVIRONMENT"),
        variables=environment,
        read_config=lambda: read_config(path),
    )


def _said(ctx: typer.Context, source: str) -> Names:
    """What this source says; `--context` may stand before the command as well."""

    def of(name: str) -> Any:  # noqa: ANN401  # typer has checked it
        for context in (ctx, ctx.find_root()):
            told_by = context.get_parameter_source(name)
            if told_by is not None and told_by.name == source:
                return context.params.get(name)
        return None

    return Names(api=of("api"), context=of("context"), data=of("data"))
