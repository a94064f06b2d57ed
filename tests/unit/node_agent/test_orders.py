"""What an assignment orders of a runtime: its volumes and its image."""

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock_common.messages import WorkerAssignment
from penstock_common.specs import LocalVolume, parse_endpoint
from penstock_common.states import WorkerReason
from penstock_common.volumes import HostPathSource
from penstock_node_agent.runtimes.protocol import Credentials, StartFailedError, VolumeMount
from penstock_node_agent.workers.orders import start_order

AT = datetime(2030, 1, 1, tzinfo=UTC)
MOUNT = VolumeMount("vol-1", HostPathSource(type="host_path", path="/mnt/x"), "/data")


async def no_auth(_auth_id: str) -> Credentials:
    raise AssertionError


def assignment(**changes: Any) -> WorkerAssignment:
    volumes = [
        {"type": "network", "id": "vol-1", "mount_path": "/data"},
        {"type": "local", "size_gb": 5, "mount_path": "/scratch"},
    ]
    document = {
        "name": "n",
        "app_name": "a",
        "image": {"image": "a/b:1", "command": "serve"},
        "storage": {"volumes": volumes},
    }
    return WorkerAssignment(
        worker_id="wk-1",
        node_id="node-1",
        endpoint_id="ep-1",
        revision=1,
        fencing_token=1,
        decided_at=AT,
        assigned_at=AT,
        spec=parse_endpoint(document),
        **changes,
    )


def test_volumes_and_image_are_ordered() -> None:
    order = start_order(assignment(image_digest="sha256:1"), "docker", None, no_auth, (MOUNT,))
    assert order.mounts == (MOUNT,)
    assert order.volumes == (LocalVolume(type="local", size_gb=5, mount_path="/scratch"),)
    assert (order.wish.image, order.wish.image_digest) == ("a/b:1", "sha256:1")


def test_a_process_cannot_have_a_network_volume() -> None:
    with pytest.raises(StartFailedError, match="cannot mount the network volume vol-1") as raised:
        start_order(assignment(), "process", None, no_auth, (MOUNT,))
    assert raised.value.reason is WorkerReason.NOT_RUNNABLE
