"""`Idempotency-Key`: a change that is sent again is answered again, and done once.

Theory of operation. The first request with a key claims it in KV by a write that expects nothing
there; its answer, when it succeeded, takes the claim's place for a day. A later one with the same
key, from the same caller to the same route, gets that answer if its body is the same, and is
refused if it is not. While the first is under way the second is told to wait. A request that failed
gives the key back, since nothing was done.

The answer is sealed, as it may hold a secret that is shown once. An api that dies between the deed
and its note leaves a claim that expires after `CLAIM_TTL_S`; who repeats later than that may do the
deed twice, which is the window that is left. The draft on this header: draft-ietf-httpapi-
idempotency-key-header-07.
"""

import base64
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from aiohttp import web

from penstock_api.problems import RefusedError
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.kv import Bucket
from penstock_common.messages import RepeatRecord
from penstock_common.sealing import Sealer

logger = logging.getLogger(__name__)

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_KEY_LENGTH: Final = 255
#: An answer is given again for so long.
ANSWER_TTL_S: Final = 24 * 3600
#: A request that is neither answered nor failed after so long is no longer waited for.
CLAIM_TTL_S: Final = 60
_KEPT_HEADERS: Final = ("Content-Type", "Location", "ETag")
_ANSWER: Final = "answer"


class KeyReusedError(PenstockError):
    """This Idempotency-Key came before with another body; use a fresh key for another request."""

    error_type: ClassVar[str] = "idempotency_key_reused"
    status_hint: ClassVar[int] = 422


class Repeats:
    """Remembers which requests were done."""

    def __init__(self, bucket: Bucket, sealer: Sealer) -> None:
        """`bucket` holds what was done; `sealer` seals it."""
        self._bucket = bucket
        self._sealer = sealer

    async def once(
        self, request: web.Request, body: bytes, handle: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The answer of `handle`, or of the first request with this key.

        Args:
            request: carries the key in its header; without one, `handle` simply runs.
            body: the request's body.
            handle: does it.

        Raises:
            RefusedError: 400 for a malformed key, 409 while the first request is under way.
            PenstockError: `KeyReusedError`; what `handle` raises; NATS is away.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return await handle()
        name, fingerprint = _name(request, key), hashlib.sha256(body).hexdigest()
        entry, last = await self._bucket.latest(name)
        if entry is not None:
            return self._again(RepeatRecord.decode(entry.value), fingerprint)
        claim = RepeatRecord(fingerprint=fingerprint)
        try:
            claimed = await self._bucket.put(name, claim.encode(), revision=last, ttl_s=CLAIM_TTL_S)
        except WrongRevisionError:
            raise _under_way() from None
        try:
            response = await handle()
        except BaseException:
            await self._forget(name, claimed)
            raise
        assert isinstance(response, web.Response), "an answer that streams cannot be kept"
        await self._keep(name, claim, response)
        return response

    def _again(self, record: RepeatRecord, fingerprint: str) -> web.Response:
        if record.fingerprint != fingerprint:
            raise KeyReusedError
        if record.sealed is None:
            raise _under_way()
        kept = json.loads(self._sealer.open(record.sealed)[_ANSWER])
        return web.Response(
            status=kept["status"],
            body=base64.b64decode(kept["body"]),
            headers={**kept["headers"], REPLAYED: "true"},
        )

    async def _keep(self, name: str, claim: RepeatRecord, response: web.Response) -> None:
        body = response.body
        assert isinstance(body, bytes)
        kept = {
            "status": response.status,
            "headers": {n: response.headers[n] for n in _KEPT_HEADERS if n in response.headers},
            "body": base64.b64encode(body).decode(),
        }
        sealed = self._sealer.seal({_ANSWER: json.dumps(kept)})
        record = claim.model_copy(update={"sealed": sealed})
        try:
            await self._bucket.put(name, record.encode(), ttl_s=ANSWER_TTL_S)
        except PenstockError as error:
            # It was done, so it is answered; a repeat is refused until the claim expires.
            logger.warning(
                "answer not kept", extra={"action": "repeat_unkept", "error": str(error)}
            )

    async def _forget(self, name: str, claimed: int) -> None:
        try:
            await self._bucket.delete(name, revision=claimed)
        except PenstockError as error:
            logger.info(
                "claim not given back", extra={"action": "repeat_claimed", "error": str(error)}
            )


def _name(request: web.Request, key: str) -> str:
    """The key in KV: the same caller, route and header give the same one, and nobody else's."""
    if not (key and len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise RefusedError(
            400,
            "malformed_idempotency_key",
            f"{HEADER} takes 1 to {MAX_KEY_LENGTH} printable ASCII characters; a UUID will do",
        )
    caller = request.headers.get("Authorization", "")
    parts = "\0".join((caller, request.method, request.path, key))
    return hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()


def _under_way() -> RefusedError:
    return RefusedError(
        409,
        "request_under_way",
        f"the first request with this {HEADER} is not answered yet; try again",
        headers={"Retry-After": "1"},
    )
