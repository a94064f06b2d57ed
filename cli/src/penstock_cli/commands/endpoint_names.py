"""What the endpoints are called that documents name by their ids."""

from penstock_client.errors import ApiError
from penstock_client.sync.client import PenstockSyncClient


def app_names_of(client: PenstockSyncClient, ids: set[str]) -> dict[str, str]:
    """Id → `app_name` of these endpoints; those that are gone are left out."""
    if len(ids) > 1:
        return {e.id: e.app_name for e in client.endpoints.list()}
    try:
        return {endpoint_id: client.endpoints.show(endpoint_id).app_name for endpoint_id in ids}
    except ApiError as error:
        if error.status == 404:
            return {}
        raise
