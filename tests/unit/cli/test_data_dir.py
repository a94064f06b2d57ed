import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock_cli.app import app
from penstock_cli.local.data_dir import DataDir, DataDirBusyError
from penstock_common.nats.permissions import USERS


def test_keys_are_private_and_stay_the_same(tmp_path: Path) -> None:
    with DataDir(tmp_path / "d") as first:
        key = first.admin_key_file.read_text()
        passwords = {user: p.read_text() for user, p in first.nats_password_files.items()}
        assert len(set(passwords.values())) == len(passwords)
        assert stat.S_IMODE(first.admin_key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(first.secret_key_file.stat().st_mode) == 0o600
    with DataDir(tmp_path / "d") as second:
        assert second.admin_key_file.read_text() == key
        assert passwords == {user: p.read_text() for user, p in second.nats_password_files.items()}


def test_a_second_user_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    with DataDir(tmp_path), pytest.raises(DataDirBusyError, match=r"pid \d+"), DataDir(tmp_path):
        pass


def test_the_servers_configuration_is_private_and_syncs_every_write(tmp_path: Path) -> None:
    with DataDir(tmp_path) as folder:
        path = folder.write_nats_config("::1", 4222, 8222)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert folder.nats_monitor_url() == "http://127.0.0.1:8222"
    text = path.read_text()
    assert 'listen: "[::1]:4222"' in text
    assert "sync_interval: always" in text


def test_init_makes_what_up_would_and_keeps_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    runner = CliRunner()
    arguments = ["init", "--data", str(folder), "--nats-host", "10.0.0.1", "--nats-port", "5222"]
    first = runner.invoke(app, arguments)
    assert first.exit_code == 0, first.output
    key = (folder / "admin.key").read_text()
    assert key.startswith("psk_")
    config = (folder / "nats.conf").read_text()
    assert 'listen: "10.0.0.1:5222"' in config
    assert "sync_interval: always" in config
    for user in USERS:
        assert (folder / f"nats.{user}.password").read_text().strip() in config
    assert runner.invoke(app, arguments).exit_code == 0
    assert (folder / "admin.key").read_text() == key
