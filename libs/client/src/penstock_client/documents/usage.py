"""GPU-seconds used."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field

from penstock_client.documents.base import Document

#: What usage is summed by.
GroupBy = Literal["endpoint", "key", "product", "worker"]


class UsageRow(Document):
    """What one group has used."""

    #: id of the endpoint, key or worker, or the product; null = none
    group: str | None
    #: `app_name` of the endpoint, name of the key
    name: str | None
    #: how many held something in this time
    workers: int
    #: seconds, summed over the workers
    worker_s: float
    #: seconds times GPUs
    gpu_s: float
    #: GPU-seconds at the price of their product; null = one of them has no price
    cost: float | None


class UsageReport(Document):
    """What was used in a time, by group, the largest first."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    from_: AwareDatetime = Field(alias="from")
    to: AwareDatetime
    group_by: GroupBy
    rows: tuple[UsageRow, ...]
    total: UsageRow
    #: product → price of one GPU for an hour, as set in the api now
    prices: Mapping[str, float]
