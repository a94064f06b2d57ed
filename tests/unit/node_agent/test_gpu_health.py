"""When a GPU counts as bad, and what an agent remembers of it."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common.events.catalogue import NODE_GPU_HEALTHY as HEALTHY
from penstock_common.events.catalogue import NODE_GPU_UNHEALTHY as UNHEALTHY
from penstock_common.events.catalogue import EventType
from penstock_common.messages import Gpu, GpuNews, NodeRecord
from penstock_common.states import GpuReason
from penstock_node_agent.gpus.health import UNFIT_XIDS, HealthFacts, find_fault
from penstock_node_agent.gpus.known import KnownGpus
from penstock_node_agent.gpus.news import gpu_news
from penstock_node_agent.gpus.nvml_read import Device, Readout, Unread
from tests.fakes.scheduler_records import make_node

#: Of NVIDIA's catalogue, by "immediate action": RESTART_APP, IGNORE, or the XID before counts.
APPLICATION_XIDS = [8, 11, 13, 25, 31, 32, 43, 45, 63, 68, 92, 94, 109, 137, 154]

facts = st.builds(
    HealthFacts,
    uncorrectable_errors=st.integers(0, 3),
    repair_pending=st.booleans(),
    repair_failed=st.booleans(),
    recovery_action=st.integers(0, 8),
)
xids = st.lists(st.sampled_from([*UNFIT_XIDS, *APPLICATION_XIDS, 999]), max_size=4)


@pytest.mark.parametrize("xid", [*APPLICATION_XIDS, 0, 999])
def test_a_faulty_application_costs_nobody_the_gpu(xid: int) -> None:
    assert find_fault(HealthFacts(), [xid]) is None


@pytest.mark.parametrize("xid", UNFIT_XIDS)
def test_an_xid_of_the_hardware_does(xid: int) -> None:
    fault = find_fault(HealthFacts(), [31, xid, 43])
    assert fault is not None
    assert fault.reason is (GpuReason.LOST if xid == 79 else GpuReason.XID)
    assert f"XID {xid}: " in fault.message


@given(facts, xids)
def test_a_gpu_is_bad_exactly_when_something_speaks_against_it(
    facts: HealthFacts, xids: list[int]
) -> None:
    fault = find_fault(facts, xids)
    assert (fault is None) == (facts == HealthFacts() and not set(xids) & set(UNFIT_XIDS))
    assert fault is None or fault.message


@given(facts, xids, xids)
def test_more_xids_never_make_a_gpu_better(
    facts: HealthFacts, xids: list[int], more: list[int]
) -> None:
    assert find_fault(facts, xids) is None or find_fault(facts, xids + more) is not None


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (HealthFacts(uncorrectable_errors=1), "1 memory error that ECC could not correct"),
        (HealthFacts(uncorrectable_errors=2), "2 memory errors that ECC could not correct"),
        (HealthFacts(recovery_action=2), "the driver asks for a reboot of the machine"),
        (HealthFacts(recovery_action=9), "the driver asks for action 9"),
    ],
)
def test_the_sentence_says_what_it_is(facts: HealthFacts, message: str) -> None:
    fault = find_fault(facts)
    assert fault is not None
    assert fault.message.startswith(message)


# ---- over time

#: What NVML tells of one GPU at one reading.
tales = st.sampled_from(["well", "sick", "split", "lost", "unread", "gone"])
UUIDS = ("GPU-0", "GPU-1", "GPU-2")


def readout(tales: tuple[str, ...]) -> Readout:
    devices: list[Device] = []
    seen: dict[int, str] = {}
    unread: list[Unread] = []
    for index, (uuid, tale) in enumerate(zip(UUIDS, tales, strict=True)):
        if tale in ("lost", "unread"):
            unread.append(Unread(index, 15 if tale == "lost" else 999, tale))
        elif tale != "gone":
            seen[index] = uuid
            health = HealthFacts(uncorrectable_errors=int(tale == "sick"))
            gpu = Gpu(uuid=uuid, product="h100-80gb", vram_bytes=80)
            if tale == "split":
                gpu = gpu.model_copy(update={"uuid": f"MIG-{index}", "parent": uuid})
            devices.append(Device(gpu, health))
    return Readout(devices=tuple(devices), uuids=seen, unread=tuple(unread))


REASONS = {
    "well": None,
    "sick": GpuReason.MEMORY_ERRORS,
    "split": None,
    "lost": GpuReason.LOST,
    "gone": GpuReason.LOST,
}


@given(st.lists(st.tuples(tales, tales, tales), min_size=1, max_size=8))
def test_a_gpu_that_was_seen_is_never_missing_without_a_word(
    story: list[tuple[str, ...]],
) -> None:
    known = KnownGpus()
    #: what of each GPU can be given: itself or its instance
    given: dict[int, str] = {}
    sick: dict[int, bool] = {}
    for tales in story:
        known.learn(readout(tales))
        for index, tale in enumerate(tales):
            if tale in ("well", "sick", "split"):
                given[index] = f"MIG-{index}" if tale == "split" else UUIDS[index]
                sick[index] = tale == "sick"
        shown = {gpu.uuid: gpu.reason for gpu in known.inventory.gpus}
        assert list(shown) == [given[index] for index in sorted(given)]
        for index, uuid in given.items():
            tale = tales[index]
            if tale == "unread":
                # What was known against it weighs more than that it cannot be read now.
                kept = GpuReason.MEMORY_ERRORS if sick[index] else GpuReason.NOT_ANSWERING
                assert shown[uuid] is kept
            else:
                assert shown[uuid] is REASONS[tale]


def test_a_driver_that_falls_silent_and_comes_back_forgets_no_xid() -> None:
    known = KnownGpus()
    known.learn(readout(("well", "well", "sick")))
    known.note_xid("GPU-0", 95)
    known.fall_silent("the driver does not answer")
    assert [gpu.reason for gpu in known.inventory.gpus] == [
        GpuReason.XID,
        GpuReason.NOT_ANSWERING,
        GpuReason.MEMORY_ERRORS,
    ]
    known.learn(readout(("well", "well", "well")))
    assert [gpu.reason for gpu in known.inventory.gpus] == [GpuReason.XID, None, None]


def test_an_application_that_faults_for_ever_is_remembered_once() -> None:
    known = KnownGpus()
    known.learn(readout(("well", "well", "well")))
    for _ in range(100):
        known.note_xid("GPU-0", 31)
        known.note_xid("GPU-0", 43)
    assert known._xids == {"GPU-0": [31, 43]}


# ---- what is told


def node(**faults: GpuReason) -> NodeRecord:
    return make_node(n_gpus=3, faults={int(name[1:]): reason for name, reason in faults.items()})


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, node(), []),
        (None, node(g1=GpuReason.XID), [(UNHEALTHY, 1, None)]),
        (node(), node(), []),
        (node(), node(g2=GpuReason.LOST), [(UNHEALTHY, 2, None)]),
        (node(g2=GpuReason.XID), node(g2=GpuReason.XID), []),
        (node(g2=GpuReason.XID), node(g2=GpuReason.LOST), [(UNHEALTHY, 2, GpuReason.XID)]),
        (node(g0=GpuReason.XID), node(), [(HEALTHY, 0, GpuReason.XID)]),
    ],
)
def test_each_change_of_a_gpus_fault_is_told_once(
    before: NodeRecord | None,
    now: NodeRecord,
    told: list[tuple[EventType[GpuNews], int, GpuReason | None]],
) -> None:
    news = [(what, news.gpu.uuid, news.before) for what, news in gpu_news(before, now)]
    assert news == [(what, f"GPU-node-a-{n}", reason) for what, n, reason in told]
