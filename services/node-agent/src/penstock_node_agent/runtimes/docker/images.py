"""Which image a worker's container is made from, and having it on the node.

A revision runs one image: its first worker finds the digest that the tag has, and every later one,
on whatever node, is told that digest and runs it, though the tag has moved meanwhile.

1. A digest in the assignment or in the reference: that image, pulled by digest when it is absent.
2. Else the tag, and the image is absent: it is pulled by tag, and its digest read.
3. Else the registry is asked what the tag is now, so that a new revision runs what was pushed last.
   When it does not answer, what is on the node runs, and the worker says so.
4. An image that no registry has (made on this node) has no digest. It runs by its id, and the
   worker says so; other nodes run what they have under that name.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from penstock_common.image_references import digest_of, familiar, pinned, repository
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.docker.calls import EngineCalls
from penstock_node_agent.runtimes.docker.errors import (
    ENGINE_ERRORS,
    explanation,
    is_status,
    start_failure,
)
from penstock_node_agent.runtimes.docker.image_cleaner import ImageCare
from penstock_node_agent.runtimes.docker.pulls import ImagePuller
from penstock_node_agent.runtimes.protocol import (
    Credentials,
    ImageWish,
    RunningImage,
    StartFailedError,
)
from penstock_node_agent.runtimes.pull_bytes import PulledBytes

logger = logging.getLogger(__name__)

#: Longest wait for a registry's word on a tag.
ASK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class LocalImage:
    """What the engine has under a reference."""

    image_id: str
    #: that it has in the reference's repository; none = no registry gave it
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The image to make a container from."""

    #: for the engine: by digest, by id, or by tag when it must be pulled first
    reference: str
    image: RunningImage


def read_local(inspected: Mapping[str, Any], reference: str) -> LocalImage:
    """The image that the engine showed for this reference."""
    prefix = f"{repository(reference)}@"
    known: Sequence[str] = inspected.get("RepoDigests") or ()
    digests = sorted(item.removeprefix(prefix) for item in known if item.startswith(prefix))
    return LocalImage(inspected["Id"], tuple(digests))


def choose_local(reference: str, local: LocalImage, note: str | None = None) -> Chosen:
    """The image as it is on the node."""
    if local.digests:
        digest = local.digests[0]  # several name the very same image
        return Chosen(pinned(reference, digest), RunningImage(digest, note))
    note = (
        f"no registry gave {reference}: this node runs its own image {local.image_id}, other nodes "
        "run what they have under that name"
    )
    return Chosen(local.image_id, RunningImage(None, note))


class WorkerImages:
    """Chooses and pulls images on one engine."""

    def __init__(self, engine: EngineCalls, puller: ImagePuller, care: ImageCare) -> None:
        self._engine = engine
        self._puller = puller
        self._care = care
        #: references that starts under way need, with how many need each
        self._held: Counter[str] = Counter()
        #: references that orders need
        self._kept: frozenset[str] = frozenset()
        #: all of these, for other threads
        self.wanted: frozenset[str] = frozenset()

    @contextmanager
    def held(self, wish: ImageWish) -> Iterator[None]:
        """Within it no image of the wish's repository is cleaned up."""
        self._held[wish.image] += 1
        self._note_wanted()
        try:
            yield
        finally:
            self._held[wish.image] -= 1
            self._held = +self._held
            self._note_wanted()

    def keep(self, images: frozenset[str]) -> None:
        """Clean up none of these references' repositories from now on."""
        self._kept = images
        self._note_wanted()

    def _note_wanted(self) -> None:
        self.wanted = self._kept | frozenset(self._held)

    async def have(
        self, wish: ImageWish, on_bytes: Callable[[PulledBytes], None] | None = None
    ) -> RunningImage:
        """Have an image on the node.

        Raises:
            StartFailedError: it cannot be had; the reason says why.
        """
        with self.held(wish):
            chosen = await self.choose(wish)
            if await self._look(chosen.reference) is None:
                chosen = await self.pull(wish, chosen, on_bytes)
        return chosen.image

    async def choose(self, wish: ImageWish) -> Chosen:
        """The image to try first, which may not be on the node.

        Raises:
            StartFailedError: the engine did not tell.
        """
        reference = wish.image
        digest = wish.image_digest or digest_of(reference)
        if digest is not None:
            return Chosen(pinned(reference, digest), RunningImage(digest))
        local = await self._look(reference)
        if local is None:
            return Chosen(reference, RunningImage())
        if not local.digests:
            return choose_local(reference, local)
        try:
            credentials = await wish.credentials() if wish.credentials else None
            digest = await self._ask_registry(reference, credentials)
        except (StartFailedError, *ENGINE_ERRORS) as error:
            why = str(error) if isinstance(error, StartFailedError) else explanation(error)
            logger.warning(
                "registry did not say what a tag is; using what is on the node",
                extra={"action": "tag_unresolved", "image": reference, "error": why},
            )
            note = f"its registry did not say what {reference} is now ({why}): runs what was there"
            return choose_local(reference, local, note)
        return Chosen(pinned(reference, digest), RunningImage(digest))

    async def pull(
        self,
        wish: ImageWish,
        chosen: Chosen,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> Chosen:
        """Have the chosen image on the node; gives it with its digest.

        Raises:
            StartFailedError: it cannot be had; the reason says why.
        """
        credentials = await wish.credentials() if wish.credentials else None
        before = await self._image_ids()
        try:
            await self._puller.pull(chosen.reference, credentials, on_bytes)
        except StartFailedError as error:
            if error.reason is not WorkerReason.IMAGE_NOT_FOUND or not wish.image_digest:
                raise
            raise StartFailedError(
                error.reason,
                f"{error}; it is the image that the revision's first worker ran, and the registry "
                "has it no longer: a new revision takes the tag anew",
            ) from error
        local = await self._look(chosen.reference)
        if local is None:
            raise StartFailedError(
                WorkerReason.IMAGE_NOT_FOUND, f"{chosen.reference} is gone after its pull"
            )
        if (ledger := self._care.ledger) is not None:
            at, was_there = self._care.clock.utc(), local.image_id in before
            await self._engine.begin(
                lambda: ledger.note_pulled(
                    local.image_id, familiar(chosen.reference), was_there=was_there, at=at
                )
            )
        return chosen if chosen.image.digest else choose_local(chosen.reference, local)

    async def _image_ids(self) -> frozenset[str]:
        if self._care.ledger is None:
            return frozenset()
        try:
            images = await self._engine.begin(lambda: self._engine.client.images())
        except ENGINE_ERRORS as error:
            raise start_failure(error) from error
        return frozenset(str(image["Id"]) for image in images)

    async def _look(self, reference: str) -> LocalImage | None:
        try:
            client: Any = self._engine.client  # the SDK has no type for this call
            inspected = await self._engine.begin(lambda: client.inspect_image(reference))
        except ENGINE_ERRORS as error:
            if is_status(error, 404):
                return None
            raise start_failure(error) from error
        return read_local(inspected, reference)

    async def _ask_registry(self, reference: str, credentials: Credentials | None) -> str:
        """The digest that the tag has now.

        Raises:
            DockerException, RequestException: the registry, or the engine, did not say.
        """
        auth = None
        if credentials is not None:
            auth = {"username": credentials.username, "password": credentials.password}

        def ask() -> str:
            client: Any = self._engine.new_client(ASK_S)  # the SDK has no type for this call
            try:
                return str(
                    client.inspect_distribution(reference, auth_config=auth)["Descriptor"]["digest"]
                )
            finally:
                client.close()

        return await self._engine.begin(ask)
