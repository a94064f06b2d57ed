"""Which way a container gets its GPUs, and what it is told of them."""

from typing import Any

import pytest

from penstock_node_agent.runtimes.docker.gpus import (
    GpuWay,
    choose_way,
    gpu_environment,
    gpu_options,
)

TWO = ("GPU-a", "GPU-b")
WAYS: tuple[GpuWay, ...] = ("cdi", "runtime", "device_request")


@pytest.mark.parametrize(
    ("info", "way"),
    [
        (
            {"DiscoveredDevices": [{"ID": "nvidia.com/gpu=GPU-a"}], "Runtimes": {"nvidia": {}}},
            "cdi",
        ),
        ({"DiscoveredDevices": [{"ID": "other.com/nic=0"}], "Runtimes": {"nvidia": {}}}, "runtime"),
        ({"DiscoveredDevices": None, "Runtimes": {"runc": {}}}, "device_request"),
        ({}, "device_request"),
    ],
)
def test_the_best_way_that_the_engine_lists(info: dict[str, Any], way: GpuWay) -> None:
    assert choose_way(info) == way


def test_a_device_request_names_uuids_and_capabilities() -> None:
    (request,) = gpu_options("device_request", TWO, {})["device_requests"]
    assert (request["Driver"], request["DeviceIDs"]) == ("nvidia", ["GPU-a", "GPU-b"])
    assert request["Count"] == 0
    assert request["Capabilities"] == [["gpu", "compute", "utility"]]


def test_an_engine_takes_no_capability_called_all() -> None:
    env = {"NVIDIA_DRIVER_CAPABILITIES": "all"}
    (request,) = gpu_options("device_request", TWO, env)["device_requests"]
    assert {"graphics", "video", "display"} < set(request["Capabilities"][0])
    assert "all" not in request["Capabilities"][0]
    assert gpu_environment("device_request", TWO, env)["NVIDIA_DRIVER_CAPABILITIES"] == "all"


def test_cdi_names_devices_and_keeps_a_default_runtime_from_adding_more() -> None:
    (request,) = gpu_options("cdi", TWO, {})["device_requests"]
    assert request["Driver"] == "cdi"
    assert request["DeviceIDs"] == ["nvidia.com/gpu=GPU-a", "nvidia.com/gpu=GPU-b"]
    assert (request["Count"], request["Options"]) == (0, {})  # both are refused
    assert gpu_environment("cdi", TWO, {})["NVIDIA_VISIBLE_DEVICES"] == "void"


@pytest.mark.parametrize("way", WAYS)
def test_nobody_takes_gpus_by_a_variable(way: GpuWay) -> None:
    greedy = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_MIG_CONFIG_DEVICES": "all", "A": "1"}
    assert gpu_environment(way, (), greedy) == {"A": "1", "NVIDIA_VISIBLE_DEVICES": "void"}
    assert gpu_options(way, (), greedy) == {}
    env = gpu_environment(way, TWO, greedy)
    assert env["NVIDIA_VISIBLE_DEVICES"] in ("void", "GPU-a,GPU-b")
    assert "NVIDIA_MIG_CONFIG_DEVICES" not in env
