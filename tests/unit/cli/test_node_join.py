"""`penstock node join` prints what a new host needs, and refuses what cannot work there."""

import os
import subprocess
from pathlib import Path

import pytest

from penstock_cli.commands.node_join import check_reachable, script
from penstock_cli.exits import CliError
from penstock_client.documents import JoinTokenMade
from penstock_node_agent.settings import Settings
from tests.fakes.clock import EPOCH

ROOT = Path(__file__).parents[3]
TOKEN = "pjt_it's $a `token`"


def made(**fields: object) -> JoinTokenMade:
    document = {
        "id": "jt-1",
        "name": "",
        "labels": {},
        "max_uses": 1,
        "uses": 0,
        "hosts": (),
        "created_at": EPOCH,
        "expires_at": EPOCH,
        "made_by": "key-admin",
        "token": TOKEN,
        **fields,
    }
    return JoinTokenMade.model_validate(document)


def test_the_script_joins_and_starts_an_agent(tmp_path: Path) -> None:
    """Run by a real shell; what it starts is a stand-in that shows its environment."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("docker", "penstock-node-agent"):
        tool = tools / name
        tool.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.args\nenv > {tmp_path}/{name}$1.env\n'
        )
        tool.chmod(0o755)
    text = script(made(), api_url="http://10.0.0.1:8000", address="10.0.0.2")
    folder = tmp_path / "host"
    folder.mkdir()
    path = f"{tools}:{os.environ['PATH']}"
    subprocess.run(["sh", "-eu"], input=text.encode(), cwd=folder, env={"PATH": path}, check=True)

    assert (tmp_path / "docker.args").read_text().split() == [
        *("compose", "-f", "gpu-node.yml", "up", "-d")
    ]
    compose = (tmp_path / "dockercompose.env").read_text().splitlines()
    given = {
        "PENSTOCK_API_URL": "http://10.0.0.1:8000",
        "PENSTOCK_NODE_ADDRESS": "10.0.0.2",
        "PENSTOCK_JOIN_TOKEN": TOKEN,
    }
    for name, value in given.items():
        assert f"{name}={value}" in compose
        assert f"${{{name}:" in (ROOT / "deploy/compose/gpu-node.yml").read_text()
    join, run = (tmp_path / "penstock-node-agent.args").read_text().splitlines()
    assert (join, run) == ("join --api http://10.0.0.1:8000", "")
    settings = read_settings(tmp_path / "penstock-node-agentjoin.env")
    assert settings.join_token.get_secret_value() == TOKEN
    settings = read_settings(tmp_path / "penstock-node-agent.env")
    assert (settings.node_address, settings.data_dir) == ("10.0.0.2", folder / "node")
    assert settings.join_token.get_secret_value() == "", "the token is for joining alone"


def read_settings(env: Path) -> Settings:
    prefix = "PENSTOCK_NODE_AGENT_"
    lines = env.read_text().splitlines()
    told = dict(
        line.removeprefix(prefix).split("=", 1) for line in lines if line.startswith(prefix)
    )
    assert {name.lower() for name in told} < set(Settings.model_fields)
    return Settings.model_validate({name.lower(): value for name, value in told.items()})


def test_the_script_says_how_often_and_how_long_the_token_works() -> None:
    text = script(made(max_uses=8), api_url="http://a", address=None)
    assert "before 2030-01-01 00:00 UTC; the token jt-1 works for 8 hosts" in text
    assert "hostname -I" in text, "without an address the host looks for its own"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]"])
def test_an_api_that_no_other_host_reaches_is_refused(host: str) -> None:
    with pytest.raises(CliError) as raised:
        check_reachable(f"http://{host}:8000")
    for way in ("`penstock up` with --host", "deploy/compose/control-plane.yml", "--api-url"):
        assert way in str(raised.value), "each way to run it has its own mend"
    check_reachable("http://10.0.0.1:8000")
    check_reachable("https://penstock.example.com")
