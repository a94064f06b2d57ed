"""The event that a webhook is tested with [pure]."""

import json
from datetime import datetime
from typing import Final

from penstock_common.events.catalogue import Service, source
from penstock_common.events.cloud_event import JSON, CloudEvent

#: It is for one webhook, whatever its filter says, and no event of the catalogue.
TRIAL_TYPE: Final = "penstock.webhook.test"


def trial_event(webhook_id: str, *, event_id: str, now: datetime) -> CloudEvent:
    """An event that says nothing but that it came."""
    data = {"webhook_id": webhook_id, "message": "Penstock can reach this receiver."}
    attributes = {
        "specversion": "1.0",
        "id": event_id,
        "source": source(Service.API),
        "type": TRIAL_TYPE,
        "subject": webhook_id,
        "time": now.isoformat(),
        "datacontenttype": JSON,
    }
    return CloudEvent(attributes, json.dumps(data).encode())
