"""What is made of an image that the engine shows."""

from penstock_node_agent.runtimes.docker.images import LocalImage, choose_local, read_local
from penstock_node_agent.runtimes.protocol import RunningImage


def test_digests_of_other_repositories_do_not_count() -> None:
    shown = {"Id": "sha256:id", "RepoDigests": ["a/x@sha256:2", "b/x@sha256:1", "a/x@sha256:3"]}
    assert read_local(shown, "a/x:1") == LocalImage("sha256:id", ("sha256:2", "sha256:3"))
    assert read_local(shown, "docker.io/a/x:7").digests == ("sha256:2", "sha256:3")
    assert read_local(shown, "a/xx:1").digests == ()
    assert read_local({"Id": "sha256:id", "RepoDigests": None}, "a/x").digests == ()


def test_an_image_with_a_digest_runs_by_it() -> None:
    chosen = choose_local("a/x:1", LocalImage("sha256:id", ("sha256:2",)), "why")
    assert chosen.reference == "a/x@sha256:2"
    assert chosen.image == RunningImage("sha256:2", "why")


def test_an_image_without_one_runs_by_its_id_and_says_so() -> None:
    chosen = choose_local("a/x:1", LocalImage("sha256:id"))
    assert chosen.reference == "sha256:id"
    assert chosen.image.digest is None
    assert chosen.image.note is not None
    assert "no registry gave a/x:1" in chosen.image.note
    assert "sha256:id" in chosen.image.note
