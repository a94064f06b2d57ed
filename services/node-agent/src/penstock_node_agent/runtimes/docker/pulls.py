"""Pulls of images: few at once, one for each image, again when the registry does not answer.

The SDK blocks, so a pull runs in a thread of a bounded pool. All who wait for the same image
with the same credentials share its pull; when the last of them has gone, the pull stops at the engine's next line of progress.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from docker import APIClient

from penstock_common.daemon_threads import DaemonThreads
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation, pull_failure
from penstock_node_agent.runtimes.protocol import Credentials, StartFailedError
from penstock_node_agent.runtimes.pull_bytes import PullCount, PulledBytes

logger = logging.getLogger(__name__)

#: A pull that reports nothing for so long has failed (layers are unpacked silently).
SILENCE_S: Final = 600.0
#: Who waits for a pull hears so often how far it is.
_REPORT_S: Final = 1.0


@dataclass(slots=True)
class _Progress:
    """How far a pull is; written by its thread, read by others."""

    bytes: PulledBytes | None = None


@dataclass(slots=True)
class _Pull:
    """A pull under way."""

    done: "asyncio.Future[None]"
    progress: _Progress
    #: set = nobody waits for it any more
    stopped: threading.Event = field(default_factory=threading.Event)
    waiters: int = 0


class ImagePuller:
    """Pulls images through one engine."""

    def __init__(
        self, connect: Callable[[float], APIClient], pauses_s: Sequence[float], limit: int = 4
    ) -> None:
        """A puller that has no thread yet.

        Args:
            connect: makes a client that waits so many seconds for an answer; called in a thread.
            pauses_s: before each repeated try; as many tries follow the first one.
            limit: pulls at once; the others wait their turn.
        """
        self._connect = connect
        self._pauses_s = pauses_s
        self._threads = DaemonThreads(limit, "docker-pull")
        # Who may not pull an image is not handed what another's credentials pull.
        self._pulls: dict[tuple[str, Credentials | None], _Pull] = {}

    async def pull(
        self,
        image: str,
        credentials: Credentials | None = None,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> None:
        """Have the image on the node, pulled with these credentials.

        Raises:
            StartFailedError: it cannot be had; the reason says why.
        """
        key = (image, credentials)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = self._begin(image, credentials)
        pull.waiters += 1
        try:
            while not pull.done.done():
                # Unlike `wait_for`, this leaves the pull alone when its caller is cancelled.
                await asyncio.wait({pull.done}, timeout=_REPORT_S)
                if on_bytes is not None and pull.progress.bytes is not None:
                    on_bytes(pull.progress.bytes)
            pull.done.result()
        finally:
            pull.waiters -= 1
            if pull.waiters == 0:
                pull.stopped.set()
                # Whoever comes now begins another one, and does not wait for what is stopping.
                if self._pulls.get(key) is pull:
                    del self._pulls[key]

    def close(self) -> None:
        """Let go."""
        self._threads.close()

    def _begin(self, image: str, credentials: Credentials | None) -> _Pull:
        stopped, progress = threading.Event(), _Progress()
        done = self._threads.run(
            lambda: self._pull_with_retries(image, credentials, stopped, progress)
        )
        # Its error is nobody's when all who waited have gone.
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return _Pull(done, progress, stopped)

    def _pull_with_retries(
        self,
        image: str,
        credentials: Credentials | None,
        stopped: threading.Event,
        progress: _Progress,
    ) -> None:
        for pause_s in self._pauses_s:
            try:
                self._pull_once(image, credentials, stopped, progress)
            except StartFailedError as error:
                if error.reason is not WorkerReason.REGISTRY_UNREACHABLE:
                    raise
                logger.warning(
                    "registry does not answer, pulling again",
                    extra={
                        "action": "pull_retried",
                        "image": image,
                        "error": str(error),
                        "pause_s": pause_s,
                    },
                )
            else:
                return
            if stopped.wait(pause_s):
                return
        self._pull_once(image, credentials, stopped, progress)

    def _pull_once(
        self,
        image: str,
        credentials: Credentials | None,
        stopped: threading.Event,
        progress: _Progress,
    ) -> None:
        auth = None
        if credentials is not None:
            auth = {"username": credentials.username, "password": credentials.password}
        try:
            client = self._connect(SILENCE_S)
            count = PullCount()
            try:
                lines: Iterator[dict[str, Any]] = client.pull(
                    image, stream=True, decode=True, auth_config=auth
                )
                for line in lines:
                    if "error" in line:  # the HTTP status was 200 long ago
                        raise pull_failure(image, str(line["error"]))
                    progress.bytes = count.note(line)
                    if stopped.is_set():
                        return
            finally:
                client.close()
        except ENGINE_ERRORS as error:
            raise pull_failure(image, explanation(error)) from error
