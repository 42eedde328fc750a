"""One line in the log for each request, and the header fields that protect each response."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

from dicomwire.logs import escaped
from dicomwire.node.users import NOBODY

LOGGER = logging.getLogger("dicomwire.node")

_LONGEST_UID = 64
_MOST_STUDIES = 20
"""The most studies that a line names; a request may delete or send thousands."""
_PROTECTION = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""The header fields of each response, unless its endpoint has set them: no page of another site
shows ours in a frame, or loads an image of a patient, and no cache keeps one."""
UNKNOWN = ""
"""The path of requests that no endpoint answers."""
_QUIET = frozenset({"/health", "/ready", "/metrics"})
"""The paths that programs ask again and again; they are logged at DEBUG."""

Observe = Callable[[str, str, int, float], None]


class LoggedRequest:
    """A request and its response, for the log.

    Parameters
    ----------
    scope : Scope
    send : callable
        Sends the messages of the response.
    observe : callable
        Called at the end with method, path of the endpoint, status and seconds.

    Attributes
    ----------
    has_begun : bool
        Whether the response has begun.
    """

    def __init__(self, scope: Scope, send: Send, observe: Observe) -> None:
        self._scope = scope
        self._send = send
        self._observe = observe
        self._begin = time.monotonic()
        self._status = 0
        self._bytes = 0
        self._is_complete = False

    @property
    def has_begun(self) -> bool:
        return self._status > 0

    async def send(self, message: Message) -> None:
        """Send a message of the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in _PROTECTION.items():
                headers.setdefault(name, value)
            message = {**message, "headers": headers.raw}
        else:
            self._bytes += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        await self._send(message)

    def log(self) -> None:
        """Log the request when it has ended: no query, which may have names of patients."""
        seconds = time.monotonic() - self._begin
        state: dict[str, Any] = self._scope["state"]
        path = state.get("endpoint", UNKNOWN)
        method = self._scope["method"] if path else ""
        self._observe(method, path, self._status, seconds)
        level = logging.DEBUG if path in _QUIET else logging.INFO
        if not LOGGER.isEnabledFor(level):
            return
        user, address = state.get("user", NOBODY).name, state.get("address", "")
        studies = self._studies()
        LOGGER.log(
            level,
            "HTTP %s %s from %s%s: %s, %d bytes in %.3f s%s%s",
            method or "request",
            path or "of an unknown path",
            f"{escaped(user)}@" if user else "",
            escaped(address),
            self._status or "no response",
            self._bytes,
            seconds,
            "" if self._is_complete else ", broken off",
            f"; study {', '.join(studies)}" if studies else "",
            extra={
                "dicom": {
                    "service": f"HTTP {method}",
                    "path": path,
                    "user": user,
                    "address": address,
                    "status": self._status,
                    "bytes": self._bytes,
                    "seconds": round(seconds, 6),
                    "studies": studies,
                }
            },
        )

    def _studies(self) -> list[str]:
        """Return the studies of the request: those that its endpoint has noted, or of its path."""
        noted = self._scope["state"].get("studies")
        path = self._scope.get("path_params", {}).get("study")
        studies = noted if noted is not None else [path] if path else []
        shown = [escaped(str(uid)[:_LONGEST_UID]) for uid in studies[:_MOST_STUDIES]]
        return [*shown, "…"] if len(studies) > _MOST_STUDIES else shown
