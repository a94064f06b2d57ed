"""Which network volumes a node mounts, and how the engine's account of volumes is read."""

import itertools
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ReadTimeout

from penstock_common.states import WorkerReason
from penstock_common.volumes import DriverOptionsSource, HostPathSource, NfsSource
from penstock_node_agent.runtimes.docker.volumes import (
    VolumeUse,
    directory_bytes,
    driver_options,
    make_directory,
    raise_if_hung,
    read_volume_use,
    trusted_path,
)
from penstock_node_agent.runtimes.protocol import StartFailedError, StartOrder, VolumeMount
from penstock_node_agent.runtimes.volume_policy import VolumePolicy

NFS = NfsSource(type="nfs", server="nas", path="/export", options="soft")
RAW = DriverOptionsSource(type="driver_options", options={"type": "tmpfs", "device": "tmpfs"})


def refused(path: str, *roots: str) -> str:
    with pytest.raises(StartFailedError) as raised:
        trusted_path(path, roots)
    assert raised.value.reason is WorkerReason.VOLUME_UNAVAILABLE
    return str(raised.value)


def test_a_directory_inside_what_is_allowed_is_taken(tmp_path: Path) -> None:
    (tmp_path / "shared/models").mkdir(parents=True)
    shared = str(tmp_path / "shared")
    assert trusted_path(shared, (shared,)) == shared
    assert trusted_path(f"{shared}/models", ("/no/such", shared)) == f"{shared}/models"


def test_an_allowed_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk/models").mkdir(parents=True)
    (tmp_path / "shared").symlink_to(tmp_path / "disk")
    found = trusted_path(str(tmp_path / "shared/models"), (str(tmp_path / "shared"),))
    assert found == str(tmp_path / "disk/models")


def test_a_directory_is_made_inside_what_is_allowed_alone(tmp_path: Path) -> None:
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    shared.mkdir()
    secret.mkdir()
    (shared / "link").symlink_to(secret)
    allowed = (str(shared),)
    for _ in range(2):  # the second worker finds it
        make_directory(f"{shared}/vol-1", allowed)
        assert (shared / "vol-1").is_dir()
    make_directory(str(shared), allowed)

    def refused_to_make(path: str, *roots: str) -> str:
        with pytest.raises(StartFailedError) as raised:
            make_directory(path, roots)
        assert raised.value.reason is WorkerReason.VOLUME_UNAVAILABLE
        return str(raised.value)

    assert "leads out" in refused_to_make(f"{shared}/link/x", *allowed)
    assert "not in volume_paths" in refused_to_make(f"{secret}/x", *allowed)
    assert "cannot be opened" in refused_to_make(f"{shared}/none/x", *allowed)
    (shared / "file").write_text("x")
    assert "cannot be made" in refused_to_make(f"{shared}/file", *allowed)
    assert not any(secret.iterdir())


def test_what_leads_out_is_refused(tmp_path: Path) -> None:
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    (shared / "inner").mkdir(parents=True)
    (secret / "x").mkdir(parents=True)
    (shared / "link").symlink_to(secret)
    (shared / "inner/up").symlink_to("../../secret")
    (shared / "loop").symlink_to("loop")
    (shared / "file").write_text("x")
    allowed = str(shared)
    assert "leads out" in refused(str(shared / "link"), allowed)
    assert "leads out" in refused(str(shared / "link/x"), allowed)
    assert "leads out" in refused(str(shared / "inner/up"), allowed)
    assert "cannot be opened" in refused(str(shared / "loop"), allowed)
    assert "cannot be opened" in refused(str(shared / "none"), allowed)
    assert "is no directory" in refused(str(shared / "file"), allowed)
    assert "not in volume_paths" in refused(str(secret), allowed)
    assert "not in volume_paths" in refused(f"{shared}-2", allowed)
    assert "not in volume_paths" in refused("/etc")


NAMES = ("a", "b", "c")


