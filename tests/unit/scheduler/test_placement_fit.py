"""What a worker's GPUs, disk and volumes ask of a node."""

from datetime import UTC, datetime

import pytest

from penstock_common.messages import NodeRecord, VolumeRecord
from penstock_common.specs import StorageSpec
from penstock_common.volumes import DriverOptionsSource, HostPathSource, NfsSource, VolumeSource
from penstock_scheduler.placement.cluster import Cluster, NoCapacity, Placement, Request, pick_gpus
from penstock_scheduler.placement.nodes import Booking
from tests.fakes.scheduler_records import make_node, make_record
from tests.support.placing import book, message, node_of, place, request


def test_a_gpu_with_too_little_memory_is_not_taken() -> None:
    mixed = make_node("node-a", n_gpus=1)
    mixed = mixed.model_copy(
        update={"gpus": (*mixed.gpus, *make_node("node-b", n_gpus=1, product="h100-80gb").gpus)}
    )
    found = place([mixed], request(min_vram_gb=40))
    assert isinstance(found, Placement)
    assert found.gpus == ("GPU-node-b-0",)
    assert message([make_node()], request(min_vram_gb=40)) == (
        "no capacity: 1 node has no GPU of 40 GB; lower gpu.min_vram_gb"
    )
    assert node_of([make_node()], request(min_vram_gb=24)) == "node-a"
    assert node_of([make_node(n_gpus=0)], request(count=0, min_vram_gb=40)) == "node-a"


def with_disk(node: NodeRecord, free_gb: int) -> NodeRecord:
    return node.model_copy(update={"disk_free_bytes": free_gb * 10**9})


def disk_request(endpoint_id: str = "ep-1", **storage: object) -> Request:
    return Request(endpoint_id, make_record(endpoint_id, storage=storage).spec)


def test_disk_is_kept_for_workers_that_have_not_used_it_yet() -> None:
    cluster = Cluster([with_disk(make_node(n_gpus=4), 250)], ())
    volume = {"type": "local", "size_gb": 20, "mount_path": "/data"}
    wanted = disk_request(container_disk_gb=100, volumes=[volume])
    placements, lack = cluster.place(wanted, 3)
    assert len(placements) == 2  # of 250 GB, 240 are kept now
    assert lack == NoCapacity(
        "no capacity: 1 node has less than 120 GB of disk left; free disk on a node, or lower "
        "storage.container_disk_gb"
    )
    assert cluster.find(disk_request("ep-2", container_disk_gb=10)) is not None
    assert cluster.find(disk_request("ep-2", container_disk_gb=11)) is None
    assert cluster.find(disk_request("ep-2")) is not None  # nothing is kept for it
    cluster.release(
        Booking(placements[0].node_id, "ep-1", placements[0].gpus, wanted.spec.storage.kept_bytes)
    )
    assert cluster.find(wanted) is not None


def test_a_heartbeat_that_says_more_disk_is_free_counts_at_once() -> None:
    node = with_disk(make_node(), 50)
    cluster = Cluster([node], ())
    wanted = disk_request(container_disk_gb=60)
    assert cluster.find(wanted) is None
    assert cluster.find(wanted) is None  # what was learnt by looking at all of them holds
    cluster.put_node(with_disk(node, 70))
    assert cluster.find(wanted) is not None
    cluster.put_node(with_disk(node, 30))
    assert cluster.find(wanted) is None


def test_each_node_counts_with_its_own_lack() -> None:
    nodes = [
        with_disk(make_node("node-a"), 10),
        with_disk(make_node("node-b"), 20),
        with_disk(make_node("node-c", n_gpus=1), 30),
        make_node("node-d", product="h100-80gb"),
    ]
    wanted = Request(
        "ep-1",
        make_record(gpu={"products": ["rtx-4090-24gb"]}, storage={"container_disk_gb": 50}).spec,
    )
    assert message(nodes, wanted, (book(nodes[2], 0),)) == (
        "no capacity: 2 nodes have less than 50 GB of disk left, "
        "1 has no rtx-4090-24gb, 1 lacks free GPUs"
    )


