"""Sums of usage are exact: over groups, over times, over what is added twice."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.usage import UsageSums, month_of, parse_instant
from penstock_client.documents import GroupBy, UsageReport
from penstock_common.messages import UsageRecord

T0 = datetime(2030, 1, 1, tzinfo=UTC)
PRICES = {"a": Decimal("0.36"), "b": Decimal("3.6")}


def at(us: int) -> datetime:
    return T0 + timedelta(microseconds=us)


instants = st.integers(0, 10**10).map(at)
records = st.lists(
    st.builds(
        lambda n, times, gpus: UsageRecord(
            worker_id=f"wk-{n}",
            endpoint_id=f"ep-{n % 3}",
            app_name=f"app-{n % 3}",
            owner=None if n % 4 == 0 else f"key-{n % 2}",
            node_id="node-a",
            gpu_product=None if gpus == 0 else "ab"[n % 2],
            gpus=gpus,
            began_at=min(times),
            ended_at=max(times),
        ),
        st.integers(0, 30),
        st.tuples(instants, instants),
        st.integers(0, 8),
    ),
    unique_by=lambda record: record.worker_id,
)


def report(
    found: list[UsageRecord], since: datetime, until: datetime, group_by: GroupBy
) -> UsageReport:
    sums = UsageSums(since, until, group_by)
    for record in found:
        sums.add(record)
    return sums.report(PRICES, {"key-0": "ours"})


@given(records, st.lists(instants, min_size=3, max_size=3).map(sorted), st.data())
def test_sums_add_up_over_groups_and_times(
    found: list[UsageRecord], times: list[datetime], data: st.DataObject
) -> None:
    group_by = data.draw(st.sampled_from(get_args(GroupBy)))
    since, middle, until = times
    whole = report(found, since, until, group_by)
    first, second = (report(found, a, b, group_by) for a, b in ((since, middle), (middle, until)))
    assert whole.total.gpu_s == pytest.approx(first.total.gpu_s + second.total.gpu_s, abs=1e-5)
    assert whole.total.gpu_s == pytest.approx(sum(r.gpu_s for r in whole.rows), abs=1e-5)
    assert whole.total.workers == sum(row.workers for row in whole.rows)
    by_hand = sum(
        max(0.0, (min(r.ended_at, until) - max(r.began_at, since)).total_seconds()) * r.gpus
        for r in found
    )
    assert whole.total.gpu_s == pytest.approx(by_hand, abs=1e-5)
    assert report([*found, *found], since, until, group_by) == whole


def test_a_cost_has_no_error_of_binary_fractions() -> None:
    hour = 3600 * 10**6
    found = [
        UsageRecord(
            worker_id=f"wk-{n}",
            endpoint_id="ep-1",
            app_name="echo",
            node_id="node-a",
            gpu_product="a",
            gpus=1,
            began_at=T0,
            ended_at=at(hour),
        )
        for n in range(1000)
    ]
    assert report(found, T0, at(hour), "endpoint").total.cost == 360.0


def test_instants_are_read() -> None:
    assert parse_instant("2030-01-01") == T0
    assert parse_instant("2030-01-01T01:00:00+01:00") == T0
    assert month_of(datetime(2030, 1, 31, 23, 59, tzinfo=UTC)) == T0
    for wrong in ("2030-01-01T00:00:00", "now", "2030-13-01", ""):
        with pytest.raises(ValueError):  # noqa: PT011  # of the standard library, in its words
            parse_instant(wrong)
