"""A usage report as CSV, the same from the api and from the command."""

import csv
import io
from typing import Final

from penstock_client.documents import UsageReport

_COLUMNS: Final = ("group", "name", "workers", "worker_s", "gpu_s", "cost")


def csv_text(report: UsageReport) -> str:
    """The rows as CSV (RFC 4180), below a line of names; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in report.rows:
        writer.writerow(
            ["" if (value := getattr(row, name)) is None else value for name in _COLUMNS]
        )
    return text.getvalue()
