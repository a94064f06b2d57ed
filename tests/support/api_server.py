"""The api over a real NATS server, in the test's own event loop, with its neighbours played."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from penstock_api import tables
from penstock_api.app import serve
from penstock_api.settings import ApiSettings
from penstock_common import sealing, subjects
from penstock_common.clock import SystemClock
from penstock_common.messages import EndpointRecord, EndpointStatus, Message
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.kv import Bucket
from penstock_common.settings import NatsSettings
from penstock_common.states import EndpointState
from tests.support.bus import PATIENT_S
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

#: An api that stands still for two seconds answers a write before it shows it; tests go on with what
#: is shown.
tables.SETTLE_TIMEOUT_S = 60.0  # type: ignore[misc]

CLOCK = SystemClock()
ADMIN_KEY = "admin-key-of-the-tests-0123456789"
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """An answer of the api."""

    status: int
    headers: Mapping[str, str]
    document: Any


async def eventually(ask: Callable[[], Awaitable[T]], *, within_s: float = 60.0) -> T:
    """Ask until the answer is true, or fail."""
    deadline = CLOCK.monotonic() + within_s
    while True:
        answer = await ask()
        if answer:
            return answer
        assert CLOCK.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.01)


class ApiServer:
    """A running api and a connection of its own to the same NATS."""

    def __init__(self, nats: NatsServer, folder: Path, **settings: Any) -> None:
        self.nats = nats
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        key_file, secret_file = folder / "admin.key", folder / "secret.key"
        if not key_file.exists():
            key_file.write_text(ADMIN_KEY + "\n")
            secret_file.write_text(sealing.new_key() + "\n")
        self.sealer = sealing.Sealer.from_file(secret_file)
        self.settings = ApiSettings(
            nats_url=nats.url,
            nats_monitor_url=nats.monitor_url,
            admin_key_file=key_file,
            secret_key_file=secret_file,
            **{"port": free_port(), "router_url": "http://router.test:8080/", **settings},
        )
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self._session: aiohttp.ClientSession | None = None
        self.stopping = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.bus: Bus

    async def start(self) -> None:
        self.bus = await Bus.connect(
            NatsSettings(
                nats_url=self.nats.url,
                nats_user=self.settings.nats_user,
                nats_password=self.settings.nats_password,
            ),
            name="test",
            clock=CLOCK,
            answer_s=PATIENT_S,
        )
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        self.task = asyncio.create_task(serve(self.settings, self.stopping), name="api")
        # The first one of a process describes itself from the models, which takes seconds of CPU.
        await eventually(self._is_ready)

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        self.stopping.set()
        assert self.task is not None
        try:
            async with asyncio.timeout(60):
                await self.task
        finally:
            await self.bus.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """A client without a key."""
        assert self._session is not None
        return self._session

    async def _is_ready(self) -> bool:
        assert self.task is not None
        if self.task.done():
            self.task.result()
        try:
            return (await self.ask("GET", "/readyz", key=None)).status == 200
        except aiohttp.ClientError:
            return False

    async def ask(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        key: str | None = ADMIN_KEY,
        **options: Any,
    ) -> Answer:
        """The api's answer, whatever its status."""
        assert self._session is not None
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if document is not None:
            options["json"] = document
        async with self._session.request(
            method, self.url + path, headers=headers, **options
        ) as answer:
            body = await answer.read()
            return Answer(answer.status, answer.headers.copy(), json.loads(body) if body else None)

    async def create(self, app: str = "echo", **changes: Any) -> dict[str, Any]:
        """A new endpoint's document."""
        document = {"app_name": app, "image": {"image": "acme/echo"}, **changes}
        answer = await self.ask("POST", "/v1/endpoints", document)
        assert answer.status == 201, answer
        created: dict[str, Any] = answer.document
        return created

    async def show(self, app: str) -> dict[str, Any]:
        answer = await self.ask("GET", f"/v1/endpoints/{app}")
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.document
        return shown

    async def put(self, bucket: str, key: str, message: Message) -> int:
        """Write a record as the service that owns the bucket would."""
        return await Bucket(self.bus, bucket).put(key, message.encode())

    async def record(self, endpoint_id: str) -> EndpointRecord:
        entry = await Bucket(self.bus, subjects.ENDPOINTS).get(endpoint_id)
        assert entry is not None
        return EndpointRecord.decode(entry.value)

    async def say(self, endpoint_id: str, state: EndpointState, **fields: Any) -> None:
        """Write the endpoint's status as the scheduler would."""
        status = EndpointStatus(
            endpoint_id=endpoint_id,
            state=state,
            **{"revision": 1, "fencing_token": 1, "updated_at": CLOCK.utc(), **fields},
        )
        await self.put(subjects.ENDPOINT_STATUS, endpoint_id, status)

    async def listen(self, subject: str) -> list[Received]:
        """A list that grows by every message on this subject."""
        received: list[Received] = []
        await self.bus.subscribe(subject, received.append)
        return received

    async def becomes(self, app: str, **fields: Any) -> dict[str, Any]:
        """The endpoint's document once these fields have these values."""

        async def is_so() -> dict[str, Any] | None:
            shown = await self.show(app)
            return shown if all(shown[k] == v for k, v in fields.items()) else None

        found = await eventually(is_so)
        assert found is not None
        return found


@asynccontextmanager
async def running_api(nats: NatsServer, folder: Path, **settings: Any) -> AsyncIterator[ApiServer]:
    """An api that serves within the block."""
    server = ApiServer(nats, folder, **settings)
    try:
        await server.start()
        yield server
    finally:
        if server.task is not None:
            await server.stop()
