"""A router, one raw worker and one raw client: the stage of the HTTP tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from tests.fakes.router_world import until
from tests.support.http_rig import HttpRig, running_rig
from tests.support.raw_worker import RawClient, RawWorker, raw_client, running_raw_worker

GET = b"GET /echo/x HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Scene:
    """A rig, its one worker (2 slots), and a client."""

    def __init__(self, rig: HttpRig, worker: RawWorker, client: RawClient) -> None:
        self.rig = rig
        self.worker = worker
        self.client = client

    async def all_is_given_back(self) -> None:
        await until(lambda: self.rig.in_use() == 0 and self.rig.server.in_flight == 0)


@contextlib.asynccontextmanager
async def running_scene() -> AsyncIterator[Scene]:
    async with (
        running_raw_worker() as worker,
        running_rig(max_line_bytes=1024, max_head_bytes=4096, max_headers=16) as rig,
        raw_client(rig.port) as client,
    ):
        rig.put_endpoint(workers={"max_concurrency": 2, "request_timeout_s": 300})
        rig.put_worker(worker.port)
        yield Scene(rig, worker, client)
        await client_leaves(client)
        await until(lambda: rig.in_use() == 0, what="every slot is free at the end")
        assert rig.server.in_flight == 0


async def client_leaves(client: RawClient) -> None:
    client.abort()
    await asyncio.sleep(0)


def fields(head: bytes, name: str) -> list[str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = [line.partition(":") for line in lines if line]
    return [value.strip() for n, _, value in pairs if n.lower() == name.lower()]


def problem(answer: bytes) -> tuple[int, str]:
    """(status, reason) of the first response in these bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert fields(head, "Content-Type") == ["application/problem+json"], answer
    length = int(fields(head, "Content-Length")[0])
    read = json.loads(body[:length])
    assert int(head.split(b" ")[1]) == read["status"]
    return read["status"], read["reason"]


async def open_get(scene: Scene) -> RawClient:
    """Another client whose request is at the worker."""
    before = scene.rig.in_use()
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.rig.port)
    writer.write(GET)
    await until(lambda: scene.rig.in_use() == before + 1)
    return RawClient(reader, writer)
