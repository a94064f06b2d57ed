"""Fetches into deploy/wheels what the images need from others, so that their build needs no network.

    .venv/bin/python deploy/wheels.py [IMAGE]

IMAGE (default python:3.11-slim) is the base of the images; its Python says which wheels fit. pip
fetches as this machine is configured to, and holds every file by its hash in requirements.lock.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from third_party import ROOT, closure

WHEELS = ROOT / "deploy/wheels"
PARTS = ("api", "scheduler", "router", "node-agent", "cli")
#: They install and build the rest.
TOOLS = ("hatchling", "uv")


def python_of(image: str) -> str:
    """Version of the image's Python, e.g. "3.11"."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    command = ["docker", "run", "--rm", "--network", "none", image, "python3", "-c", ask]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def main() -> None:
    """Fetch, unless what is there was fetched for the same."""
    version = python_of(sys.argv[1] if len(sys.argv) > 1 else "python:3.11-slim")
    needs = "\n".join([*closure(PARTS)[1], *TOOLS])
    lock = ROOT / "requirements.lock"
    made_for = hashlib.sha256(f"{version}\n{needs}\n{lock.read_text()}".encode()).hexdigest()
    stamp = WHEELS / "made-for"
    if stamp.exists() and stamp.read_text() == made_for:
        return
    shutil.rmtree(WHEELS, ignore_errors=True)
    WHEELS.mkdir()
    chosen = WHEELS / "requirements.lock"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(  # noqa: S603
        [uv, *("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"),
         *("--python-version", version, "-c", lock, "-o", chosen, "-")],
        check=True, input=needs, text=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    # As in `make setup`: the environment has no pip, the Python that it was made from has.
    python = Path(sys.base_prefix) / "bin" / "python3"
    subprocess.run(  # noqa: S603
        [python, *("-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"),
         *("--require-hashes", "--only-binary", ":all:", "--python-version", version),
         *("-r", chosen, "-d", WHEELS)],
        check=True,
    )  # fmt: skip
    stamp.write_text(made_for)


if __name__ == "__main__":
    main()