@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["shared/a", "shared/b", "shared/a/b", "out/a"]),
            st.lists(st.sampled_from(["..", *NAMES, "shared", "out"]), min_size=1, max_size=4),
        ),
        max_size=4,
    ),
    asked=st.lists(st.sampled_from(NAMES), max_size=3),
)
def test_whatever_links_there_are_only_what_is_inside_is_taken(
    links: list[tuple[str, list[str]]], asked: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(os.path.realpath(made))
        for top, inner in itertools.product(("shared", "out"), ("", "c")):
            (folder / top / inner).mkdir(parents=True, exist_ok=True)
        for place, target in links:
            path = folder / place
            if path.parent.is_dir() and not path.is_symlink() and not path.exists():
                path.symlink_to("/".join(target))
        shared = folder / "shared"
        try:
            found = trusted_path("/".join([str(shared), *asked]), (str(shared),))
        except StartFailedError:
            return
        assert Path(found) == Path(found).resolve()
        assert Path(found).is_relative_to(shared)
        assert Path(found).is_dir()


def test_nfs_is_mounted_by_dockers_own_driver() -> None:
    assert driver_options(NFS, VolumePolicy(nfs=True)) == {
        "type": "nfs",
        "device": ":/export",
        "o": "addr=nas,soft",
    }
    with pytest.raises(StartFailedError, match="cannot mount NFS"):
        driver_options(NFS, VolumePolicy(paths=("/",), driver_options=True))


def test_raw_options_need_the_operators_word() -> None:
    allowed = VolumePolicy(driver_options=True)
    assert driver_options(RAW, allowed) == {"type": "tmpfs", "device": "tmpfs"}
    with pytest.raises(StartFailedError, match="volume_driver_options"):
        driver_options(RAW, VolumePolicy(paths=("/",), nfs=True))


def test_a_policy_says_what_it_can_mount() -> None:
    assert VolumePolicy().kinds == ()
    assert VolumePolicy(nfs=True, driver_options=True).kinds == ("nfs", "driver_options")


def order(*mounts: VolumeMount) -> StartOrder:
    return StartOrder("wk-1", "ep-1", 1, "img", (), (), 8000, {}, mounts=mounts)


def test_an_engine_that_hangs_on_an_nfs_server_is_understood() -> None:
    mount = VolumeMount("vol-1", NFS, "/data")
    with pytest.raises(StartFailedError, match="NFS volumes of nas") as raised:
        raise_if_hung(ReadTimeout(), order(mount))
    assert raised.value.reason is WorkerReason.VOLUME_UNAVAILABLE
    raise_if_hung(OSError(), order(mount))
    raise_if_hung(ReadTimeout(), order())
    path = HostPathSource(type="host_path", path="/x/y")
    raise_if_hung(ReadTimeout(), order(VolumeMount("vol-2", path, "/data")))


def test_what_a_directory_holds_is_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    (folder / "a/b").mkdir(parents=True)
    empty = directory_bytes(folder)
    assert empty is not None
    (folder / "a/b/x").write_bytes(b"x" * 100_000)
    os.link(folder / "a/b/x", folder / "a/y")
    (folder / "out").symlink_to(tmp_path)
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(10**9)
    held = directory_bytes(folder)
    assert held is not None
    assert 100_000 <= held - empty <= 150_000
    assert directory_bytes(tmp_path / "none") is None


def test_a_volumes_use_is_read_where_it_is_bounded() -> None:
    labels = {
        "penstock.worker": "wk-1",
        "penstock.size-bytes": "5",
        "penstock.mount-path": "/data",
    }
    item = {"Labels": labels, "UsageData": {"Size": 7}}
    assert read_volume_use(item) == VolumeUse("wk-1", "/data", 7, 5)
    assert read_volume_use(item | {"UsageData": {"Size": -1}}) is None
    assert read_volume_use(item | {"UsageData": None}) is None
    assert read_volume_use(item | {"Labels": None}) is None
    assert read_volume_use({"Labels": labels}, 9) == VolumeUse("wk-1", "/data", 9, 5)
