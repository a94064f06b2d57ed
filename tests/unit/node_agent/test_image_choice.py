"""What may be removed when the disk gets full, and what may never be."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock_common.image_references import repository
from penstock_node_agent.runtimes.docker.image_choice import (
    MIN_UNUSED_S,
    DiskSpace,
    EngineImage,
    Marks,
    PulledImage,
    removable,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
IDS = [f"sha256:{n}" for n in range(6)]
NAMES = [f"{repo}:{tag}" for repo in ("r/a", "r/b", "own/c") for tag in ("1", "2")]

pulled_images = st.lists(
    st.builds(
        PulledImage,
        st.sampled_from(IDS),
        st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=2),
        st.integers(-400, 0).map(lambda s: NOW + timedelta(seconds=s)),
    ),
    max_size=6,
    unique_by=lambda image: image.image_id,
)
engine_images = st.dictionaries(
    st.sampled_from(IDS),
    st.tuples(
        st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        st.lists(st.sampled_from([f"{repository(n)}@sha256:x" for n in NAMES]), max_size=2),
    ),
).map(
    lambda found: {
        image_id: EngineImage(image_id, tuple(tags), tuple(digests), 1)
        for image_id, (tags, digests) in found.items()
    }
)


@given(
    pulled_images,
    engine_images,
    st.frozensets(st.sampled_from(IDS)),
    st.frozensets(st.sampled_from(NAMES), max_size=1),
)
def test_only_what_is_ours_alone_and_unused_goes_the_oldest_first(
    pulled: list[PulledImage],
    present: dict[str, EngineImage],
    used: frozenset[str],
    wanted: frozenset[str],
) -> None:
    going = removable(pulled, present, used=used, wanted=wanted, now=NOW)
    known = {image.image_id: image for image in pulled}
    kept_repositories = {repository(name) for name in wanted}
    for image in going:
        mine = known[image.image_id]
        assert image.image_id not in used
        assert (NOW - mine.used_at).total_seconds() >= MIN_UNUSED_S
        assert set(image.tags) <= mine.references
        assert not {repository(name) for name in mine.references} & kept_repositories
        assert not {repository(name) for name in image.references} & kept_repositories
    ages = [known[image.image_id].used_at for image in going]
    assert ages == sorted(ages)
    # And nothing stays without a reason.
    for image_id in known.keys() - {image.image_id for image in going}:
        mine, there = known[image_id], present.get(image_id)
        ours = {repository(name) for name in mine.references}
        assert (
            there is None
            or image_id in used
            or (NOW - mine.used_at).total_seconds() < MIN_UNUSED_S
            or ours & kept_repositories
            or not set(there.tags) <= mine.references
            or any(repository(name) not in ours for name in there.digests)
        )


@given(st.integers(1, 10**13), st.floats(0, 1), st.floats(0, 0.99), st.integers(0, 10**13))
def test_cleaning_begins_below_the_mark_and_ends_above_it(
    total: int, share: float, ratio: float, low_bytes: int
) -> None:
    disk = DiskSpace(total, int(total * share))
    marks = Marks(ratio, low_bytes)
    missing = marks.missing_bytes(disk)
    low = max(ratio * total, low_bytes)
    assert (missing > 0) == (disk.free_bytes < min(low, total))
    if missing:
        after = DiskSpace(total, disk.free_bytes + missing)
        assert after.free_bytes <= total
        assert marks.missing_bytes(after) == 0 or after.free_bytes == total


def test_without_marks_nothing_is_cleaned() -> None:
    assert Marks().missing_bytes(DiskSpace(100, 0)) == 0
    assert Marks(low_ratio=0.15).missing_bytes(DiskSpace(100, 14)) == 6
    assert Marks(low_bytes=30).missing_bytes(DiskSpace(100, 14)) == 26
