"""The Docker engine that tests use."""

import functools
import os

from docker import APIClient
from docker.errors import DockerException

from tests.support.requirements import require

#: A base image with Python; `.ci/engine` makes it where no registry is in reach.
IMAGE = "python:3.11-slim"


@functools.cache
def _missing(host: str) -> str:
    try:
        client = APIClient(base_url=host, version="auto", timeout=60)
    except DockerException as error:
        return f"a Docker engine at {host} ({error})"
    try:
        tags = {tag for image in client.images() for tag in image.get("RepoTags") or ()}
    finally:
        client.close()
    return "" if IMAGE in tags else f"the image {IMAGE} in its Docker engine (run .ci/engine)"


def docker_host() -> str:
    """Where the engine answers; skips (or, in CI, fails) the test when there is none."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    missing = _missing(host)
    require(not missing, missing)
    return host
