"""Posts a notice to a URL, signed so that the receiver knows who has sent it, and when."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path

from dicomwire import __version__

_TIMEOUT = 15.0
"""Seconds for each step: connecting, sending, waiting for the answer."""
TIMESTAMP = "Dicomwire-Timestamp"
SIGNATURE = "Dicomwire-Signature"
DELIVERY = "Dicomwire-Delivery"
"""The headers of a post: when it was sent (seconds since 1970), the signature, and an id that is
the same when it is repeated."""


class WebhookFailed(Exception):
    """A post failed, or was not answered with success; the text says why, without the URL."""


def post(
    url: str,
    secret_file: str,
    delivery: str,
    body: bytes,
    clock: Callable[[], float] = time.time,
) -> None:
    """Post a notice.

    Raises
    ------
    WebhookFailed
    """
    import httpx  # of the extra webclient

    timestamp = str(int(clock()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"dicomwire/{__version__}",
        DELIVERY: delivery,
        TIMESTAMP: timestamp,
    }
    if secret_file:
        headers[SIGNATURE] = signature(secret_in(secret_file), timestamp, body)
    try:
        # The body of the answer is not read.
        with httpx.stream("POST", url, content=body, headers=headers, timeout=_TIMEOUT) as answer:
            code = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WebhookFailed(f"it cannot be posted: {type(error).__name__}") from None
    if not 200 <= code < 300:
        raise WebhookFailed(f"the post is answered with {code}")


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature of a post: HMAC-SHA256 of the timestamp, a period and the body."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


def secret_in(path: str) -> bytes:
    """Return the secret in the first line of a file; WebhookFailed if there is none."""
    try:
        with Path(path).open("rb") as file:
            secret = file.readline().strip()
    except OSError as error:
        raise WebhookFailed(f"the secret cannot be read: {error.strerror}") from None
    if not secret:
        raise WebhookFailed("the file of the secret is empty")
    return secret
