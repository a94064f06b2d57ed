"""How a worker becomes a container, and how the engine's answers are read."""

from dataclasses import replace
from typing import Any

import pytest

from penstock_common.specs import LocalVolume
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.docker.containers import (
    DISK_LABEL,
    DiskUse,
    DockerSettings,
    EngineAbilities,
    container_labels,
    container_name,
    default_shm_bytes,
    environment,
    host_options,
    read_disk_use,
    read_exit,
    read_found,
    read_port,
)
from penstock_node_agent.runtimes.docker.errors import pull_failure
from penstock_node_agent.runtimes.protocol import Exit, StartOrder

SETTINGS = DockerSettings(docker_host="unix:///x", node_id="node-a", address="10.0.0.5")

ABLE = EngineAbilities()


def order(**changes: Any) -> StartOrder:
    fields: dict[str, Any] = {
        "worker_id": "wk-1",
        "endpoint_id": "ep-1",
        "revision": 3,
        "image": "img:1",
        "entrypoint": (),
        "command": (),
        "http_port": 8000,
        "env": {"A": "1"},
    }
    return StartOrder(**fields | changes)


def test_gpus_of_a_list_are_only_named() -> None:
    listed = order(gpus=("static-0", "static-1"))
    assert "device_requests" not in host_options(listed, SETTINGS, ABLE)
    assert "runtime" not in host_options(listed, SETTINGS, EngineAbilities(gpu_way="runtime"))
    env = environment(listed, "runtime")
    assert env["CUDA_VISIBLE_DEVICES"] == "static-0,static-1"
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_limits_of_the_operator_hold_for_each_container() -> None:
    options = host_options(order(), replace(SETTINGS, cpus=1.5, memory_bytes=10**9), ABLE)
    assert options["nano_cpus"] == 1_500_000_000
    assert options["mem_limit"] == options["memswap_limit"] == 10**9
    assert not {"nano_cpus", "mem_limit"} & host_options(order(), SETTINGS, ABLE).keys()


def test_a_disk_is_bounded_by_the_engine_or_else_watched() -> None:
    bounded = order(disk_bytes=5_000)
    assert host_options(bounded, SETTINGS, ABLE)["storage_opt"] == {"size": "5000"}
    assert DISK_LABEL not in container_labels(bounded, "node-a", ABLE)
    unable = EngineAbilities(disk_quota=False)
    assert "storage_opt" not in host_options(bounded, SETTINGS, unable)
    labels = container_labels(bounded, "node-a", unable)
    assert read_disk_use({"Labels": labels, "SizeRw": 6_000}) == DiskUse("wk-1", 6_000, 5_000)
    assert read_disk_use({"Labels": labels}) == DiskUse("wk-1", 0, 5_000)
    assert read_disk_use({"Labels": container_labels(order(), "node-a", unable)}) is None


def test_shared_memory_is_half_of_the_machines_within_bounds() -> None:
    gib = 1024**3
    assert default_shm_bytes(8 * gib) == 4 * gib
    assert default_shm_bytes(512 * gib) == 16 * gib


def test_what_penstock_sets_cannot_be_overridden() -> None:
    env = environment(order(env={"PORT": "1", "PENSTOCK_WORKER_ID": "x"}), "runtime")
    assert (env["PORT"], env["PENSTOCK_WORKER_ID"]) == ("8000", "wk-1")


def test_one_port_on_one_address_and_no_new_privileges() -> None:
    options = host_options(order(), SETTINGS, EngineAbilities(raise_limits=False))
    assert options["port_bindings"] == {"8000/tcp": ("10.0.0.5", None)}
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert options["restart_policy"] == {"Name": "no"}
    assert "ulimits" not in options
    assert "ulimits" in host_options(order(), SETTINGS, ABLE)


def test_volumes_are_the_workers_own() -> None:
    volumes = tuple(LocalVolume(type="local", mount_path=path) for path in ("/a", "/b"))
    options = host_options(order(volumes=volumes), SETTINGS, ABLE)
    assert options["binds"] == {
        "penstock-wk-1-0": {"bind": "/a", "mode": "rw"},
        "penstock-wk-1-1": {"bind": "/b", "mode": "rw"},
    }
    assert container_name("wk-1") == "penstock-wk-1"


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"Status": "running", "Running": True, "ExitCode": 0}, None),
        ({"Status": "created", "Running": False, "ExitCode": 0}, None),
        ({"Status": "exited", "Running": False, "ExitCode": 3, "OOMKilled": False}, Exit(3)),
        (
            {"Status": "exited", "Running": False, "ExitCode": 137, "OOMKilled": True},
            Exit(137, oom_killed=True),
        ),
        # A child of it was killed for memory, it went on and ended well.
        ({"Status": "exited", "Running": False, "ExitCode": 0, "OOMKilled": True}, Exit(0)),
    ],
)
def test_ends_are_read(state: dict[str, object], ended: Exit | None) -> None:
    assert read_exit({"State": state}) == ended


def test_lists_are_read() -> None:
    labels = {"penstock.worker": "wk-1"}
    running = {"Labels": labels, "State": "running", "Ports": [{"PrivatePort": 1, "PublicPort": 2}]}
    found = read_found(running, "10.0.0.5")
    assert found is not None
    assert found.address is not None
    assert (found.address.host, found.address.port) == ("10.0.0.5", 2)
    created = read_found({"Labels": labels, "State": "created"}, "h")
    assert created is not None
    assert created.created_only
    exited = read_found({"Labels": labels, "State": "exited"}, "h")
    assert exited is not None
    assert exited.exit is not None
    assert read_found({"Labels": None, "State": "running"}, "h") is None
    ports = {"NetworkSettings": {"Ports": {"8000/tcp": [{"HostPort": "49153"}]}}}
    assert read_port(ports, 8000) == 49153
    assert read_port({"NetworkSettings": {"Ports": {"8000/tcp": None}}}, 8000) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            "image_not_found",
        ),
        ("manifest for x:1 not found: manifest unknown: manifest unknown", "image_not_found"),
        ("manifest unknown", "image_not_found"),
        ("unauthorized: authentication required", "registry_auth_failed"),
        ("denied: requested access to the resource is denied", "registry_auth_failed"),
        ('Get "https://r/v2/": dial tcp: lookup r: no such host', "registry_unreachable"),
        ('Get "https://r/v2/": dial tcp 1.2.3.4:443: i/o timeout', "registry_unreachable"),
        ("write /var/lib/docker/tmp/x: no space left on device", "no_space"),
        ("something new", "engine_error"),
    ],
)
def test_what_a_failed_pull_means(text: str, reason: str) -> None:
    error = pull_failure("x:1", text)
    assert error.reason is WorkerReason(reason)
    assert text in str(error)
