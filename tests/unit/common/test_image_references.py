"""References of images, taken apart as the engine does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.image_references import digest_of, familiar, pinned, repository

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("python", "python"),
        ("python:3.11-slim", "python"),
        ("docker.io/library/python:3", "python"),
        ("docker.io/python", "python"),
        ("library/python", "python"),
        ("index.docker.io/acme/echo:1", "acme/echo"),
        ("acme/library/x:1", "acme/library/x"),
        ("127.0.0.1:5000/acme/echo", "127.0.0.1:5000/acme/echo"),
        ("127.0.0.1:5000/acme/echo:1", "127.0.0.1:5000/acme/echo"),
        ("localhost:5000/echo", "localhost:5000/echo"),
        (f"ghcr.io/acme/echo:1@{DIGEST}", "ghcr.io/acme/echo"),
    ],
)
def test_repositories_are_found(reference: str, expected: str) -> None:
    assert repository(reference) == expected


@pytest.mark.parametrize(
    ("reference", "listed"),
    [
        ("docker.io/library/python", "python:latest"),
        ("python:3", "python:3"),
        ("127.0.0.1:5000/acme/echo", "127.0.0.1:5000/acme/echo:latest"),
        (f"docker.io/acme/echo:1@{DIGEST}", f"acme/echo@{DIGEST}"),
    ],
)
def test_a_reference_is_written_as_the_engine_lists_it(reference: str, listed: str) -> None:
    assert familiar(reference) == listed
    assert familiar(listed) == listed


def test_digests_are_found() -> None:
    assert digest_of(f"acme/echo:1@{DIGEST}") == DIGEST
    assert digest_of("acme/echo:1") is None
    assert digest_of("acme/echo@sha256:short") is None


@given(
    host=st.sampled_from(["", "127.0.0.1:5000/", "ghcr.io/", "docker.io/"]),
    path=st.sampled_from(["echo", "acme/echo", "a/b/c"]),
    tag=st.sampled_from(["", ":1", ":latest"]),
)
def test_a_pinned_reference_names_the_same_repository_and_the_digest(
    host: str, path: str, tag: str
) -> None:
    reference = pinned(host + path + tag, DIGEST)
    assert repository(reference) == repository(host + path)
    assert digest_of(reference) == DIGEST
    assert pinned(reference, DIGEST) == reference
