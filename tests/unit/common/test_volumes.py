"""Which paths a volume may have, and which nodes can mount it."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.errors import InvalidDocumentError
from penstock_common.specs import StorageSpec
from penstock_common.volumes import (
    DriverOptionsSource,
    HostPathSource,
    NfsSource,
    allowed_root,
    can_mount,
    check_plain_path,
    parse_volume,
)

NAMES = st.sampled_from(["mnt", "shared", "a", "..", ".", "", "share", "shared-2"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))


@given(path=PATHS)
def test_a_path_that_is_taken_leads_nowhere_else(path: str) -> None:
    try:
        assert check_plain_path(path) == path
    except ValueError:
        return
    assert posixpath.normpath(path) == path
    assert ".." not in path.split("/")


@given(path=PATHS, root=PATHS)
def test_an_allowed_path_lies_in_its_root(path: str, root: str) -> None:
    parts, above = path.split("/"), root.rstrip("/").split("/")
    expected = path == root or (parts[: len(above)] == above and len(parts) > len(above))
    assert (allowed_root(path, [root]) == root) is expected


def test_a_name_that_begins_alike_is_another_directory() -> None:
    assert allowed_root("/mnt/shared-2", ["/mnt/shared"]) is None
    assert allowed_root("/mnt/shared/2", ["/mnt/shared"]) == "/mnt/shared"
    assert allowed_root("/mnt", ["/mnt/shared"]) is None
    assert allowed_root("/mnt", ["/"]) == "/"


def test_a_node_mounts_what_its_operator_lets_it() -> None:
    shared = HostPathSource(type="host_path", path="/mnt/shared/x")
    nfs = NfsSource(type="nfs", server="nas", path="/export")
    raw = DriverOptionsSource(type="driver_options", options={"type": "tmpfs"})
    assert can_mount(shared, (), ("/mnt/shared",))
    assert not can_mount(shared, ("nfs", "driver_options"), ("/mnt/other",))
    assert can_mount(nfs, ("nfs",), ())
    assert not can_mount(nfs, ("driver_options",), ("/",))
    assert can_mount(raw, ("driver_options",), ())
    assert not can_mount(raw, ("nfs",), ("/",))


@pytest.mark.parametrize("server", ["nas", "nas.example.com", "10.0.0.9", "fe80::1"])
def test_servers_that_are_taken(server: str) -> None:
    source = {"type": "nfs", "server": server, "path": "/"}
    made = parse_volume({"name": "n", "source": source}).source
    assert isinstance(made, NfsSource)
    assert made.server == server


@pytest.mark.parametrize("server", ["", "a b", "a,b", "-a", "a:/x", "a\n"])
def test_servers_that_are_refused(server: str) -> None:
    source = {"type": "nfs", "server": server, "path": "/"}
    with pytest.raises(InvalidDocumentError) as raised:
        parse_volume({"name": "n", "source": source})
    assert [p.pointer for p in raised.value.problems] == ["/source/server"]


def test_two_volumes_have_two_places() -> None:
    volumes = [{"type": "local", "mount_path": path} for path in ("/data", "/data/")]
    with pytest.raises(ValueError, match="two volumes are mounted at /data"):
        StorageSpec.model_validate({"volumes": volumes})
