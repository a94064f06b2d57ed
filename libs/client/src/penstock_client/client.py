"""The typed client of Penstock's HTTP API.

    async with PenstockClient("http://127.0.0.1:8000", key) as client:
        endpoint = await client.create_endpoint({"image": {"image": "vllm/vllm-openai:latest"}})
        endpoint = await client.wait_until_serving(endpoint.id, timeout_s=900)

Endpoints are named by id or by `app_name`. Every call raises `ApiError` when the api refuses and
`UnreachableError` when it cannot be asked; none is repeated by itself.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from pydantic import ValidationError
from yarl import URL

from penstock_client.documents import (
    ApiKeyDocument,
    ApiKeyList,
    ApiKeyMade,
    DecisionList,
    Document,
    EndpointDocument,
    EndpointList,
    GroupBy,
    LogEndDocument,
    LogEntryDocument,
    NodeDetail,
    NodeList,
    PrewarmDocument,
    PrewarmList,
    ProblemDocument,
    RegistryAuthDocument,
    RegistryAuthList,
    RevisionList,
    UsageReport,
    VolumeDocument,
    VolumeList,
    WorkerList,
)
from penstock_client.errors import (
    ApiError,
    DrainEndedError,
    NotServingError,
    UnreachableError,
    WaitTimeoutError,
)
from penstock_client.logs import read_lines
from penstock_common.states import EndpointState, NodeWish

D = TypeVar("D", bound=Document)

_API_KEYS: Final = "/v1/api-keys"
_REGISTRY_AUTHS: Final = "/v1/registry-auths"
_MERGE_PATCH: Final = "application/merge-patch+json"
_NEVER_SERVING: Final = frozenset(
    {EndpointState.FAILED, EndpointState.PAUSED, EndpointState.DELETING}
)


class PenstockClient:
    """Asks one api with one key. An async context manager."""

    def __init__(self, url: str, key: str, *, timeout_s: float = 30.0) -> None:
        """A client that has not connected yet.

        Args:
            url: of the api, e.g. `http://127.0.0.1:8000`.
            key: an API key.
            timeout_s: longest wait for one answer.
        """
        self._url = url.rstrip("/")
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def create_endpoint(self, document: Mapping[str, Any]) -> EndpointDocument:
        """The new endpoint made from this document (docs/http-api.md)."""
        return await self._ask(EndpointDocument, "POST", "/v1/endpoints", document)

    async def list_endpoints(self) -> EndpointList:
        """All endpoints, oldest first."""
        return await self._ask(EndpointList, "GET", "/v1/endpoints")

    async def show_endpoint(self, endpoint: str) -> EndpointDocument:
        """The endpoint with this id or `app_name`."""
        return await self._ask(EndpointDocument, "GET", _path(endpoint))

    async def update_endpoint(self, endpoint: str, patch: Mapping[str, Any]) -> EndpointDocument:
        """The endpoint after a JSON merge patch (RFC 7396)."""
        return await self._ask(EndpointDocument, "PATCH", _path(endpoint), patch)

    async def delete_endpoint(self, endpoint: str) -> EndpointDocument:
        """The endpoint, from now on `deleting`; safe to repeat until it is gone."""
        return await self._ask(EndpointDocument, "DELETE", _path(endpoint))

    async def pause_endpoint(self, endpoint: str) -> EndpointDocument:
        """The endpoint, from now on kept at 0 workers."""
        return await self._ask(EndpointDocument, "POST", f"{_path(endpoint)}/pause")

    async def resume_endpoint(self, endpoint: str) -> EndpointDocument:
        """The endpoint, no longer paused."""
        return await self._ask(EndpointDocument, "POST", f"{_path(endpoint)}/resume")

    async def list_workers(self, endpoint: str) -> WorkerList:
        """The workers of one endpoint, oldest first."""
        return await self._ask(WorkerList, "GET", f"{_path(endpoint)}/workers")

    async def list_decisions(self, endpoint: str) -> DecisionList:
        """The autoscaler's last decisions on one endpoint, newest first."""
        return await self._ask(DecisionList, "GET", f"{_path(endpoint)}/decisions")

    async def list_revisions(self, endpoint: str) -> RevisionList:
        """The endpoint's last revisions, newest first, each with what it changed."""
        return await self._ask(RevisionList, "GET", f"{_path(endpoint)}/revisions")

    async def roll_back(self, endpoint: str, revision: int | None = None) -> EndpointDocument:
        """The endpoint, from now on with what that revision ran; None = the one before."""
        document = {"revision": revision}
        return await self._ask(EndpointDocument, "POST", f"{_path(endpoint)}/rollback", document)

    async def share_traffic(
        self, endpoint: str, percent: int, change: Mapping[str, Any] | None = None
    ) -> EndpointDocument:
        """The endpoint with a canary that gets `percent` of the requests; `change` begins one."""
        document = {"percent": percent, "change": change}
        return await self._ask(EndpointDocument, "POST", f"{_path(endpoint)}/canary", document)

    async def promote(self, endpoint: str) -> EndpointDocument:
        """The endpoint, whose canary gets all requests from now on."""
        return await self._ask(EndpointDocument, "POST", f"{_path(endpoint)}/promote")

    async def abort(self, endpoint: str) -> EndpointDocument:
        """The endpoint without its canary: what ran before it gets all requests."""
        return await self._ask(EndpointDocument, "POST", f"{_path(endpoint)}/abort")

    async def list_nodes(self) -> NodeList:
        """The nodes that report, have workers, or have an order."""
        return await self._ask(NodeList, "GET", "/v1/nodes")

    async def create_volume(self, document: Mapping[str, Any]) -> VolumeDocument:
        """The network volume made known by this document (docs/storage.md)."""
        return await self._ask(VolumeDocument, "POST", "/v1/volumes", document)

    async def list_volumes(self) -> VolumeList:
        """All network volumes, oldest first."""
        return await self._ask(VolumeList, "GET", "/v1/volumes")

    async def show_volume(self, volume: str) -> VolumeDocument:
        """The network volume with this id."""
        return await self._ask(VolumeDocument, "GET", f"/v1/volumes/{quote(volume, safe='')}")

    async def rename_volume(self, volume: str, name: str) -> VolumeDocument:
        """The network volume with this id, from now on with another name."""
        path = f"/v1/volumes/{quote(volume, safe='')}"
        return await self._ask(VolumeDocument, "PATCH", path, {"name": name})

    async def delete_volume(self, volume: str) -> VolumeDocument:
        """The network volume as it was; Penstock knows it no longer, its data stay."""
        return await self._ask(VolumeDocument, "DELETE", f"/v1/volumes/{quote(volume, safe='')}")

    async def create_prewarm(self, document: Mapping[str, Any]) -> PrewarmDocument:
        """The prewarm made from this document (docs/storage.md)."""
        return await self._ask(PrewarmDocument, "POST", "/v1/prewarms", document)

    async def list_prewarms(self) -> PrewarmList:
        """All prewarms, oldest first."""
        return await self._ask(PrewarmList, "GET", "/v1/prewarms")

    async def show_prewarm(self, prewarm: str) -> PrewarmDocument:
        """The prewarm with this id."""
        return await self._ask(PrewarmDocument, "GET", f"/v1/prewarms/{quote(prewarm, safe='')}")

    async def delete_prewarm(self, prewarm: str) -> PrewarmDocument:
        """The prewarm as it was; its image may be cleaned up from now on."""
        path = f"/v1/prewarms/{quote(prewarm, safe='')}"
        return await self._ask(PrewarmDocument, "DELETE", path)

    async def create_registry_auth(self, document: Mapping[str, Any]) -> RegistryAuthDocument:
        """The credentials stored from this document, without their password."""
        return await self._ask(RegistryAuthDocument, "POST", _REGISTRY_AUTHS, document)

    async def list_registry_auths(self) -> RegistryAuthList:
        """The credentials of registries, oldest first, without passwords."""
        return await self._ask(RegistryAuthList, "GET", _REGISTRY_AUTHS)

    async def show_registry_auth(self, registry_auth: str) -> RegistryAuthDocument:
        """The credentials with this id, without their password."""
        path = f"{_REGISTRY_AUTHS}/{_quoted(registry_auth)}"
        return await self._ask(RegistryAuthDocument, "GET", path)

    async def delete_registry_auth(self, registry_auth: str) -> RegistryAuthDocument:
        """The credentials as they were; no endpoint may name them."""
        path = f"{_REGISTRY_AUTHS}/{_quoted(registry_auth)}"
        return await self._ask(RegistryAuthDocument, "DELETE", path)

    async def create_api_key(self, document: Mapping[str, Any]) -> ApiKeyMade:
        """The new API key made from this document; its `key` is shown this once."""
        return await self._ask(ApiKeyMade, "POST", _API_KEYS, document)

    async def list_api_keys(self) -> ApiKeyList:
        """All API keys, oldest first."""
        return await self._ask(ApiKeyList, "GET", _API_KEYS)

    async def update_api_key(self, key_id: str, patch: Mapping[str, Any]) -> ApiKeyDocument:
        """The API key after a JSON merge patch of its name or quota."""
        return await self._ask(ApiKeyDocument, "PATCH", f"{_API_KEYS}/{_quoted(key_id)}", patch)

    async def revoke_api_key(self, key_id: str) -> ApiKeyDocument:
        """The API key, which opens nothing from now on."""
        return await self._ask(ApiKeyDocument, "DELETE", f"{_API_KEYS}/{_quoted(key_id)}")

    async def show_usage(
        self, *, since: str | None = None, until: str | None = None, group_by: GroupBy = "endpoint"
    ) -> UsageReport:
        """The GPU-seconds used, by group.

        Args:
            since: a date or an RFC 3339 instant; None = the beginning of this month.
            until: likewise; None = now.
            group_by: what is summed.
        """
        asked = {"from": since, "to": until, "group_by": group_by}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return await self._ask(UsageReport, "GET", f"/v1/usage?{query}")

    async def show_node(self, node: str) -> NodeDetail:
        """The node with this id, and its workers."""
        return await self._ask(NodeDetail, "GET", _node_path(node))

    async def cordon_node(self, node: str, reason: str | None = None) -> NodeDetail:
        """The node, from now on taking no new worker; None = keep the reason it has."""
        document = {} if reason is None else {"reason": reason}
        return await self._ask(NodeDetail, "POST", f"{_node_path(node)}/cordon", document)

    async def uncordon_node(self, node: str) -> NodeDetail:
        """The node, from now on taking workers."""
        return await self._ask(NodeDetail, "POST", f"{_node_path(node)}/uncordon")

    async def drain_node(
        self, node: str, reason: str | None = None, *, deadline_s: float | None = None
    ) -> NodeDetail:
        """The node, from now on getting empty: its workers move elsewhere.

        Args:
            node: its id.
            reason: for people; None = keep the one it has.
            deadline_s: seconds after which workers that found no other place are drained all the
                same; None = keep the deadline it has, at first none.
        """
        document: dict[str, object] = {} if reason is None else {"reason": reason}
        if deadline_s is not None:
            document["deadline_s"] = deadline_s
        return await self._ask(NodeDetail, "POST", f"{_node_path(node)}/drain", document)

    def logs(
        self,
        endpoint: str,
        worker: str | None = None,
        *,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncGenerator[LogEntryDocument | LogEndDocument, None]:
        """Lines of one worker, or of all of an endpoint, and the word of those that are missing.

        It goes on over connections that break, and ends with a `LogEndDocument`.

        Args:
            endpoint: id or `app_name`.
            worker: its id; None = all workers of the endpoint.
            follow: whether to go on when all that there is has come.
            tail: begin with the last lines, so many; None = with the first that there is.

        Raises:
            ApiError: the api refused (404: there was no such worker), while iterating.
            UnreachableError: it could not be reached for a minute, while iterating.
        """
        assert self._session is not None, "use it as `async with PenstockClient(...)`"
        session = self._session
        path = _path(endpoint) + (f"/workers/{quote(worker, safe='')}" if worker else "") + "/logs"
        query = f"?follow={str(follow).lower()}" + (f"&tail={tail}" if tail is not None else "")
        url = URL(self._url + path + query, encoded=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.total)

        def ask(headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.get(url, headers=headers, timeout=timeout, allow_redirects=False)

        async def refuse(answer: aiohttp.ClientResponse) -> object:
            return self._parse(answer.status, await answer.read())

        return read_lines(ask, refuse)

    async def wait_until(
        self,
        endpoint: str,
        is_there: Callable[[EndpointDocument | None], bool],
        *,
        timeout_s: float,
        poll_s: float = 0.25,
    ) -> EndpointDocument | None:
        """The endpoint's first state that `is_there` accepts; None stands for "no such endpoint".

        Goes on while the api is away for a moment. What `is_there` raises ends the wait.

        Raises:
            WaitTimeoutError: there was no such state within `timeout_s` seconds.
            ApiError: the api refused to show the endpoint (a wrong key, say).
        """
        seen: EndpointDocument | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    known, seen = await self._look(endpoint, seen)
                    if known and is_there(seen):
                        return seen
                    await asyncio.sleep(poll_s)
        except TimeoutError:
            state = f"is {seen.state}" if seen else "was not seen"
            told = f" ({seen.message})" if seen and seen.message else ""
            raise WaitTimeoutError(f"after {timeout_s:g} s '{endpoint}' {state}{told}") from None

    async def wait_until_serving(self, endpoint: str, *, timeout_s: float) -> EndpointDocument:
        """The endpoint once it serves.

        Raises:
            NotServingError: it failed, or was paused or deleted.
            WaitTimeoutError: as for `wait_until`.
            ApiError: as for `wait_until`; 404 when there is no such endpoint.
        """

        def serves(seen: EndpointDocument | None) -> bool:
            if seen is None or seen.state in _NEVER_SERVING:
                return True
            return seen.state is EndpointState.SERVING

        found = await self.wait_until(endpoint, serves, timeout_s=timeout_s)
        if found is None:
            return await self.show_endpoint(endpoint)  # raises the 404
        if found.state in _NEVER_SERVING:
            raise NotServingError(found)
        return found

    async def wait_until_gone(self, endpoint: str, *, timeout_s: float) -> None:
        """Wait until there is no such endpoint any more.

        Raises:
            WaitTimeoutError, ApiError: as for `wait_until`.
        """
        await self.wait_until(endpoint, lambda seen: seen is None, timeout_s=timeout_s)

    async def wait_until_drained(
        self,
        node: str,
        *,
        timeout_s: float,
        tell: Callable[[NodeDetail], Awaitable[None]] | None = None,
        poll_s: float = 0.5,
    ) -> NodeDetail:
        """The node once it is drained, or is gone with all its workers.

        Goes on while the api is away for a moment; `tell` is given each look.

        Raises:
            DrainEndedError: somebody took the order to drain back.
            WaitTimeoutError: it was not drained within `timeout_s` seconds.
            ApiError: the api refused; 404 when there is no such node.
        """
        seen: NodeDetail | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        seen = await self.show_node(node)
                        if tell is not None:
                            await tell(seen)
                    except (ApiError, UnreachableError) as error:
                        if isinstance(error, ApiError) and error.status < 500:
                            raise
                    else:
                        if seen.order is None or seen.order.wish is not NodeWish.DRAINING:
                            raise DrainEndedError(f"'{node}' is no longer to drain")
                        if not seen.workers:
                            return seen
                    await asyncio.sleep(poll_s)
        except TimeoutError:
            left = f" has {len(seen.workers)} workers left" if seen else " was not seen"
            raise WaitTimeoutError(f"after {timeout_s:g} s '{node}'{left}") from None

    async def send(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        """The parsed JSON of any route's answer, for what has no method of its own.

        Raises:
            ApiError: the api refused.
            UnreachableError: it could not be asked, or the answer is none of a Penstock api.
        """
        assert self._session is not None, "use it as `async with PenstockClient(...)`"
        headers = {}
        if document is not None:
            headers["Content-Type"] = _MERGE_PATCH if method == "PATCH" else "application/json"
        data = None if document is None else json.dumps(document).encode()
        try:
            async with self._session.request(
                method,
                URL(self._url + path, encoded=True),
                data=data,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                status, body = answer.status, await answer.read()
        except TimeoutError:
            raise UnreachableError(
                f"{self._url} did not answer within {self._timeout.total:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(f"{self._url} cannot be reached: {error}") from None
        return self._parse(status, body)

    async def _ask(self, answer: type[D], method: str, path: str, document: object = None) -> D:
        value = await self.send(method, path, document)
        try:
            return answer.of(value)
        except ValidationError as error:
            raise UnreachableError(
                f"{self._url} answered what this client does not understand "
                f"(is the api newer?): {error}"
            ) from None

    def _parse(self, status: int, body: bytes) -> object:
        try:
            value: object = json.loads(body)
            if status < 300:
                return value
            problem = ProblemDocument.of(value)
        except (ValueError, ValidationError):
            raise UnreachableError(
                f"{self._url} is no Penstock api: it answered {status} without its JSON"
            ) from None
        raise ApiError(problem)

    async def _look(
        self, endpoint: str, last: EndpointDocument | None
    ) -> tuple[bool, EndpointDocument | None]:
        """(whether it is known how the endpoint is, how it is or was)."""
        try:
            return True, await self.show_endpoint(endpoint)
        except ApiError as error:
            if error.status == 404:
                return True, None
            if error.status < 500:
                raise
        except UnreachableError:
            pass  # it may come back; the wait is bounded
        return False, last


def _path(endpoint: str) -> str:
    return f"/v1/endpoints/{_quoted(endpoint)}"


def _node_path(node: str) -> str:
    return f"/v1/nodes/{_quoted(node)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
