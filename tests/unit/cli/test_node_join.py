"""`penstock node join` prints what a new host needs, and refuses what cannot work there."""

import os
import subprocess
from pathlib import Path

import pytest

from penstock_cli.commands.node_join import find_nats_url, script
from penstock_cli.exits import CliError
from penstock_cli.local.data_dir import DataDir
from penstock_node_agent.settings import Settings


def test_the_script_makes_the_keys_and_starts_an_agent_that_reads_them(tmp_path: Path) -> None:
    """Run by a real shell; what it starts is a stand-in that shows its environment."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("docker", "penstock-node-agent"):
        tool = tools / name
        tool.write_text(
            f'#!/bin/sh\necho "$@" > {tmp_path}/{name}.args\nenv > {tmp_path}/{name}.env\n'
        )
        tool.chmod(0o755)
    password, key = "it's $a `pass`", "a" * 43 + "="
    text = script(
        nats_url="nats://10.0.0.1:4222", password=password, secret_key=key, address="10.0.0.2"
    )
    folder = tmp_path / "host"
    folder.mkdir()
    path = f"{tools}:{os.environ['PATH']}"
    subprocess.run(["sh", "-eu"], input=text.encode(), cwd=folder, env={"PATH": path}, check=True)

    assert (folder / "keys/secret.key").read_text() == key + "\n"
    assert (folder / "keys/secret.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "keys/nats.password").read_text() == password + "\n"
    assert (tmp_path / "docker.args").read_text().split() == [
        *("compose", "-f", "gpu-node.yml", "up", "-d")
    ]
    compose = (tmp_path / "docker.env").read_text()
    for line in (
        "PENSTOCK_NATS_URL=nats://10.0.0.1:4222",
        "PENSTOCK_NODE_ADDRESS=10.0.0.2",
        f"PENSTOCK_KEYS={folder}/keys",
    ):
        assert line in compose.splitlines()
    prefix = "PENSTOCK_NODE_AGENT_"
    lines = (tmp_path / "penstock-node-agent.env").read_text().splitlines()
    told = dict(
        line.removeprefix(prefix).split("=", 1) for line in lines if line.startswith(prefix)
    )
    assert {name.lower() for name in told} < set(Settings.model_fields)
    settings = Settings.model_validate({name.lower(): value for name, value in told.items()})
    assert settings.nats_url == "nats://10.0.0.1:4222"
    assert (settings.nats_user, settings.nats_password.get_secret_value()) == ("penstock", password)
    assert (settings.node_address, settings.data_dir) == ("10.0.0.2", folder / "node")
    assert settings.secret_key_file == folder / "keys/secret.key"


def test_without_an_address_the_host_looks_for_its_own() -> None:
    text = script(nats_url="nats://a:1", password="p", secret_key="k", address=None)
    assert "hostname -I" in text


def test_nats_is_found_where_the_installation_has_it_listen(tmp_path: Path) -> None:
    with DataDir(tmp_path / "data") as folder:
        folder.write_nats_config("10.0.0.1", 4222, 8222)
        assert find_nats_url(folder.path) == "nats://10.0.0.1:4222"
        folder.write_nats_config("fd00::1", 4222, 8222)
        assert find_nats_url(folder.path) == "nats://[fd00::1]:4222"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_an_address_that_no_other_host_can_use_is_refused(tmp_path: Path, host: str) -> None:
    with DataDir(tmp_path / "data") as folder:
        folder.write_nats_config(host, 4222, 8222)
        with pytest.raises(CliError, match="--nats-url"):
            find_nats_url(folder.path)


def test_no_installation_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="--data"):
        find_nats_url(tmp_path)
