"""Receives the notices of an archive by HTTP, and checks who has sent them, and when."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

LONGEST = 1_000_000  # bytes of a notice
TOLERANCE = 300  # seconds between the sender's clock and ours


def is_genuine(secret: bytes, timestamp: str, signature: str, body: bytes) -> bool:
    """Return whether the owner of the secret has sent a notice, not long ago."""
    signed = timestamp.encode() + b"." + body
    expected = "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return False
    return abs(time.time() - int(timestamp)) < TOLERANCE


def handler(secret: bytes, done: Callable[[Any], None]) -> type[BaseHTTPRequestHandler]:
    """Return a handler that calls `done` with each notice."""
    seen = set()  # a notice is repeated if our answer was lost

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(min(length, LONGEST))
            timestamp = self.headers.get("Dicomwire-Timestamp", "")
            signature = self.headers.get("Dicomwire-Signature", "")
            if is_genuine(secret, timestamp, signature, body):
                notice = json.loads(body)
                if notice["id"] not in seen:
                    seen.add(notice["id"])
                    done(notice)
                self.send_response(204)
            else:
                self.send_response(403)
            self.end_headers()

    return Handler


def serve(
    port: int = 8000, secret: bytes = b"secret", done: Callable[[Any], None] = print
) -> HTTPServer:
    return HTTPServer(("127.0.0.1", port), handler(secret, done))


if __name__ == "__main__":
    serve().serve_forever()
