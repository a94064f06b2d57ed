"""Why nodes cannot take a worker, in one sentence for all of them [pure]."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from penstock_common.messages import VolumeRecord
from penstock_common.specs import EndpointSpec
from penstock_common.volumes import can_mount
from penstock_scheduler.placement.nodes import Kind


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a node cannot take the worker: one sentence's verb for one node, and for several."""

    one: str
    many: str
    #: which field of the document, or what about the nodes, to change; empty = it passes by itself, or
    #: the sentence says it
    fix: str = ""


_FREE_DISK: Final = "free disk on a node, or lower storage.container_disk_gb"

#: The network volumes by id.
Volumes = Mapping[str, VolumeRecord]


def unfit(kind: Kind, spec: EndpointSpec, products: Iterable[str], volumes: Volumes) -> Lack | None:
    """The first thing that makes a kind of node unfit, whatever runs there; None = it is fit.

    Args:
        kind: the nodes.
        spec: the endpoint.
        products: acceptable ones in lower case; empty = any.
        volumes: the network volumes by id.
    """
    return (
        _check_engine(kind)
        or _check_runtime(kind, spec)
        or _check_labels(kind, spec)
        or _check_volumes(kind, spec, volumes)
        or _check_gpus(kind, spec, tuple(products))
        or _check_closed(kind)
    )


def can_hold(product: str, count: int) -> bool:
    """Whether one worker can use so many GPUs of a product: CUDA shows a process one MIG instance.

    Source: NVIDIA's MIG user guide, "CUDA Device Enumeration".
    """
    return count <= 1 or "-mig" not in product


def disk_to_keep(kind: Kind, wanted_bytes: int) -> int:
    """Bytes of disk that a node must have for a worker; a plain process has no disk of its own."""
    return wanted_bytes if kind.runtime == "docker" else 0


def describe(
    kinds: Mapping[Kind, int],
    spec: EndpointSpec,
    products: Iterable[str],
    short_of_disk: Mapping[Kind, int],
    volumes: Volumes,
) -> str:
    """`no capacity: 3 nodes lack free GPUs, 1 has CUDA 12.2 < 12.4`, most frequent first.

    Where waiting helps nobody, it ends with what does, for the most frequent lack.

    Args:
        kinds: how many nodes of each kind; none of them has room for the worker.
        spec: the endpoint.
        products: as for `unfit`.
        short_of_disk: how many nodes of each kind lack nothing but disk.
        volumes: as for `unfit`.
    """
    lacks: Counter[Lack] = Counter()
    wanted = tuple(products)
    disk = f"less than {spec.storage.kept_bytes / 1e9:g} GB of disk left"
    for kind, n in kinds.items():
        lack = unfit(kind, spec, wanted, volumes)
        n_short = 0 if lack else min(n, short_of_disk.get(kind, 0))
        if n_short:
            lacks[Lack(f"has {disk}", f"have {disk}", _FREE_DISK)] += n_short
        if n > n_short:
            lacks[lack or Lack("lacks free GPUs", "lack free GPUs")] += n - n_short
    if not lacks:
        return "no capacity: no nodes joined; `penstock node join` says how one does"
    counted = sorted(lacks.items(), key=lambda item: (-item[1], item[0].one))
    parts = [f"{n} {lack.one if n == 1 else lack.many}" for lack, n in counted]
    parts[0] = parts[0].replace(" ", " node " if counted[0][1] == 1 else " nodes ", 1)
    helps = f"; {counted[0][0].fix}" if all(lack.fix for lack in lacks) else ""
    return f"no capacity: {', '.join(parts)}{helps}"


def _check_engine(kind: Kind) -> Lack | None:
    if not kind.trouble:
        return None
    what = "a full disk" if kind.trouble == "full" else "an engine that does not answer"
    return Lack(f"has {what}", f"have {what}")


