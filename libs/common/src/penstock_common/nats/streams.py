"""The streams and buckets of Penstock: made from the table in `layout.py` by one piece of code.

Memory streams do not outlive a restart of a single server (they are gone, not empty), so
`ensure_streams` registers itself with the bus, which runs it again after every reconnect.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import aiohttp

from penstock_common import subjects
from penstock_common.errors import BusRefusedError, BusTimeoutError
from penstock_common.nats import layout
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import MARKER_TTL_S
from penstock_common.nats.rows import Bucket, Stream

logger = logging.getLogger(__name__)

_NS: Final = 1_000_000_000
#: A 2.15 server takes 1,000 consumers a stream unless told a positive number.
_MAX_CONSUMERS: Final = 20_000
#: Questions without an answer are asked so often, 5 s each: an election takes up to nine.
_TRIES: Final = 3

# JetStream's err_codes
_STREAM_NOT_FOUND: Final = 10059
_STREAM_EXISTS: Final = 10058
_NO_LEADER: Final = 10008


def _bucket(bucket: Bucket) -> dict[str, Any]:
    return {
        "name": subjects.kv_stream(bucket.name),
        "subjects": [subjects.kv_subject(bucket.name, ">")],
        "retention": "limits",
        "storage": bucket.storage,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": MARKER_TTL_S * _NS,
        "max_consumers": _MAX_CONSUMERS,
    }


def _stream(stream: Stream) -> dict[str, Any]:
    optional = {
        "max_age": stream.max_age_s and stream.max_age_s * _NS,
        "max_msgs": stream.max_msgs,
        "max_msgs_per_subject": stream.max_msgs_per_subject,
        "compression": "s2" if stream.compressed else None,
        "persist_mode": "async" if stream.written_behind else None,
        "allow_msg_ttl": stream.message_ttl or None,
    }
    return {
        "name": stream.name,
        "subjects": [*stream.patterns],
        "retention": stream.retention,
        "storage": stream.storage,
        "discard": stream.discard,
        "max_bytes": stream.max_bytes,
        "max_msg_size": stream.max_msg_bytes,
        "allow_direct": True,
        "max_consumers": _MAX_CONSUMERS,
        **{name: value for name, value in optional.items() if value is not None},
    }


#: Every stream as JetStream wants it; the number of replicas is added when they are made.
STREAMS: Final[tuple[Mapping[str, Any], ...]] = (
    *map(_bucket, layout.BUCKETS),
    *map(_stream, layout.STREAMS),
)


async def ensure_streams(bus: Bus, *, replicas: int = 1, may_change: bool = False) -> None:
    """Make every stream and bucket that is missing, and perhaps bring the others to the table.

    Safe to repeat and while other services do the same. Also registers itself, so that after
    every reconnect of `bus` what a server's restart lost is made again before its `on_connect`
    callbacks; a service does nothing for that.

    Args:
        bus: the connection; with several, each that needs the streams right after a reconnect.
        replicas: copies of each stream: 1 on a single server, 3 on a cluster.
        may_change: bring a stream that differs to the table; of all services the api does.

    Raises:
        BusRefusedError: the server refused to make a stream; the message says why.
        BusDisconnectedError, BusTimeoutError, NoRespondersError: it could not be asked.
    """
    streams = [_of_copies(declared, replicas) for declared in STREAMS]

    async def make_missing() -> None:
        # One question, since a thousand services ask it when their server has restarted.
        names = (await bus.api("STREAM.NAMES", timeout_s=5.0)).get("streams") or ()
        for declared in streams:
            if declared["name"] not in names:
                await _ensure_stream(bus, declared, may_change=may_change)

    for declared in streams:
        await _ensure_stream(bus, declared, may_change=may_change)
    bus.ensure("streams", make_missing)


def _of_copies(declared: Mapping[str, Any], replicas: int) -> Mapping[str, Any]:
    """The declaration with so many copies; only a stream of one copy can be written behind."""
    unfit = {"persist_mode"} if replicas > 1 else set()
    return {k: v for k, v in declared.items() if k not in unfit} | {"num_replicas": replicas}


async def _ensure_stream(bus: Bus, declared: Mapping[str, Any], *, may_change: bool) -> None:
    name = declared["name"]
    found = await _find_stream(bus, name)
    if found is None:
        try:
            await _asked(bus, f"STREAM.CREATE.{name}", declared)
        except BusRefusedError as error:
            if error.code != _STREAM_EXISTS:
                raise BusRefusedError(f"stream {name}: {error}", code=error.code) from error
            found = await _find_stream(bus, name)  # somebody was faster, with another declaration
        else:
            logger.info("stream made", extra={"action": "stream_made", "stream": name})
    changed = {k: v for k, v in declared.items() if found is not None and found.get(k) != v}
    if not changed:
        return
    if not may_change:
        logger.info(
            "stream differs from its declaration; the api will change it",
            extra={"action": "stream_differs", "stream": name, "fields": sorted(changed)},
        )
        return
    try:
        await bus.api(f"STREAM.UPDATE.{name}", {**(found or {}), **declared}, timeout_s=5.0)
    except BusRefusedError as error:
        # Some fields cannot be changed any more; the stream works as it is.
        logger.error(
            "stream differs from its declaration and cannot be changed",
            extra={
                "action": "stream_update_refused",
                "stream": name,
                "fields": sorted(changed),
                "error": str(error),
            },
        )
    else:
        logger.info(
            "stream changed",
            extra={"action": "stream_changed", "stream": name, "fields": sorted(changed)},
        )


async def _find_stream(bus: Bus, name: str) -> Mapping[str, Any] | None:
    try:
        answer = await _asked(bus, f"STREAM.INFO.{name}")
    except BusRefusedError as error:
        if error.code == _STREAM_NOT_FOUND:
            return None
        raise
    config: Mapping[str, Any] = answer["config"]
    return config


async def _asked(bus: Bus, verb: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The answer to what is safe to repeat: on a cluster there may be none while leaders change."""
    for _ in range(_TRIES - 1):
        try:
            return await bus.api(verb, body, timeout_s=5.0)
        except BusTimeoutError:
            continue
        except BusRefusedError as error:
            if error.code != _NO_LEADER:
                raise
            await asyncio.sleep(5.0)
    return await bus.api(verb, body, timeout_s=5.0)


