"""The file of a person's contexts: `config.yaml` in the folder `penstock` of the XDG config dir.

It may hold keys: its mode is 600, and it is replaced as a whole.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from penstock_cli.contexts.config import Config, ConfigError
from penstock_cli.exits import CliError
from penstock_cli.input.yaml_text import TextError, parse_text
from penstock_cli.output.documents import yaml_text
from penstock_cli.private_files import write_private

PATH_VARIABLE: Final = "PENSTOCK_CONFIG"


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the file is, or would be.

    Args:
        environment: PENSTOCK_CONFIG names it; else XDG_CONFIG_HOME, if absolute, names the folder
            around its folder (https://specifications.freedesktop.org/basedir).
    """
    if named := environment.get(PATH_VARIABLE):
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(home) if home.startswith("/") else Path.home() / ".config"
    return folder / "penstock" / "config.yaml"


def read_config(path: Path) -> Config:
    """What the file says; an empty configuration when there is none.

    Raises:
        CliError: it cannot be read, or makes no sense; says what to do.
    """
    try:
        with path.open() as file:
            text = file.read()
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}", _what_to_do(path)) from None
    try:
        config = Config.of(parse_text(text) if text.strip() else None)
    except TextError as error:
        raise CliError(f"{path}, {error}", _what_to_do(path)) from None
    except ConfigError as error:
        lines = (f"  {line}" for line in str(error).splitlines())
        raise CliError(f"{path} makes no sense:", *lines, _what_to_do(path)) from None
    if mode & 0o077 and any(context.key for context in config.contexts.values()):
        print(  # noqa: T201  # a remark, no output
            f"penstock: others can read the keys in {path}; run `chmod 600 {path}`", file=sys.stderr
        )
    return config


def _what_to_do(path: Path) -> str:
    return (
        f"mend it, name another file with {PATH_VARIABLE}, or remove it "
        f"(`rm {path}`) and add its contexts again"
    )


@contextlib.contextmanager
def changing_config(path: Path) -> Iterator["Change"]:
    """Read the file and replace it at the end; others that change it wait meanwhile.

    Raises:
        CliError: it makes no sense, or cannot be written. Then it is as it was.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            change = Change(read_config(path))
            yield change
            write_private(path, yaml_text(change.config.document()))
    except OSError as error:
        raise CliError(
            f"{path} cannot be written: {error.strerror or error}; name another file with "
            f"{PATH_VARIABLE}"
        ) from None


class Change:
    """The configuration while it is changed."""

    def __init__(self, config: Config) -> None:
        self.config = config
