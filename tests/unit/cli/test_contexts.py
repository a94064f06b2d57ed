"""Contexts: the file that holds them, and the commands that change it."""

import multiprocessing
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock_cli.app import app
from penstock_cli.contexts.config import Config, Context
from penstock_cli.contexts.config_file import changing_config, config_path, read_config
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.input.yaml_text import parse_text


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "made/config.yaml"
    monkeypatch.setenv("PENSTOCK_CONFIG", str(path))
    monkeypatch.delenv("PENSTOCK_CONTEXT", raising=False)
    return path


def run(*arguments: str, stdin: str = "") -> str:
    """What a command that does its work prints."""
    result = CliRunner().invoke(app, ["context", *arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str, stdin: str = "") -> CliError:
    """How a command is refused."""
    result = CliRunner().invoke(app, ["context", *arguments], input=stdin)
    assert isinstance(result.exception, CliError), result.output
    return result.exception


ADD = ("--no-check", "--api", "http://a")


def test_where_the_file_is() -> None:
    assert config_path({"PENSTOCK_CONFIG": "x/y"}) == Path("x/y")
    assert config_path({"XDG_CONFIG_HOME": "/conf"}) == Path("/conf/penstock/config.yaml")
    for environment in ({}, {"XDG_CONFIG_HOME": "relative"}):
        assert config_path(environment) == Path.home() / ".config/penstock/config.yaml"


def test_contexts_are_added_listed_used_shown_and_removed(path: Path) -> None:
    assert "it is the current one" in run("add", "lab", *ADD, "--key-stdin", stdin="s3cret\n")
    assert "penstock context use prod" in run("add", "prod", *ADD, "--key-env", "PROD_KEY")
    run("add", "file", "--no-check", "--api", "https://f/", "--key-file", "k")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert parse_text(path.read_text()) == {
        "current": "lab",
        "contexts": {
            "lab": {"api": "http://a", "key": "s3cret"},
            "prod": {"api": "http://a", "key_env": "PROD_KEY"},
            "file": {"api": "https://f", "key_file": str(Path("k").absolute())},
        },
    }
    lines = [line.split(maxsplit=3) for line in run("list").splitlines()]
    assert lines[1] == ["*", "lab", "http://a", "stored"]
    assert lines[2] == ["prod", "http://a", "variable", "PROD_KEY"]
    assert run("use", "prod") == "commands ask prod now: http://a\n"
    shown = parse_text(run("show", "--yaml"))
    assert (shown["name"], shown["current"], shown["key_env"]) == ("prod", True, "PROD_KEY")
    assert run("remove", "prod") == "removed prod; there is no current context now\n"
    assert refused("show").code is ExitCode.NOT_FOUND
    for words in (["list"], ["list", "--json"], ["show", "lab"], ["show", "lab", "--json"]):
        assert "s3cret" not in run(*words)


def test_a_name_that_is_taken_is_not_overwritten(path: Path) -> None:
    run("add", "lab", *ADD, "--key-stdin", stdin="one")
    assert "--replace" in str(refused("add", "lab", *ADD, "--key-stdin", stdin="two"))
    assert read_config(path).contexts["lab"].key == "one"
    run("add", "lab", *ADD, "--replace", "--key-stdin", stdin="two")
    assert read_config(path).contexts["lab"].key == "two"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "a b", *ADD, "--key-env", "K"], "'a b' is no name"),
        (["add", "lab", "--api", "localhost", "--key-env", "K"], "--api: 'localhost' is no URL"),
        (["add", "lab", *ADD], "--key-stdin"),
        (["add", "lab", *ADD, "--key-stdin"], "standard input holds no key"),
        (["use", "nowhere"], "penstock context list"),
        (["remove", "nowhere"], "penstock context list"),
    ],
)
def test_what_is_refused_leaves_no_context(path: Path, arguments: list[str], told: str) -> None:
    assert told in str(refused(*arguments))
    assert read_config(path) == Config()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("contexts: [", "line 1, column 12"),
        ("contexts: {}\ncontexts: {}", "line 2, column 1: key 'contexts' is there twice"),
        ("- 1", "the document: "),
        ("contexts: {lab: {api: ftp://x}}", "contexts.lab.api: "),
        ("contexts: {lab: {api: http://x, key: s3cret, key_env: K}}", "one of key, key_file"),
        ("contexts: {lab: {api: http://x, password: s3cret}}", "contexts.lab.password: "),
        ("colour: red", "colour: "),
    ],
)
def test_a_file_that_makes_no_sense_is_an_error_that_says_what_to_do(
    path: Path, text: str, told: str
) -> None:
    path.parent.mkdir()
    path.write_text(text)
    for arguments in (["list"], ["add", "x", *ADD, "--key-env", "K"]):
        error = refused(*arguments)
        assert error.code is ExitCode.USAGE
        assert told in str(error)
        assert f"rm {path}" in str(error)
        assert "s3cret" not in str(error)
    assert path.read_text() == text


def test_a_file_that_cannot_be_read_is_an_error(path: Path) -> None:
    path.mkdir(parents=True)
    assert "cannot be read" in str(refused("list"))


def test_keys_that_others_can_read_are_remarked(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("add", "lab", *ADD, "--key-stdin", stdin="k")
    path.chmod(0o644)
    read_config(path)
    assert f"chmod 600 {path}" in capsys.readouterr().err
    run("use", "lab")  # it is written anew
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _add_ten(path: str, first: int) -> None:
    for number in range(first, first + 10):
        with changing_config(Path(path)) as change:
            context = Context(api="http://a", key_env="K")
            change.config = change.config.with_context(f"c{number}", context, use=False)


def test_two_that_write_at_once_lose_nothing(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_add_ten, args=(str(path), n)) for n in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert set(read_config(path).contexts) == {f"c{n}" for n in range(20)}
    assert {file.name for file in path.parent.iterdir()} == {"config.yaml", "config.yaml.lock"}


def test_a_change_that_fails_leaves_the_file(path: Path) -> None:
    run("add", "lab", *ADD, "--key-env", "K")
    before = path.read_text()

    def fail() -> None:
        with changing_config(path) as change:
            change.config = Config()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == before
