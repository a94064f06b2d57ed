"""`penstock-api`: runs the management API."""

import logging
import sys
from functools import partial

from pydantic import ValidationError

from penstock_api.app import serve
from penstock_api.settings import ApiSettings
from penstock_common import lifecycle
from penstock_common.logs import configure_logs
from penstock_common.open_files import raise_open_files

logger = logging.getLogger(__name__)


def main() -> None:
    """Run the api; exits 0 when told to stop, 2 on wrong settings, 1 on any other failure."""
    configure_logs("api", "info")
    try:
        settings = ApiSettings()
    except ValidationError as error:
        wrong = {".".join(map(str, e["loc"])): e["msg"] for e in error.errors()}
        logger.error("service misconfigured", extra={"action": "service_failed", "settings": wrong})
        sys.exit(2)
    configure_logs("api", settings.log_level)
    raise_open_files()
    sys.exit(lifecycle.run(partial(serve, settings)))


if __name__ == "__main__":
    main()
