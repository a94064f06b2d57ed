"""The typed client of Penstock's HTTP API.

    async with PenstockClient("http://127.0.0.1:8000", key) as client:
        made = await client.endpoints.create({"image": {"image": "vllm/vllm-openai:latest"}})
        endpoint = await client.endpoints.wait_until_serving(made.id, timeout_s=900)
        async for worker in client.workers.list(endpoint.id):
            print(worker.id, worker.state)

Every call raises `ApiError` when the api refuses and `UnreachableError` when it cannot be asked;
none is repeated by itself.
"""

from types import TracebackType
from typing import Any, Self

from penstock_client.calls.api_keys import ApiKeyCalls
from penstock_client.calls.audit import AuditCalls
from penstock_client.calls.endpoints import EndpointCalls
from penstock_client.calls.join_tokens import JoinTokenCalls
from penstock_client.calls.nodes import NodeCalls
from penstock_client.calls.prewarms import PrewarmCalls
from penstock_client.calls.registry_auths import RegistryAuthCalls
from penstock_client.calls.usage import UsageCalls
from penstock_client.calls.volumes import VolumeCalls
from penstock_client.calls.workers import WorkerCalls
from penstock_client.transport import Transport


class PenstockClient:
    """Asks one api with one key. An async context manager; each attribute is a kind of resource."""

    endpoints: EndpointCalls
    workers: WorkerCalls
    nodes: NodeCalls
    volumes: VolumeCalls
    prewarms: PrewarmCalls
    registry_auths: RegistryAuthCalls
    api_keys: ApiKeyCalls
    join_tokens: JoinTokenCalls
    usage: UsageCalls
    audit: AuditCalls

    def __init__(self, url: str, key: str, *, timeout_s: float = 30.0) -> None:
        """A client that has not connected yet.

        Args:
            url: of the api, e.g. `http://127.0.0.1:8000`.
            key: an API key.
            timeout_s: longest wait for one answer.
        """
        self._transport = transport = Transport(url, key, timeout_s=timeout_s)
        self.endpoints = EndpointCalls(transport)
        self.workers = WorkerCalls(transport)
        self.nodes = NodeCalls(transport)
        self.volumes = VolumeCalls(transport)
        self.prewarms = PrewarmCalls(transport)
        self.registry_auths = RegistryAuthCalls(transport)
        self.api_keys = ApiKeyCalls(transport)
        self.join_tokens = JoinTokenCalls(transport)
        self.usage = UsageCalls(transport)
        self.audit = AuditCalls(transport)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.close()

    async def send(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        """The parsed JSON of any route's answer, for what has no call of its own.

        Args:
            method: of HTTP.
            path: with its query, both encoded.
            document: sent as JSON; None = no body. With PATCH, a JSON merge patch (RFC 7396).

        Raises:
            ApiError: the api refused.
            UnreachableError: it could not be asked, or the answer is none of a Penstock api.
        """
        return await self._transport.send(method, path, document)
