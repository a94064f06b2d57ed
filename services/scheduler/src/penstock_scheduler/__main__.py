"""`penstock-scheduler`: runs the autoscaler and the placement."""

import sys
from functools import partial

from pydantic import ValidationError

from penstock_common import lifecycle
from penstock_common.logs import configure_logs
from penstock_scheduler.app import serve
from penstock_scheduler.settings import Settings


def main() -> None:
    """Run the scheduler; exits 0 when told to stop, 2 on wrong settings, 1 on any other failure."""
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"penstock-scheduler: wrong settings: {error}", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(2)
    configure_logs("scheduler", settings.log_level)
    sys.exit(lifecycle.run(partial(serve, settings)))


if __name__ == "__main__":
    main()