def _check_runtime(kind: Kind, spec: EndpointSpec) -> Lack | None:
    if kind.runtime == "docker" and not spec.image.image:
        what = "containers and image.image is not set"
    elif kind.runtime == "process" and not (spec.image.command or "").strip():
        what = "plain processes and image.command is not set"
    else:
        return None
    return Lack(f"runs {what}", f"run {what}")


def _check_labels(kind: Kind, spec: EndpointSpec) -> Lack | None:
    what = _missing_label(kind, spec.placement.node_selector)
    fix = "change placement.node_selector, or the labels of a node"
    return Lack(f"has {what}", f"have {what}", fix) if what else None


def _missing_label(kind: Kind, selector: Mapping[str, str]) -> str | None:
    labels = dict(kind.labels)
    for name, value in sorted(selector.items()):
        if labels.get(name) != value:
            return f"not the label {name}={value}"
    return None


def _check_volumes(kind: Kind, spec: EndpointSpec, volumes: Volumes) -> Lack | None:
    for volume in spec.storage.network_volumes:
        record = volumes.get(volume.id)
        if record is None:
            what = f"the network volume {volume.id} gone"
            return Lack(f"finds {what}", f"find {what}")
        source = record.source
        missing = _missing_label(kind, record.node_selector)
        if missing is None and can_mount(source, kind.volume_kinds, kind.volume_paths):
            continue
        what = (
            missing
            or {
                "nfs": "no NFS",
                "host_path": f"no {getattr(source, 'path', '')} among their volume_paths",
                "driver_options": "no volume_driver_options",
            }[source.type]
        )
        end = f"which volume {volume.id} needs"
        return Lack(f"has {what.replace('their', 'its')}, {end}", f"have {what}, {end}")
    return None


def _check_gpus(kind: Kind, spec: EndpointSpec, wanted: tuple[str, ...]) -> Lack | None:
    count = spec.gpu.count
    if not count:
        return None
    if not kind.products:
        fix = "join a node with GPUs, or set gpu.count to 0"
        return Lack("has no GPUs", "have no GPUs", fix)
    present = [p for p in kind.products if not wanted or p[0] in wanted]
    if not present:
        names = " or ".join(spec.gpu.products)
        fix = "set gpu.products to what `penstock product list` shows, or leave it out for any"
        return Lack(f"has no {names}", f"have no {names}", fix)
    if spec.gpu.min_vram_gb:
        vram = dict(kind.vram_bytes)
        present = [p for p in present if vram[p[0]] >= spec.gpu.min_vram_gb * 10**9]
        if not present:
            what = f"no GPU of {spec.gpu.min_vram_gb} GB"
            return Lack(f"has {what}", f"have {what}", "lower gpu.min_vram_gb")
    usable = [p for p in present if can_hold(p[0], count)]
    if not usable:
        what = f"only MIG instances, and a worker can use one of them, not {count}"
        return Lack(f"has {what}", f"have {what}", "set gpu.count to 1")
    enough = [p for p in usable if p[1] >= count]
    if not enough:
        what = f"fewer than {count} GPUs of one product"
        return Lack(f"has {what}", f"have {what}", "lower gpu.count")
    lack = _check_cuda(kind, spec.gpu.min_cuda_version)
    if lack is None and all(healthy < count for _, _, healthy in enough):
        return Lack("has unhealthy GPUs", "have unhealthy GPUs")
    return lack


def _check_closed(kind: Kind) -> Lack | None:
    # Last: a node that could not take the worker anyway is not told of as if it were kept from it.
    return Lack(f"is {kind.closed}", f"are {kind.closed}") if kind.closed else None


def _check_cuda(kind: Kind, wanted: str | None) -> Lack | None:
    if wanted is None:
        return None
    if kind.cuda_version is None:
        what = f"no known CUDA version and {wanted} is needed"
    elif _version(kind.cuda_version) < _version(wanted):
        what = f"CUDA {kind.cuda_version} < {wanted}"
    else:
        return None
    fix = "lower gpu.min_cuda_version, or update the NVIDIA driver of a node"
    return Lack(f"has {what}", f"have {what}", fix)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))
