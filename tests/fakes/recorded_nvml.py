"""Passes for the module `pynvml` with what a real driver told (`tests/support/record_nvml.py`).

A call that was not recorded fails the test: nothing is made up. A test may change answers, to
show a GPU that goes bad, and tell XIDs.
"""

import json
import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pynvml

_Key: TypeAlias = tuple[str, str]


class RecordedNvml:
    """A machine as it was recorded, at one moment; handles are their names, as strings."""

    def __init__(self, recording: dict[str, Any], moment: str = "idle") -> None:
        """`moment`: `idle` or `busy`."""
        (calls,) = (m["calls"] for m in recording["moments"] if m["name"] == moment)
        # A later answer replaces an earlier one: both are true, and the driver was warmer.
        self._answers: dict[_Key, dict[str, Any]] = {_key(c["call"], c["args"]): c for c in calls}
        self._failing: dict[str, int] = {}
        self._events: dict[str, queue.SimpleQueue[Any]] = {}
        self._watched: dict[str, str] = {}
        #: how often it is initialised
        self.open = 0
        #: cleared = every call hangs
        self.answering = threading.Event()
        self.answering.set()

    @classmethod
    def load(cls, path: Path, moment: str = "idle") -> "RecordedNvml":
        """That of a file."""
        return cls(json.loads(path.read_text()), moment)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or not callable(getattr(pynvml, name)):
            return getattr(pynvml, name)

        def call(*args: Any) -> Any:
            return self._answer(name, args)

        return call

    # ---- what a test does to it

    def change(self, call: str, args: list[Any], result: Any) -> None:
        """Answer this from now on; `args` and `result` as in a recording."""
        assert _key(call, args) in self._answers, f"never recorded: {call}({args})"
        self._answers[_key(call, args)] = {"result": result}

    def fail(self, handle: str, code: int) -> None:
        """Every call about this GPU fails with an NVML error code."""
        self._failing[handle] = code

    def mend(self, handle: str) -> None:
        """Calls about this GPU are answered again."""
        del self._failing[handle]

    def tell_xid(self, handle: str, xid: int) -> None:
        """The driver tells an XID of this GPU to whoever listens."""
        event = SimpleNamespace(
            device=handle, eventType=pynvml.nvmlEventTypeXidCriticalError, eventData=xid
        )
        for name, watched in self._watched.items():
            if watched == handle:
                self._events[name].put(event)

    # ---- calls that do something

    def nvmlInit(self) -> None:  # noqa: N802
        self._wait()
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlEventSetCreate(self) -> str:  # noqa: N802
        name = f"set:{len(self._events)}"
        self._events[name] = queue.SimpleQueue()
        return name

    def nvmlDeviceRegisterEvents(self, handle: str, types: int, events: str) -> None:  # noqa: N802
        self._check(handle)
        supported = self._answer("nvmlDeviceGetSupportedEventTypes", (handle,))
        if types & ~supported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self._watched[events] = handle

    def nvmlEventSetWait_v2(self, events: str, timeout_ms: int) -> Any:  # noqa: N802
        try:
            return self._events[events].get(timeout=timeout_ms / 1000)
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None

    def nvmlEventSetFree(self, events: str) -> None:  # noqa: N802
        self._watched.pop(events, None)

    # ---- inner

    def _answer(self, name: str, args: tuple[Any, ...]) -> Any:
        self._wait()
        for arg in args:
            self._check(arg)
        answer = self._answers.get(_key(name, [_handle(arg) for arg in args]))
        assert answer is not None, f"never recorded: {name}{args}"
        if "error" in answer:
            raise pynvml.NVMLError(answer["error"])
        return _decode(answer["result"])

    def _wait(self) -> None:
        self.answering.wait(30)

    def _check(self, arg: Any) -> None:
        if isinstance(arg, str) and arg in self._failing:
            raise pynvml.NVMLError(self._failing[arg])


def _key(name: str, args: list[Any]) -> _Key:
    return name, json.dumps(args)


def _handle(arg: Any) -> Any:
    """An argument as in a recording; UUIDs are strings too, and contain no colon."""
    return {"handle": arg} if isinstance(arg, str) and ":" in arg else arg


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        if "handle" in value:
            return value["handle"]
        return SimpleNamespace(**{name: _decode(item) for name, item in value.items()})
    return value
