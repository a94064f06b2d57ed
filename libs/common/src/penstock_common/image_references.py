"""References of container images: repository, tag, digest [pure].

127.0.0.1:5000/acme/echo:1@sha256:6c3c…
└── repository ────────┘ │  └── digest ─
tag
"""

import re
from typing import Final

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
#: What the engine leaves out of a reference.
_DEFAULT_HOSTS: Final = ("docker.io/", "index.docker.io/")
_DEFAULT_FOLDER: Final = "library/"


def repository(reference: str) -> str:
    """The repository of a reference, as the engine writes it: without the default registry."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    for host in _DEFAULT_HOSTS:
        name = name.removeprefix(host)
    return name.removeprefix(_DEFAULT_FOLDER) if name.count("/") == 1 else name


def familiar(reference: str) -> str:
    """The reference as the engine lists it: `repository@digest`, or `repository:tag`."""
    name, _, digest = reference.partition("@")
    if digest:
        return f"{repository(reference)}@{digest}"
    tag = name.rpartition("/")[2].partition(":")[2]
    return f"{repository(reference)}:{tag or 'latest'}"


def digest_of(reference: str) -> str | None:
    """The digest that a reference names; None = it names none."""
    digest = reference.partition("@")[2]
    return digest if _DIGEST.fullmatch(digest) else None


def pinned(reference: str, digest: str) -> str:
    """The image with this digest in the repository of a reference, as the engine writes it."""
    return f"{repository(reference)}@{digest}"
