"""A worker that counts how many requests it serves at once. Standard library only.

GET /health → 200. Anything else waits `ms` milliseconds (query), and until the file `until` (query)
is there, and answers with what it saw:
{"worker", "in_flight", "most_in_flight", "path"}.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

lock = threading.Lock()
in_flight = 0
most_in_flight = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        global in_flight, most_in_flight
        url = urlsplit(self.path)
        if url.path == "/health":
            self.answer({"ok": True})
            return
        with lock:
            in_flight += 1
            most_in_flight = max(most_in_flight, in_flight)
            seen = in_flight
        asked = parse_qs(url.query)
        try:
            time.sleep(float(asked.get("ms", ["0"])[0]) / 1000)
            while "until" in asked and not os.path.exists(asked["until"][0]):  # noqa: PTH110
                time.sleep(0.02)
        finally:
            with lock:
                in_flight -= 1
        self.answer(
            {
                "worker": os.environ.get("PENSTOCK_WORKER_ID"),
                "in_flight": seen,
                "most_in_flight": most_in_flight,
                "path": self.path,
            }
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def answer(self, document: dict[str, object]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
