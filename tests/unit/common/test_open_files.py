"""The limit of open files."""

import resource

from penstock_common.open_files import MOST, open_files_limit, raise_open_files
from penstock_router.proxy.context import connections_within


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        assert open_files_limit() == 512
        wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
        assert raise_open_files() == wanted
        assert raise_open_files() == wanted
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_every_client_has_room_for_a_worker() -> None:
    assert connections_within(1024) == 480
    assert connections_within(1) == 1
