"""Routes of Novita's management API v1 about network storages: our network volumes.

There, a storage is a disk of the cluster that it is made in. Here, it is a directory below one that
the operator names (`novita_storage_path`) and every node of the cluster shares; the first worker
that mounts it has its node make it. Volumes made through our own API are listed as well.
"""

import posixpath
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field, RootModel

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.dialects import CamelDocument, CamelRequest, Count, parse_body
from penstock_api.novita.queries import number
from penstock_api.novita.v1 import DEFAULT_CLUSTER, REGION
from penstock_api.novita.v1_documents import NovitaEmpty
from penstock_api.novita.v1_endpoints import BASE
from penstock_api.problems import RefusedError
from penstock_api.routes.route import Body, Query, Route, answer
from penstock_api.volumes import (
    all_volumes,
    change_volume,
    create_volume,
    find_volume,
    new_volume,
    remove_volume,
)
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import VolumeRecord
from penstock_common.volumes import HostPathSource, VolumePatch, VolumeSpec

JSON: Final = "application/json"
_COUNT: Final = {"type": "integer", "minimum": 0}
_NAME = Annotated[str, Field(min_length=1, max_length=100)]
_SIZE = Annotated[Count, Field(ge=1, le=1_000_000)]


class NovitaStorageRequest(CamelRequest):
    """A network storage to make."""

    #: value of the nodes' label `region`; empty or `default` = every node
    cluster_id: str
    storage_name: _NAME
    #: GB; told, held by nobody
    storage_size: _SIZE


class NovitaStorageMade(RootModel[str]):
    """The id of a new network storage, by itself."""


class NovitaStorageUpdate(CamelRequest):
    """What is to change of a network storage."""

    storage_id: str
    #: left out = as it is
    storage_name: _NAME | None = None
    storage_size: _SIZE | None = None


class NovitaStorageId(CamelRequest):
    """Which network storage to delete."""

    storage_id: str


class NovitaStorage(CamelDocument):
    """A network storage."""

    storage_id: str
    storage_name: str
    #: GB; 0 = it was made through our API, which was not told
    storage_size: int
    cluster_id: str
    cluster_name: str
    #: nothing is billed
    price: str = "0"


class NovitaStorages(CamelDocument):
    """One page of the network storages."""

    data: tuple[NovitaStorage, ...]
    #: of all pages
    total: int


async def create(api: Api, request: web.Request) -> web.Response:
    """POST networkstorage/create; the answer is the new id, as a JSON string."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaStorageRequest, sent)
    root = api.settings.novita_storage_path
    if root is None:
        raise RefusedError(
            400,
            "no_network_storage",
            "network storages have no place here: set PENSTOCK_API_NOVITA_STORAGE_PATH to a "
            "directory that every node shares and has among its volume_paths, or make a volume "
            "with POST /v1/volumes",
        )
    volume_id = random_id(ids.VOLUME)
    path = posixpath.join(root, volume_id)
    anywhere = body.cluster_id in {"", DEFAULT_CLUSTER}
    spec = VolumeSpec(
        name=body.storage_name,
        source=HostPathSource(type="host_path", path=path, make=True),
        node_selector={} if anywhere else {REGION: body.cluster_id},
        size_gb=body.storage_size,
    )
    await create_volume(api.store, new_volume(volume_id, spec, now=api.clock.utc()))
    return answer(NovitaStorageMade(volume_id))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET networkstorages/list; pages count from 1."""
    page = max(number(request.query, "pageNo") or 1, 1)
    size = number(request.query, "pageSize")
    name, volume_id = (request.query.get(of, "") for of in ("storageName", "storageId"))
    found = [
        record
        for record in all_volumes(api.store)
        if name in record.name and volume_id in {"", record.volume_id}
    ]
    shown = found[(page - 1) * size : page * size] if size else found
    storages = tuple(map(_storage, shown))
    return answer(NovitaStorages(data=storages, total=len(found)))


async def update(api: Api, request: web.Request) -> web.Response:
    """POST networkstorage/update."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaStorageUpdate, sent)
    wanted = {"name": body.storage_name, "size_gb": body.storage_size}
    patch = VolumePatch(**{field: value for field, value in wanted.items() if value is not None})
    find_volume(api.store, body.storage_id)  # what is no id at all is no key of KV either
    await change_volume(api.store, body.storage_id, patch, now=api.clock.utc())
    return answer(NovitaEmpty())


async def delete(api: Api, request: web.Request) -> web.Response:
    """POST networkstorage/delete."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    await remove_volume(api.store, parse_body(NovitaStorageId, sent).storage_id)
    return answer(NovitaEmpty())


def _storage(record: VolumeRecord) -> NovitaStorage:
    cluster = record.node_selector.get(REGION) or DEFAULT_CLUSTER
    return NovitaStorage(
        storage_id=record.volume_id,
        storage_name=record.name,
        storage_size=record.size_gb or 0,
        cluster_id=cluster,
        cluster_name=cluster,
    )


ROUTES: Final = (
    Route(
        "GET",
        f"{BASE}/networkstorages/list",
        show_all,
        "read",
        "List the network storages, which are our network volumes.",
        NovitaStorages,
        query=(
            Query("pageNo", "from 1 on", _COUNT),
            Query("pageSize", "left out or 0 = all on one page", _COUNT),
            Query("storageName", "only names that hold this", {"type": "string"}),
            Query("storageId", "only this one", {"type": "string"}),
        ),
    ),
    Route(
        "POST",
        f"{BASE}/networkstorage/create",
        create,
        "admin",
        "Make a network storage below the operator's directory.",
        NovitaStorageMade,
        body=Body((JSON,), NovitaStorageRequest),
    ),
    Route(
        "POST",
        f"{BASE}/networkstorage/update",
        update,
        "admin",
        "Change a network storage's name, or the size that is told.",
        NovitaEmpty,
        body=Body((JSON,), NovitaStorageUpdate),
        errors=(404,),
    ),
    Route(
        "POST",
        f"{BASE}/networkstorage/delete",
        delete,
        "admin",
        "Forget a network storage that nothing uses; its data stay.",
        NovitaEmpty,
        body=Body((JSON,), NovitaStorageId),
        errors=(404,),
    ),
)
