import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.lifecycle import MisconfiguredError
from penstock_node_agent.node_identity import (
    check_node_id,
    lasting_node_id,
    lock_data_dir,
    propose_node_id,
)


@given(st.text(max_size=300))
def test_any_host_name_gives_a_node_id(hostname: str) -> None:
    assert check_node_id(propose_node_id(hostname, "7k2m")).endswith("-7k2m")


def test_the_host_is_recognised() -> None:
    assert propose_node_id("GPU_box.example.com", "7k2m") == "node-gpu-box-7k2m"


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    first = lasting_node_id(tmp_path, "gpu-box", None)
    assert lasting_node_id(tmp_path, "renamed", None) == first
    assert lasting_node_id(tmp_path, "gpu-box", "node-mine") == "node-mine"
    assert lasting_node_id(tmp_path, "gpu-box", None) == "node-mine"


def test_two_hosts_of_one_name_have_two_ids(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ids = {lasting_node_id(tmp_path / name, "localhost", None) for name in "ab"}
    assert len(ids) == 2


def test_a_spoilt_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "node.id").write_text("../../etc\n")
    with pytest.raises(MisconfiguredError, match=r"node\.id"):
        lasting_node_id(tmp_path, "gpu-box", None)


def test_a_data_folder_has_one_agent(tmp_path: Path) -> None:
    lock = lock_data_dir(tmp_path / "data")
    with pytest.raises(MisconfiguredError, match="another node agent"):
        lock_data_dir(tmp_path / "data")
    os.close(lock)
    os.close(lock_data_dir(tmp_path / "data"))
