"""An OpenAI-compatible stand-in: it answers with the words it was sent. Standard library only.

    GET  /health                 200 when ready
    GET  /v1/models              the one model there is
    POST /v1/chat/completions    plain, or as server-sent events with {"stream": true}

Listens on $PORT (8000 when unset). Settings: ECHO_START_S, seconds that the "model" takes to load;
ECHO_TOKEN_S, seconds between two streamed tokens (0.02).
"""

import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "echo-1"
TOKEN_S = float(os.environ.get("ECHO_TOKEN_S", "0.02"))


def answer_to(request: dict[str, Any]) -> str:
    """What the stand-in says to a chat request.

    Raises:
        ValueError: the request holds no user message; the text says what to send.
    """
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' must be a list with at least one message")
    said = [m.get("content") for m in messages if isinstance(m, dict) and m.get("role") == "user"]
    if not said or not isinstance(said[-1], str):
        raise ValueError("'messages' must hold a message of role 'user' with a text")
    return f"You said: {said[-1]}"


def completion(request: dict[str, Any], text: str) -> dict[str, Any]:
    """A `chat.completion` object with this text."""
    prompt = sum(len(str(m.get("content", "")).split()) for m in request["messages"])
    words = len(text.split())
    return {
        "id": f"chatcmpl-{time.monotonic_ns():x}",
        "object": "chat.completion",
        "created": int(time.time()),  # noqa: TID251 - the protocol wants it, and this is no service
        "model": request.get("model", MODEL),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": words,
            "total_tokens": prompt + words,
        },
    }


class Handler(BaseHTTPRequestHandler):
    """One connection; keeps it alive between requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the headers' acknowledgement

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send_json(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self.send_json(
                200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0}]}
            )
        else:
            self.send_error_json(404, f"no such path: {self.path}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != "/v1/chat/completions":
            self.send_error_json(404, f"no such path: {self.path}")
            return
        try:
            request = json.loads(body)
            text = answer_to(request if isinstance(request, dict) else {})
        except ValueError as error:
            self.send_error_json(400, str(error))
            return
        if request.get("stream"):
            self.stream(completion(request, text), text)
        else:
            self.send_json(200, completion(request, text))

    def stream(self, whole: dict[str, Any], text: str) -> None:
        """Send the text word by word, as OpenAI's server-sent events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunk = {key: whole[key] for key in ("id", "created", "model")}
        chunk["object"] = "chat.completion.chunk"
        for number, word in enumerate(text.split(" ")):
            delta = {"role": "assistant"} if number == 0 else {}
            delta["content"] = word if number == 0 else f" {word}"
            self.send_event(
                chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            )
            time.sleep(TOKEN_S)
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.send_event(chunk | {"choices": [end]})
        self.send_chunk(b"data: [DONE]\n\n")
        self.send_chunk(b"")

    def send_event(self, event: dict[str, Any]) -> None:
        """One server-sent event."""
        self.send_chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def send_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; an empty one ends it."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def send_json(self, status: int, document: dict[str, Any]) -> None:
        """A whole JSON answer."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_error_json(self, status: int, message: str) -> None:
        """An error as OpenAI's clients expect it."""
        self.send_json(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        print(f"{self.command} {self.path} {format % args}", flush=True)


class Server(ThreadingHTTPServer):
    """A thread per connection; does not wait for idle ones when it ends."""

    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for this host's name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


def main() -> None:
    """Load the "model", then serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(float(os.environ.get("ECHO_START_S", "0")))
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Handler)  # noqa: S104 - in a container
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