def ticket_consumer(endpoint_id: str) -> Mapping[str, Any]:
    """Configuration of the durable consumer of one endpoint's tickets.

    A work queue takes one consumer per subject; all routers pull from it. It goes away by itself
    a day after the last pull (a deleted endpoint's), and whoever pulls makes it again.
    """
    return {
        "durable_name": subjects.tickets_consumer(endpoint_id),
        "filter_subject": subjects.tickets(endpoint_id),
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": 5 * _NS,
        "max_deliver": -1,
        "max_ack_pending": 100_000,
        "max_waiting": 4_096,
        "inactive_threshold": 24 * 3600 * _NS,
    }


def webhook_consumer(
    name: str, wanted: Sequence[str], *, since: datetime, ack_wait_s: float
) -> Mapping[str, Any]:
    """Configuration of a durable consumer with events that a webhook is still to be sent.

    Every api pulls from it. It stays until the api deletes it, whatever happens to the apis.

    Args:
        name: of the consumer.
        wanted: subjects of the events, none of which overlaps another.
        since: it holds what was stored from then on; never changes.
        ack_wait_s: an api that has not settled a delivery by then has died with it.
    """
    return {
        "durable_name": name,
        "filter_subjects": [*wanted],
        "deliver_policy": "by_start_time",
        "opt_start_time": since.isoformat(),
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _NS),
        "max_deliver": -1,
        # Those that wait for their next attempt count here; beyond, events wait in the stream.
        "max_ack_pending": 10_000,
        "max_waiting": 512,
    }


async def check_durability(bus: Bus, monitor_url: str | None) -> None:
    """Log loudly when the server does not sync acknowledged writes to disk, or cannot be asked.

    Asks the server's HTTP monitor for at most 3 s; never raises.

    Args:
        bus: the connection whose server is meant.
        monitor_url: e.g. `http://127.0.0.1:8222`; None = it cannot be asked.
    """
    if monitor_url is None:
        _warn_unknown("no nats_monitor_url is set")
        return
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3.0)) as session,
            session.get(f"{monitor_url.rstrip('/')}/varz") as response,
        ):
            response.raise_for_status()
            varz = await response.json()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        _warn_unknown(str(error) or type(error).__name__)
        return
    config = varz.get("jetstream", {}).get("config") if isinstance(varz, dict) else None
    if not isinstance(config, dict):
        _warn_unknown("the monitor tells nothing about JetStream")
    elif config.get("sync_always"):
        logger.info(
            "NATS syncs every acknowledged write to disk", extra={"action": "durability_synced"}
        )
    else:
        logger.warning(
            "NATS ACKNOWLEDGES WRITES BEFORE THEY ARE ON DISK: a power cut loses them; "
            "set `jetstream { sync_interval: always }` in the server's configuration",
            extra={
                "action": "durability_not_synced",
                "sync_interval_s": config.get("sync_interval", 0) / _NS,
            },
        )


def _warn_unknown(why: str) -> None:
    logger.warning(
        "NATS COULD NOT BE ASKED WHETHER IT SYNCS ACKNOWLEDGED WRITES TO DISK",
        extra={"action": "durability_unknown", "error": why},
    )
