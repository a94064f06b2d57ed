"""Which api the command talks to, and with which key."""

import json
from pathlib import Path

import pytest

from penstock_cli.contexts.config import Config
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.target import Finder, Names, Target

CONFIG = Config.of(
    {
        "current": "lab",
        "contexts": {
            "lab": {"api": "https://lab.example", "key": "lab-key"},
            "prod": {"api": "https://prod.example/", "key": "prod-key"},
            "bare": {"api": "https://bare.example"},
        },
    }
)
RUNNING = "http://127.0.0.1:9"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "admin.key").write_text("data-key\n")
    (tmp_path / "ready.json").write_text(json.dumps({"api": RUNNING}))
    return tmp_path


def finder(
    flags: Names | None = None,
    environment: Names | None = None,
    config: Config | None = None,
    **variables: str,
) -> Finder:
    return Finder(flags or Names(), environment or Names(), variables, lambda: config or Config())


@pytest.mark.parametrize(
    ("flags", "environment", "variables", "url", "key"),
    [
        # the nearest word decides: flags, the environment, the current context
        ({}, {}, {}, "https://lab.example", "lab-key"),
        ({}, {"context": "prod"}, {}, "https://prod.example", "prod-key"),
        ({}, {"context": "prod", "api": "http://env"}, {}, "http://env", "prod-key"),
        ({"context": "prod"}, {"api": "http://env"}, {}, "https://prod.example", "prod-key"),
        ({"context": "prod", "api": "http://flag"}, {}, {}, "http://flag", "prod-key"),
        ({"data": True}, {"context": "prod"}, {}, RUNNING, "data-key"),
        ({}, {"data": True}, {}, RUNNING, "data-key"),
        ({"api": "http://flag/"}, {"context": "prod"}, {}, "http://flag", "prod-key"),
        # a key in the environment wins over all but that of a context named by a flag
        ({}, {}, {"PENSTOCK_API_KEY": " k "}, "https://lab.example", "k"),
        ({}, {"context": "prod"}, {"PENSTOCK_API_KEY": "k"}, "https://prod.example", "k"),
        ({"context": "prod"}, {}, {"PENSTOCK_API_KEY": "k"}, "https://prod.example", "prod-key"),
        ({"context": "bare"}, {}, {"PENSTOCK_API_KEY": "k"}, "https://bare.example", "k"),
        ({"data": True}, {}, {"PENSTOCK_API_KEY": "k"}, RUNNING, "k"),
        # the key of the current context goes to no other api
        ({"api": "http://flag", "data": True}, {}, {}, "http://flag", "data-key"),
    ],
)
def test_who_names_the_api_and_the_key(
    data: Path,
    flags: dict[str, object],
    environment: dict[str, object],
    variables: dict[str, str],
    url: str,
    key: str,
) -> None:
    def names(said: dict[str, object]) -> Names:
        api, context = said.get("api"), said.get("context")
        assert api is None or isinstance(api, str)
        assert context is None or isinstance(context, str)
        return Names(api, context, data if said.get("data") else None)

    found = finder(names(flags), names(environment), CONFIG, **variables).find()
    assert (found.url, found.key) == (url, key)


def test_the_key_of_the_current_context_goes_to_no_api_that_a_flag_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="no API key"):
        finder(Names(api="http://other"), config=CONFIG).find()


def test_it_is_told_who_named_the_api_and_the_key() -> None:
    named = finder(Names(context="lab"), config=CONFIG).find().named_by
    assert named == "context lab"
    by_variable = finder(config=CONFIG, PENSTOCK_API_KEY="k").find().named_by
    assert by_variable == "context lab, the key by PENSTOCK_API_KEY"


def test_without_any_word_it_is_what_runs_here(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / ".penstock").mkdir()
    monkeypatch.chdir(data)
    (data / ".penstock/admin.key").write_text("here")
    assert finder().find() == Target("http://127.0.0.1:8000", "here", "no context and no --api")
    (data / ".penstock/ready.json").write_text(json.dumps({"api": RUNNING}))
    assert finder().find() == Target(RUNNING, "here", "`penstock up` in .penstock")


@pytest.mark.parametrize("ready", ["", "[]", '{"api": 3}', '{"router": "x"}'])
def test_an_unusable_ready_file_counts_as_none(data: Path, ready: str) -> None:
    (data / "ready.json").write_text(ready)
    assert finder(Names(data=data)).find().url == "http://127.0.0.1:8000"
    with_url = finder(Names(data=data), Names(api="http://env")).find()
    assert (with_url.url, with_url.key) == ("http://env", "data-key")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    here = Names(data=tmp_path)
    for text, told in ((None, "PENSTOCK_API_KEY"), ("\n", "is empty")):
        if text is not None:
            (tmp_path / "admin.key").write_text(text)
        with pytest.raises(CliError, match=told) as refused:
            finder(here).find()
        assert refused.value.code is ExitCode.DENIED
        assert "--context" in str(refused.value)
    assert finder(Names(data=tmp_path / "none")).find(needs_key=False).key == ""
    (tmp_path / "admin.key").write_text("k")
    with pytest.raises(CliError, match="http://"):
        finder(Names(api="localhost:8000", data=tmp_path)).find()
    with pytest.raises(CliError, match=r"no context 'stage', there are lab, prod, bare"):
        finder(Names(context="stage"), config=CONFIG).find()
    with pytest.raises(CliError, match=r"add bare --replace"):
        finder(Names(context="bare"), config=CONFIG).find()


def test_a_key_by_reference_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "k"
    config = Config.of(
        {
            "contexts": {
                "file": {"api": "http://a", "key_file": str(path)},
                "env": {"api": "http://a", "key_env": "LAB_KEY"},
            }
        }
    )
    with pytest.raises(CliError, match="context 'file' names it"):
        finder(Names(context="file"), config=config).find()
    path.write_text("from-file\n")
    assert finder(Names(context="file"), config=config).find().key == "from-file"
    with pytest.raises(CliError, match="LAB_KEY, which is not set here"):
        finder(Names(context="env"), config=config).find()
    assert finder(Names(context="env"), config=config, LAB_KEY="v").find().key == "v"
