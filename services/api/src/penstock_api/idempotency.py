"""`Idempotency-Key`: a change that is sent again is answered again, and done once.

A request over HTTP or a call over NATS: it is asked for by a `Repeatable`, answered by an `Answer`.

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
from dataclasses import dataclass
from typing import ClassVar, Final

from penstock_api.answers import Answer
from penstock_api.problems import RefusedError
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.messages import RepeatRecord
from penstock_common.nats.kv import Bucket
from penstock_common.sealing import Sealer

logger = logging.getLogger(__name__)

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_KEY_LENGTH: Final = 255
#: An answer is given again for so long.
ANSWER_TTL_S: Final = 24 * 3600
#: A request that is neither answered nor failed after so long is no longer waited for.
CLAIM_TTL_S: Final = 60
_ANSWER: Final = "answer"


class KeyReusedError(PenstockError):
    """This Idempotency-Key came before with another body; use a fresh key for another request."""

    error_type: ClassVar[str] = "idempotency_key_reused"
    status_hint: ClassVar[int] = 422


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that is to be done once."""

    #: what tells its sender from all others, such as the Authorization header
    caller: str
    #: what is asked for: method and path, or the subject
    target: tuple[str, str]
    #: its Idempotency-Key
    key: str
    body: bytes


class Repeats:
    """Remembers which requests were done."""

    def __init__(self, bucket: Bucket, sealer: Sealer) -> None:
        """`bucket` holds what was done; `sealer` seals it."""
        self._bucket = bucket
        self._sealer = sealer

    async def once(self, request: Repeatable, handle: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of `handle`, or of the first request with this key, marked as replayed.

        Args:
            request: as it came.
            handle: does it.

        Raises:
            RefusedError: 400 for a malformed key, 409 while the first request is under way.
            PenstockError: `KeyReusedError`; what `handle` raises; NATS is away.
        """
        name, fingerprint = _name(request), hashlib.sha256(request.body).hexdigest()
        entry, last = await self._bucket.latest(name)
        if entry is not None:
            return self._again(RepeatRecord.decode(entry.value), fingerprint)
        claim = RepeatRecord(fingerprint=fingerprint)
        try:
            claimed = await self._bucket.put(name, claim.encode(), revision=last, ttl_s=CLAIM_TTL_S)
        except WrongRevisionError:
            raise _under_way() from None
        try:
            answer = await handle()
        except BaseException:
            await self._forget(name, claimed)
            raise
        await self._keep(name, claim, answer)
        return answer

    def _again(self, record: RepeatRecord, fingerprint: str) -> Answer:
        if record.fingerprint != fingerprint:
            raise KeyReusedError
        if record.sealed is None:
            raise _under_way()
        kept = json.loads(self._sealer.open(record.sealed)[_ANSWER])
        headers = {**kept["headers"], REPLAYED: "true"}
        return Answer(kept["status"], headers, base64.b64decode(kept["body"]))

    async def _keep(self, name: str, claim: RepeatRecord, answer: Answer) -> None:
        kept = {
            "status": answer.status,
            "headers": dict(answer.headers),
            "body": base64.b64encode(answer.body).decode(),
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


def _name(request: Repeatable) -> str:
    """The key in KV: the same caller, target and header give the same one, and nobody else's."""
    key = request.key
    if not (key and len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise RefusedError(
            400,
            "malformed_idempotency_key",
            f"{HEADER} takes 1 to {MAX_KEY_LENGTH} printable ASCII characters; a UUID will do",
        )
    parts = "\0".join((request.caller, *request.target, key))
    return hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()


def _under_way() -> RefusedError:
    return RefusedError(
        409,
        "request_under_way",
        f"the first request with this {HEADER} is not answered yet; try again",
        headers={"Retry-After": "1"},
    )
