"""A worker that computes on its GPU through CUDA's driver library. Standard library only.

GET /health → 200. GET /product?n=64 multiplies two n by n matrices of small whole numbers on the
first visible GPU: {"gpus": UUIDs of all visible GPUs as CUDA tells them, "row": the product's last
row, "free_bytes", "total_bytes": of that GPU, "worker"}. It holds `BALLAST_BYTES` of GPU memory
from its start to its end. GET /fault writes to no address, which the driver tells as XID 31 (a
page fault of an application), and ends.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TILE = 16


class CudaError(Exception):
    """A call of the driver library failed."""


class Cuda:
    """One context on the first visible GPU, with the kernel loaded."""

    def __init__(self, ptx: Path) -> None:
        self._lib = ctypes.CDLL(os.environ.get("LIBCUDA", "libcuda.so.1"))
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        self.gpus = [self._uuid(n) for n in range(count.value)]
        if not self.gpus:
            raise CudaError("no GPU is visible")
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.use()
        module = ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), ptx.read_bytes() + b"\0")
        self._kernel = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(self._kernel), module, b"product")

    def _call(self, name: str, *args: Any) -> None:
        code = getattr(self._lib, name)(*args)
        if code:
            text = ctypes.c_char_p()
            self._lib.cuGetErrorName(code, ctypes.byref(text))
            raise CudaError(f"{name}: {text.value.decode() if text.value else code}")

    def _uuid(self, ordinal: int) -> str:
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        self._call("cuDeviceGetUuid_v2", ctypes.byref(raw), device)
        h = bytes(raw).hex()
        return f"GPU-{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

    def use(self) -> None:
        """Make the context that of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def hold(self, n_bytes: int) -> None:
        """Take so much GPU memory until the process ends."""
        if n_bytes:
            ballast = ctypes.c_uint64()
            self._call("cuMemAlloc_v2", ctypes.byref(ballast), ctypes.c_size_t(n_bytes))

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the GPU."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def last_row(self, n: int) -> list[float]:
        """Last row of the product of a[i][j] = (i + j) % 7 and b[i][j] = (i * j) % 5."""
        floats = ctypes.c_float * (n * n)
        a = floats(*((i + j) % 7 for i in range(n) for j in range(n)))
        b = floats(*((i * j) % 5 for i in range(n) for j in range(n)))
        c = floats()
        size = ctypes.c_size_t(ctypes.sizeof(floats))
        places = [ctypes.c_uint64() for _ in range(3)]
        try:
            for place in places:
                self._call("cuMemAlloc_v2", ctypes.byref(place), size)
            self._call("cuMemcpyHtoD_v2", places[0], a, size)
            self._call("cuMemcpyHtoD_v2", places[1], b, size)
            self._launch(places, n)
            self._call("cuMemcpyDtoH_v2", c, places[2], size)
        finally:
            for place in places:
                if place.value:
                    self._call("cuMemFree_v2", place)
        return list(c[(n - 1) * n :])

    def fault(self) -> None:
        """Have a kernel write to no address.

        Raises:
            CudaError: always.
        """
        self._launch([ctypes.c_uint64() for _ in range(3)], TILE)
        raise CudaError("a write to no address went well")

    def _launch(self, places: list[ctypes.c_uint64], n: int) -> None:
        size = ctypes.c_uint(n)
        pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(x) for x in (*places, size)))
        blocks = (n + TILE - 1) // TILE
        # fmt: off
        self._call(
            "cuLaunchKernel", self._kernel, blocks, blocks, 1, TILE, TILE, 1, 0, None, pointers, None
        )
        # fmt: on
        self._call("cuCtxSynchronize")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    cuda: Cuda
    lock = threading.Lock()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/health":
            self.answer({"ok": True})
            return
        with self.lock:
            self.cuda.use()
            if url.path == "/fault":
                self.fault()
                return
            n = int(parse_qs(url.query).get("n", ["64"])[0])
            row = self.cuda.last_row(n)
            free, total = self.cuda.memory()
        self.answer(
            {
                "gpus": self.cuda.gpus,
                "row": row,
                "free_bytes": free,
                "total_bytes": total,
                "worker": os.environ.get("PENSTOCK_WORKER_ID"),
            }
        )

    def fault(self) -> None:
        try:
            self.cuda.fault()
        except CudaError as error:
            self.answer({"error": str(error)})
            os.kill(os.getpid(), signal.SIGTERM)

    def answer(self, document: dict[str, object]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, *_: object) -> None:
        pass


def main() -> None:
    Handler.cuda = Cuda(Path(__file__).with_name("product.ptx"))
    Handler.cuda.hold(int(os.environ.get("BALLAST_BYTES", "0")))
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serves with {Handler.cuda.gpus}", flush=True)
    server.serve_forever()
    sys.exit(0)


if __name__ == "__main__":
    main()
