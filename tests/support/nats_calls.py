"""A plain nats-py client that calls the api, as an integration would."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats
from nats.aio.client import Client

from tests.support.asyncapi import validator


@dataclass(frozen=True)
class Reply:
    """An answer over NATS."""

    headers: Mapping[str, str]
    document: Any

    @property
    def status(self) -> int:
        """The status of an error; 200 without one."""
        return int(self.headers.get("Nats-Service-Error-Code", 200))


class Caller:
    """Calls over one connection."""

    def __init__(self, client: Client, described: Mapping[str, Any] | None = None) -> None:
        """With the api's AsyncAPI document every answer is held to it."""
        self.client = client
        self._described = described

    async def call(
        self,
        name: str,
        document: object = None,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> Reply:
        """The answer to `penstock.v1.api.<name>`; the body is `data`, or the document as JSON."""
        if data is None:
            data = b"" if document is None else json.dumps(document).encode()
        answer = await self.client.request(
            f"penstock.v1.api.{name}",
            data,
            timeout=timeout_s,
            headers=dict(headers) if headers else None,
        )
        reply = Reply(dict(answer.headers or {}), json.loads(answer.data))
        if self._described is not None:
            message = "error" if reply.status >= 400 else f"{name}.answer"
            validator(self._described, message, "headers").validate(dict(reply.headers))
            validator(self._described, message, "payload").validate(reply.document)
        return reply

    async def create(self, app: str, **changes: Any) -> Reply:
        """A new endpoint."""
        document = {"app_name": app, "image": {"image": "acme/echo"}, **changes}
        return await self.call("endpoint.create", document)


@asynccontextmanager
async def calling(
    url: str, described: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[Caller]:
    """A caller within the block; `options` are those of `nats.connect`."""
    client = await nats.connect(url, **options)
    try:
        yield Caller(client, described)
    finally:
        await client.close()