def test_a_plain_process_has_no_disk_of_its_own() -> None:
    node = with_disk(make_node(runtime="process"), 1)
    assert node_of([node], disk_request(container_disk_gb=100)) == "node-a"


def test_a_mig_instance_is_a_gpu_of_its_own() -> None:
    node = make_node(n_gpus=2, product="h100-80gb-mig-1g-10gb")
    placements, lack = Cluster([node], ()).place(request(products=["H100-80GB-MIG-1g-10gb"]), 3)
    assert len({placement.gpus for placement in placements}) == 2
    assert lack is not None


def test_several_gpus_come_of_no_mig_instances_though_they_are_cheaper() -> None:
    mig = make_node("node-a", n_gpus=7, product="h100-80gb-mig-1g-10gb")
    whole = make_node("node-b", n_gpus=8)
    both = mig.model_copy(update={"gpus": mig.gpus + whole.gpus})
    found = place([both], request(count=2))
    assert isinstance(found, Placement)
    assert set(found.gpus) <= {gpu.uuid for gpu in whole.gpus}


def test_groups_of_one_numa_node_go_together() -> None:
    node = make_node(n_gpus=8, groups=(0, 0, 2, 2, 4, 4, 6, 6))
    near = {0: 0, 2: 1, 4: 0, 6: 1}
    free = {
        gpu.uuid: gpu.model_copy(update={"numa_node": near[gpu.link_group]}) for gpu in node.gpus
    }
    picked = pick_gpus(free, 4)
    assert len({free[uuid].link_group for uuid in picked}) == 2
    assert len({free[uuid].numa_node for uuid in picked}) == 1


SHARED = HostPathSource(type="host_path", path="/mnt/shared/x")


NFS = NfsSource(type="nfs", server="nas", path="/export")


RAW = DriverOptionsSource(type="driver_options", options={"type": "tmpfs"})


@pytest.mark.parametrize(
    ("source", "able", "lack"),
    [
        (SHARED, {"volume_paths": ("/mnt/shared",)}, "no /mnt/shared/x among its volume_paths"),
        (NFS, {"volume_kinds": ("nfs",)}, "no NFS"),
        (RAW, {"volume_kinds": ("driver_options",)}, "no volume_driver_options"),
    ],
)
def test_only_a_node_that_can_mount_the_volume_takes_the_worker(
    source: VolumeSource, able: dict[str, object], lack: str
) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    volume = VolumeRecord(volume_id="vol-1", name="v", source=source, created_at=at, updated_at=at)
    mounted = {"type": "network", "id": "vol-1", "mount_path": "/data"}
    storage = StorageSpec.model_validate({"volumes": [mounted]})
    spec = make_record().spec.model_copy(update={"storage": storage})
    wanted = Request("ep-1", spec, volumes={"vol-1": volume})
    unable, other = make_node("node-a"), make_node("node-b")
    told = f"{lack}, which volume vol-1 needs"
    assert message([unable], wanted) == f"no capacity: 1 node has {told}"
    plural = told.replace("its", "their")
    assert message([unable, other], wanted) == f"no capacity: 2 nodes have {plural}"
    assert node_of([unable, other.model_copy(update=able)], wanted) == "node-b"

    kept = Cluster([unable], ())
    assert kept.put_node(unable.model_copy(update=able))
    assert kept.place(wanted)[1] is None

    there = volume.model_copy(update={"node_selector": {"zone": "a"}})
    zoned = Request("ep-1", spec, volumes={"vol-1": there})
    able_node = unable.model_copy(update=able)
    told = "not the label zone=a, which volume vol-1 needs"
    assert message([able_node], zoned) == f"no capacity: 1 node has {told}"
    labelled = other.model_copy(update={**able, "labels": {"zone": "a"}})
    assert node_of([able_node, labelled], zoned) == "node-b"

    gone = Request("ep-1", spec)
    assert message([unable], gone) == "no capacity: 1 node finds the network volume vol-1 gone"
