"""`penstock context`: the installations that this person works with."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from penstock_cli.asking import ask
from penstock_cli.completion import complete_contexts
from penstock_cli.contexts.config import NAME_PATTERN, Config, Context, check_url
from penstock_cli.contexts.config_file import changing_config, config_path, read_config
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.options import JsonOption, YamlOption
from penstock_cli.output.documents import Form, form_of, print_document
from penstock_cli.output.printing import print_facts, print_line, print_rows
from penstock_cli.refusals import as_cli_error
from penstock_cli.target import read_key
from penstock_client.errors import ApiError
from penstock_common.errors import PenstockError

#: Longest wait for the api that a new context names.
CHECK_S = 10.0

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Of the context.", autocompletion=complete_contexts),
]


def list_contexts(as_json: JsonOption = False, as_yaml: YamlOption = False) -> None:
    """List the contexts; a star marks the current one."""
    config = _read()
    form = form_of(as_json=as_json, as_yaml=as_yaml)
    if form is not Form.TEXT:
        contexts = [_document(config, name) for name in config.contexts]
        print_document({"contexts": contexts}, form)
        return
    print_rows(
        ("", "CONTEXT", "API", "KEY"),
        (
            ("*" if name == config.current else "", name, context.api, context.key_source)
            for name, context in config.contexts.items()
        ),
        "no contexts; make one with `penstock context add NAME --api URL`",
    )


def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Of the context; left out = the current one.",
            autocompletion=complete_contexts,
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    as_yaml: YamlOption = False,
) -> None:
    """Show a context; never its key."""
    config = _read()
    shown = name or config.current
    if shown is None:
        raise CliError(
            "there is no current context; `penstock context use NAME` makes one that",
            code=ExitCode.NOT_FOUND,
        )
    context = _find(config, shown)
    form = form_of(as_json=as_json, as_yaml=as_yaml)
    if form is Form.TEXT:
        print_facts(
            (
                ("context", f"{shown} (current)" if shown == config.current else shown),
                ("api", context.api),
                ("key", context.key_source),
                ("file", config_path(os.environ)),
            )
        )
    else:
        print_document(_document(config, shown), form)


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    api: Annotated[str, typer.Option("--api", metavar="URL", help="Its api.")],
    key_stdin: Annotated[
        bool, typer.Option("--key-stdin", help="Store the key that standard input gives.")
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the key from this file.", show_default=False),
    ] = None,
    key_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE", help="Take the key from this variable.", show_default=False
        ),
    ] = None,
    use: Annotated[bool, typer.Option("--use", help="Make it the current one.")] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask the api whether it takes the key.")
    ] = True,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of one of that name.")
    ] = False,
) -> None:
    """Add a context. The first one is the current one.

    Without --key-stdin, --key-file and --key-env the key is asked for at the terminal and stored.
    """
    if sum((key_stdin, key_file is not None, key_env is not None)) > 1:
        raise typer.BadParameter("give one of --key-stdin, --key-file and --key-env")
    path = config_path(os.environ)
    if not replace and name in read_config(path).contexts:
        raise CliError(f"there is a context '{name}'; --replace puts this one in its place")
    context = _make(name, api, key_stdin, key_file, key_env)
    remark = _check(context) if check else "not checked"
    with changing_config(path) as change:
        use = use or not change.config.contexts
        change.config = change.config.with_context(name, context, use=use)
    print_line(f"added {name}: {context.api} ({remark})")
    if use:
        print_line(f"it is the current one; `--context` and {path} name others")
    else:
        print_line(f"`penstock context use {name}` makes it the current one")


def use(name: NameArgument) -> None:
    """Make a context the current one: what commands ask that name none."""
    with changing_config(config_path(os.environ)) as change:
        context = _find(change.config, name)
        change.config = change.config.using(name)
    print_line(f"commands ask {name} now: {context.api}")


def remove(name: NameArgument) -> None:
    """Forget a context, and the key that is stored in it."""
    with changing_config(config_path(os.environ)) as change:
        _find(change.config, name)
        was_current = change.config.current == name
        change.config = change.config.without(name)
    print_line(f"removed {name}" + ("; there is no current context now" if was_current else ""))


def _read() -> Config:
    return read_config(config_path(os.environ))


def _find(config: Config, name: str) -> Context:
    context = config.contexts.get(name)
    if context is None:
        raise CliError(
            f"there is no context '{name}'; `penstock context list` shows what there is",
            code=ExitCode.NOT_FOUND,
        )
    return context


def _document(config: Config, name: str) -> Mapping[str, object]:
    """A context as programs read it; a stored key is not in it."""
    context = config.contexts[name]
    return {
        "name": name,
        "current": name == config.current,
        "api": context.api,
        "key_source": "stored" if context.key else context.key_source.split()[0],
        "key_file": context.key_file,
        "key_env": context.key_env,
    }


def _make(
    name: str, api: str, key_stdin: bool, key_file: Path | None, key_env: str | None
) -> Context:
    """The context that the options say.

    Raises:
        CliError: they make no sense, or there is no key.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise CliError(
            f"'{name}' is no name: letters, digits and . _ - after the first, 63 at most"
        )
    try:
        url = check_url(api)
    except ValueError as error:
        raise CliError(f"--api: '{api}' {error}") from None
    if key_file is not None:
        return Context(api=url, key_file=str(key_file.expanduser().absolute()))
    if key_env is not None:
        return Context(api=url, key_env=key_env)
    return Context(api=url, key=_ask_key(key_stdin))


def _ask_key(from_stdin: bool) -> str:
    if from_stdin:
        key = sys.stdin.read().strip()
        if not key:
            raise CliError("standard input holds no key")
        return key
    if not sys.stdin.isatty():
        raise CliError("no key: give it by --key-stdin, or name it by --key-file or --key-env")
    answer: str = typer.prompt("API key", hide_input=True, err=True)
    return answer.strip()


def _check(context: Context) -> str:
    """Ask the api whether it takes the key; gives what to say about it.

    Raises:
        CliError: it is no api, cannot be reached, or takes no such key.
    """
    key = _key_now(context)
    if not key:
        return f"not checked: {context.key_env} is not set here"
    try:
        ask(
            context.api,
            key,
            lambda client: client.send("GET", "/v1/endpoints?limit=1"),
            timeout_s=CHECK_S,
        )
    except ApiError as error:
        if error.status == 403:  # it knows the key, which may only call endpoints
            return "its api takes the key, which may not read"
        refused = as_cli_error(error, "--api")
    except PenstockError as error:
        refused = as_cli_error(error, "--api")
    else:
        return "its api takes the key"
    raise CliError(
        f"nothing was added: {refused}", "(--no-check adds it all the same)", code=refused.code
    )


def _key_now(context: Context) -> str:
    if context.key_env is not None:
        return os.environ.get(context.key_env, "").strip()
    if context.key_file is not None:
        return read_key(Path(context.key_file), "name another with --key-file")
    return context.key or ""
