"""Usage summed by group, and its price [pure].

Sums are whole microseconds and exact decimals; only what is shown is rounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from penstock_client.documents import GroupBy, UsageReport, UsageRow
from penstock_common.messages import UsageRecord

_MICROSECOND: Final = timedelta(microseconds=1)
_US_PER_S: Final = 1_000_000
_US_PER_H: Final = 3600 * _US_PER_S


@dataclass(slots=True)
class _Sum:
    name: str | None = None
    #: when the worker ended whose endpoint's name this is: a later one counts
    named_at: datetime | None = None
    workers: int = 0
    worker_us: int = 0
    #: product → microseconds times GPUs
    gpu_us: dict[str | None, int] = field(default_factory=dict)

    def add(self, record: UsageRecord, us: int) -> None:
        self.workers += 1
        self.worker_us += us
        if record.gpus:
            product = record.gpu_product
            self.gpu_us[product] = self.gpu_us.get(product, 0) + us * record.gpus


class UsageSums:
    """The sums of one report; records are added one by one, each worker once."""

    def __init__(self, since: datetime, until: datetime, group_by: GroupBy) -> None:
        """Nothing is added; what was used before `since` or from `until` on does not count."""
        self._since = since
        self._until = until
        self._group_by = group_by
        self._groups: dict[str | None, _Sum] = {}
        self._total = _Sum()
        self._seen: set[str] = set()

    def add(self, record: UsageRecord) -> None:
        """Count a worker, unless it was counted before."""
        if record.worker_id in self._seen:
            return
        self._seen.add(record.worker_id)
        held = min(record.ended_at, self._until) - max(record.began_at, self._since)
        us = held // _MICROSECOND
        if us <= 0:
            return
        group = self._groups.setdefault(self._group_of(record), _Sum())
        group.add(record, us)
        self._total.add(record, us)
        if self._group_by in ("endpoint", "worker") and (
            group.named_at is None or group.named_at <= record.ended_at
        ):
            group.name, group.named_at = record.app_name, record.ended_at

    def _group_of(self, record: UsageRecord) -> str | None:
        match self._group_by:
            case "endpoint":
                return record.endpoint_id
            case "key":
                return record.owner
            case "product":
                return record.gpu_product
            case "worker":
                return record.worker_id

    def report(self, prices: Mapping[str, Decimal], key_names: Mapping[str, str]) -> UsageReport:
        """The report.

        Args:
            prices: product → price of one GPU for an hour.
            key_names: id → name of the API keys that there are.
        """
        if self._group_by == "key":
            for key_id, group in self._groups.items():
                group.name = key_names.get(key_id) if key_id is not None else None
        rows = [_row(name, group, prices) for name, group in self._groups.items()]
        rows.sort(key=lambda row: (-row.gpu_s, -row.worker_s, row.group or ""))
        return UsageReport(
            from_=self._since,
            to=self._until,
            group_by=self._group_by,
            rows=tuple(rows),
            total=_row(None, self._total, prices),
            prices={product: float(price) for product, price in prices.items()},
        )


def _row(group: str | None, total: _Sum, prices: Mapping[str, Decimal]) -> UsageRow:
    cost: Decimal | None = Decimal(0)
    for product, us in total.gpu_us.items():
        price = prices.get(product) if product is not None else None
        cost = None if cost is None or price is None else cost + price * us / _US_PER_H
    return UsageRow(
        group=group,
        name=total.name,
        workers=total.workers,
        worker_s=total.worker_us / _US_PER_S,
        gpu_s=sum(total.gpu_us.values()) / _US_PER_S,
        cost=None if cost is None else float(round(cost, 6)),
    )


def parse_instant(text: str) -> datetime:
    """An instant from RFC 3339 text, or the midnight (UTC) at which a date begins.

    Raises:
        ValueError: it is neither.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        if len(text) != len("2030-01-01"):
            raise ValueError("an instant needs its zone, such as Z")
        instant = instant.replace(tzinfo=UTC)
    return instant.astimezone(UTC)


def month_of(now: datetime) -> datetime:
    """The instant at which the month of `now` began (UTC)."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
