"""A worker that writes down every request that reaches it. Standard library only.

`counting_worker.py FILE`: GET /health → 200. Anything else appends its path to FILE, and answers
{"worker", "path"}.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path != "/health":
            # One short write at the file's end: lines of several workers do not mix.
            with Path(sys.argv[1]).open("a") as file:
                file.write(f"{self.path}\n")
        told = {"worker": os.environ.get("PENSTOCK_WORKER_ID"), "path": self.path}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
