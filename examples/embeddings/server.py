"""A real sentence-embedding model behind OpenAI's `/v1/embeddings`.

    GET  /health          200 once the weights are loaded
    POST /v1/embeddings   {"input": "text" | ["text", …], "encoding_format": "float" | "base64"}

Listens on $PORT (8000 when unset).
"""

import base64
import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from encoder import Encoder, model_folder

MODEL = "all-MiniLM-L6-v2"
MAX_TEXTS = 256

encoder = Encoder(model_folder())
# numpy lets threads run side by side, which only makes each request slower on a small machine.
one_at_a_time = threading.Lock()


def embed(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to an embeddings request.

    Raises:
        ValueError: the request cannot be answered; the text names the field.
    """
    texts = request.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError("'input' must be a text or a list of texts")
    if len(texts) > MAX_TEXTS:
        raise ValueError(f"'input' holds {len(texts)} texts; send at most {MAX_TEXTS}")
    encoding = request.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise ValueError("'encoding_format' must be 'float' or 'base64'")
    with one_at_a_time:
        vectors, tokens = encoder.encode(texts)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": vector.tolist()
            if encoding == "float"
            else base64.b64encode(vector.astype("<f4").tobytes()).decode(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": MODEL, "data": data, "usage": usage}


class Handler(BaseHTTPRequestHandler):
    """One connection; keeps it alive between requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the headers' acknowledgement

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send_json(200, {"status": "ok", "model": MODEL, "dimensions": encoder.dimensions})
        else:
            self.send_json(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != "/v1/embeddings":
            self.send_json(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        try:
            request = json.loads(body)
            answer = embed(request if isinstance(request, dict) else {})
        except ValueError as error:
            self.send_json(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
            return
        self.send_json(200, answer)

    def send_json(self, status: int, document: dict[str, Any]) -> None:
        """A whole JSON answer."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        print(f"{self.command} {self.path} {format % args}", flush=True)


class Server(ThreadingHTTPServer):
    """A thread per connection; does not wait for idle ones when it ends."""

    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for this host's name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Handler).serve_forever()  # noqa: S104 - in a container
