"""What the engine's errors mean: its texts, mapped once to our reasons."""

from typing import Final

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.protocol import RuntimeFailedError, StartFailedError

#: All that the SDK raises when a call fails: `requests` errors pass through it.
ENGINE_ERRORS: Final = (DockerException, RequestException)

#: Looked for in this order, in lower case. From the texts of dockerd 20.10-29 and of registries.
_MEANINGS: Final[tuple[tuple[WorkerReason, tuple[str, ...]], ...]] = (
    (WorkerReason.NO_SPACE, ("no space left on device", "disk quota exceeded")),
    (
        WorkerReason.IMAGE_NOT_FOUND,
        # A registry says "access denied" of a repository that does not exist, too.
        (
            "repository does not exist",
            "manifest unknown",
            "no such image",
            "name unknown",
            "not found: ",
            "invalid reference format",
            "no matching manifest",
        ),
    ),
    (
        WorkerReason.REGISTRY_AUTH_FAILED,
        ("unauthorized", "authentication required", "no basic auth credentials", "denied", "401"),
    ),
    (
        WorkerReason.REGISTRY_UNREACHABLE,
        (
            "no such host",
            "connection refused",
            "connection reset",
            "timeout",
            "deadline exceeded",
            "no route to host",
            "network is unreachable",
            "server misbehaving",
            "http response to https client",
            "x509:",
            "toomanyrequests",
            "received unexpected http status: 5",
            "eof",
        ),
    ),
)


_AUTH_ADVICE: Final = (
    "; name a registry auth whose username and password may pull it (image.registry_auth_id)"
)
#: What the engine says when it could not mount a volume or a host path.
_NO_MOUNT: Final = (
    "failed to mount local volume",
    "error while mounting volume",
    "bind source path does not exist",
    "error resolving passed in network volume address",
    "error resolving passed in nfs address",
)
#: Looked for in this order, in lower case: what to do about a container that cannot be started.
_HINTS: Final = (
    (
        "could not select device driver",
        "the engine has no NVIDIA support; install the NVIDIA container toolkit",
    ),
    (
        "unknown runtime specified",
        (
            "the engine lacks the runtime that gives GPUs; install the NVIDIA container toolkit, "
            "or set docker_gpu_way to one that the engine offers"
        ),
    ),
    ("mount", "a volume cannot be mounted; correct storage.volumes"),
    ("is not directory", "a volume cannot be mounted; correct storage.volumes"),
    ("unable to find user", "the image's user does not exist in it; correct the image"),
)


def pull_failure(image: str, text: str) -> StartFailedError:
    """The error to raise when the engine could not pull `image` and said `text`."""
    lowered = text.lower()
    for reason, signs in _MEANINGS:
        if any(sign in lowered for sign in signs):
            advice = _AUTH_ADVICE if reason is WorkerReason.REGISTRY_AUTH_FAILED else ""
            return StartFailedError(reason, f"pull of {image}: {text}{advice}")
    return StartFailedError(WorkerReason.ENGINE_ERROR, f"pull of {image}: {text}")


def start_failure(error: Exception) -> StartFailedError:
    """The error to raise when the engine could not create or start a container."""
    text = explanation(error)
    if "no space left on device" in text.lower():
        return StartFailedError(WorkerReason.NO_SPACE, text)
    if any(sign in text for sign in _NO_MOUNT):
        return StartFailedError(WorkerReason.VOLUME_UNAVAILABLE, text)
    if "invalid reference format" in text:
        return StartFailedError(WorkerReason.IMAGE_NOT_FOUND, text)
    for sign, hint in _HINTS:
        if sign in text.lower():
            return StartFailedError(WorkerReason.START_FAILED, f"{hint} ({text})")
    if is_status(error, 404) and "no such container" in text.lower():
        # An earlier call, long given up, makes it or removes it at this moment.
        return StartFailedError(WorkerReason.ENGINE_ERROR, text)
    if isinstance(error, APIError) and not _engine_itself(text):
        return StartFailedError(WorkerReason.START_FAILED, text)
    return StartFailedError(WorkerReason.ENGINE_ERROR, text)


def _engine_itself(text: str) -> bool:
    return any(sign in text for sign in ("containerd", "deadline exceeded", "shim disconnected"))


def engine_failure(error: Exception) -> RuntimeFailedError:
    """The error to raise when the engine did not do anything else that it was asked."""
    return RuntimeFailedError(f"docker engine: {explanation(error)}")


def explanation(error: Exception) -> str:
    """What the engine said, or how it could not be asked."""
    if isinstance(error, APIError) and error.explanation:
        return str(error.explanation)
    if type(error) is DockerException:
        return str(error)
    return f"{type(error).__name__}: {error}"


def is_status(error: Exception, status: int) -> bool:
    """Whether the engine answered with this HTTP status."""
    return isinstance(error, APIError) and error.status_code == status
