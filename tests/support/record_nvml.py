"""Records what NVML tells on this machine, for tests to replay: on a machine with a GPU

    python -m tests.support.record_nvml tests/fixtures/nvml/<product>.json [--busy COMMAND]

The recording holds every call that the node agent's probe makes, in its order, and a list of
further ones that later probes may want, each with its arguments, its result or NVML's error code,
and how long it took. `tests/fakes/recorded_nvml.py` passes for `pynvml` with it.
"""

import argparse
import ctypes
import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pynvml

from penstock_node_agent.gpus.nvml_read import read_all

#: Of the ways to read a field's value: the others may be no JSON.
_UNION_FIELDS = ("uiVal", "ullVal", "sllVal")


class RecordingNvml:
    """Passes for the module `pynvml` and keeps what each call gave."""

    def __init__(self, nvml: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self._nvml = nvml
        self._names: dict[int, str] = {}
        self._counts = itertools.count()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._nvml, name)
        if not name.startswith("nvml") or not callable(value):
            return value
        return self._recorded(name, value)

    def _recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any) -> Any:
            entry: dict[str, Any] = {"call": name, "args": [self._encode(arg) for arg in args]}
            self.calls.append(entry)
            begun = time.perf_counter()
            try:
                result = call(*args)
            except self._nvml.NVMLError as error:
                entry["error"] = error.value
                raise
            else:
                if isinstance(result, ctypes._Pointer):
                    self._name(result, name, entry["args"])
                entry["result"] = self._encode(result)
                return result
            finally:
                entry["ms"] = round((time.perf_counter() - begun) * 1000, 3)

        return record

    def _name(self, handle: Any, call: str, args: list[Any]) -> None:
        """Call a handle by how it was got first."""
        text = {
            "nvmlDeviceGetHandleByIndex": lambda: f"gpu:{args[0]}",
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda: f"{args[0]['handle']}/mig:{args[1]}",
            "nvmlEventSetCreate": lambda: f"set:{next(self._counts)}",
        }.get(call, lambda: f"handle:{next(self._counts)}")()
        self._names.setdefault(_address(handle), text)

    def _encode(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float() | str():
                return value
            case bytes():
                return value.decode()
            case ctypes.Array() | list() | tuple():
                return [self._encode(item) for item in value]
            case ctypes.Union():
                return {name: getattr(value, name) for name in _UNION_FIELDS}
            case ctypes.Structure():
                fields = [field[0] for field in value._fields_]
                return {name: self._encode(getattr(value, name)) for name in fields}
            case pynvml.nvmlFriendlyObject():
                return {name: self._encode(item) for name, item in vars(value).items()}
            case _:
                return {"handle": self._names.get(_address(value), "unknown")}


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def record(nvml: Any, busy: Callable[[], None] | None = None) -> dict[str, Any]:
    """A recording of this machine, at rest and, given `busy`, while that has begun."""
    moments = [{"name": "idle", "calls": _record_calls(nvml)}]
    if busy is not None:
        busy()
        moments.append({"name": "busy", "calls": _record_calls(nvml)})
    return {
        "nvidia_ml_py": version("nvidia-ml-py"),
        "moments": moments,
    }


def _record_calls(nvml: Any) -> list[dict[str, Any]]:
    recording = RecordingNvml(nvml)
    recording.nvmlInit()
    try:
        # Twice: the second shows what a reading costs that finds everything warm.
        _, topology = read_all(recording, None)
        read_all(recording, topology)
        for name, args in _further_calls(recording):
            try:
                getattr(recording, name)(*args)
            except nvml.NVMLError:
                continue  # recorded as its answer
            except (AttributeError, TypeError, ctypes.ArgumentError) as error:
                # The recording's own part is whole: one of the further ones must not spoil it.
                print(f"not recorded: {name}: {error!r}", file=sys.stderr)
        _record_events(recording)
    finally:
        recording.nvmlShutdown()
    return recording.calls


def _further_calls(nvml: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "nvmlSystemGetNVMLVersion", ()
    handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    for handle in handles:
        for name in _PLAIN_DEVICE_CALLS:
            yield name, (handle,)
        for name, args in _device_calls_with_arguments(nvml):
            yield name, (handle, *args)
        yield "nvmlDeviceGetHandleByUUID", (nvml.nvmlDeviceGetUUID(handle),)
    for first, second in itertools.permutations(handles, 2):
        yield "nvmlDeviceGetP2PStatus", (first, second, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        yield "nvmlDeviceGetTopologyCommonAncestor", (first, second)


#: They take a handle and nothing else.
_PLAIN_DEVICE_CALLS = (
    "nvmlDeviceGetIndex",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetBrand",
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetComputeMode",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetNumaNodeId",
    "nvmlDeviceGetEccMode",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceIsMigDeviceHandle",
    "nvmlDeviceGetBAR1MemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetRowRemapperHistogram",
    "nvmlDeviceGetRetiredPagesPendingStatus",
    "nvmlDeviceGetPcieReplayCounter",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMarginTemperature",
)


def _device_calls_with_arguments(nvml: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "nvmlDeviceGetMemoryInfo", (nvml.nvmlMemory_v2,)
    for sensor in (nvml.NVML_TEMPERATURE_GPU, nvml.NVML_TEMPERATURE_GPU_MAX):
        yield "nvmlDeviceGetTemperature", (sensor,)
    yield "nvmlDeviceGetTemperatureV", (nvml.NVML_TEMPERATURE_GPU,)
    for threshold in range(5):
        yield "nvmlDeviceGetTemperatureThreshold", (threshold,)
    for kind, counter in itertools.product((0, 1), (nvml.NVML_VOLATILE_ECC, 1)):
        yield "nvmlDeviceGetTotalEccErrors", (kind, counter)
        for place in range(8):
            yield "nvmlDeviceGetMemoryErrorCounter", (kind, counter, place)
    yield "nvmlDeviceGetMemoryAffinity", (4, nvml.NVML_AFFINITY_SCOPE_NODE)
    yield "nvmlDeviceGetCpuAffinity", (8,)
    for clock in range(4):
        yield "nvmlDeviceGetClockInfo", (clock,)
        yield "nvmlDeviceGetMaxClockInfo", (clock,)
    for link in range(18):
        yield "nvmlDeviceGetNvLinkState", (link,)
        yield "nvmlDeviceGetNvLinkRemoteDeviceType", (link,)
    for index in range(8):
        yield "nvmlDeviceGetMigDeviceHandleByIndex", (index,)
    names = (
        "ECC_SBE_VOL_TOTAL",
        "ECC_DBE_VOL_TOTAL",
        "RETIRED_PENDING",
        "MEMORY_TEMP",
        "TOTAL_ENERGY_CONSUMPTION",
        "NVLINK_LINK_COUNT",
        "REMAPPED_COR",
        "REMAPPED_UNC",
        "REMAPPED_PENDING",
        "REMAPPED_FAILURE",
        "RESET_STATUS",
        "DRAIN_AND_RESET_STATUS",
        "GET_GPU_RECOVERY_ACTION",
    )
    for name in names:
        yield "nvmlDeviceGetFieldValues", ([getattr(nvml, f"NVML_FI_DEV_{name}")],)


def _record_events(nvml: Any) -> None:
    """A set of events for each GPU; nothing happens, so that waiting ends by time."""
    wanted = (
        nvml.nvmlEventTypeXidCriticalError,
        nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError,
        nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeGpuRecoveryAction,
    )
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        for types in wanted:
            events = nvml.nvmlEventSetCreate()
            try:
                nvml.nvmlDeviceRegisterEvents(handle, types, events)
                nvml.nvmlEventSetWait_v2(events, 50)
            except nvml.NVMLError:
                continue  # recorded as its answer
            finally:
                nvml.nvmlEventSetFree(events)


def _without_names(text: str) -> str:
    """The recording with made-up UUIDs: whose GPUs they are is nobody's business."""
    found = dict.fromkeys(re.findall(r"(?:GPU|MIG)-[0-9a-f-]{36}", text))
    for n, uuid in enumerate(found, start=1):
        text = text.replace(uuid, f"{uuid[:4]}00000000-0000-4000-8000-{n:012x}")
    return text


def main() -> None:
    """Write a recording of this machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--busy", help="a command that uses a GPU and prints a line once it does")
    arguments = parser.parse_args()
    process: subprocess.Popen[bytes] | None = None

    def busy() -> None:
        nonlocal process
        process = subprocess.Popen(shlex.split(arguments.busy), stdout=subprocess.PIPE)
        assert process.stdout is not None
        print("busy:", process.stdout.readline().decode().strip())

    try:
        recording = record(pynvml, busy if arguments.busy else None)
    finally:
        if process is not None:
            process.terminate()
            process.wait(20)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(_without_names(json.dumps(recording, indent=1)) + "\n")
    slowest = max(recording["moments"][0]["calls"], key=lambda call: call["ms"])
    n = sum(len(moment["calls"]) for moment in recording["moments"])
    print(f"{n} calls in {arguments.out}; the slowest: {slowest['call']}, {slowest['ms']} ms")


if __name__ == "__main__":
    main()
