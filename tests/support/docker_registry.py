"""A private image registry with basic auth: Debian's `docker-registry`, one for a test."""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from docker import APIClient

from penstock_common.clock import SystemClock
from tests.support.ports import free_port
from tests.support.requirements import require

CLOCK = SystemClock()
USERNAME = "robot"
PASSWORD = "canary-password-7f3a"
#: bcrypt, the only hash that the registry takes.
HTPASSWD = f"{USERNAME}:$2b$05$abcdefghijklmnopqrstuu6cbYMfa6EN8.blYjs65ner4vgNdR21q\n"
CONFIG = """version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}
"""


class PrivateRegistry:
    """A registry that only `USERNAME` with `PASSWORD` may use."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = shutil.which("docker-registry")
        require(program is not None, "the program docker-registry (run .ci/engine)")
        assert program is not None
        (self._folder / "htpasswd").write_text(HTPASSWD)
        config = self._folder / "config.yml"
        config.write_text(CONFIG.format(folder=self._folder, port=self.port))
        with (self._folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "serve", str(config)], stdout=log, stderr=log
            )
        deadline = CLOCK.monotonic() + 60
        while CLOCK.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=0.2),
            ):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError((self._folder / "registry.log").read_text())

    def stop(self) -> None:
        """End it; its images stay until the folder goes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reference(self, name: str) -> str:
        """The reference of an image in it."""
        return f"127.0.0.1:{self.port}/{name}:1"

    def push(
        self,
        engine: APIClient,
        name: str,
        version: str = "1",
        program: bytes | None = None,
        *,
        n_bytes: int = 0,
    ) -> str:
        """Make a small image, push it, and take it off the engine; gives its reference.

        The reference stays the same for every `version`, which is a label of the image. It runs
        `program`, an executable that needs nothing else; without one its workers fail to start.
        `n_bytes` more lie in its layer, of a kind that cannot be packed: the engine tells only the
        latest of what it does, and of a layer that is there at once no byte.
        """
        reference = self.reference(name)
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            member = tarfile.TarInfo("made-for")
            member.size = len(reference)
            archive.addfile(member, io.BytesIO(reference.encode()))
            if n_bytes:
                member = tarfile.TarInfo("ballast")
                member.size = n_bytes
                archive.addfile(member, io.BytesIO(os.urandom(n_bytes)))
            if program is not None:
                member = tarfile.TarInfo("program")
                member.size, member.mode = len(program), 0o755
                archive.addfile(member, io.BytesIO(program))
        engine.import_image_from_data(
            layer.getvalue(),
            repository=reference.removesuffix(":1"),
            tag="1",
            changes=[
                f'CMD ["{"/program" if program is not None else "/no-such-program"}"]',
                f"LABEL version={version}",
            ],
        )
        credentials = {"username": USERNAME, "password": PASSWORD}
        lines: Any = engine.push(reference, stream=True, decode=True, auth_config=credentials)
        errors = [line["error"] for line in lines if "error" in line]
        engine.remove_image(reference)
        assert not errors, errors
        return reference
