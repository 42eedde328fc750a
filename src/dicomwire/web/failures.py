"""Why a request to a DICOMweb server failed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from dicomwire.errors import DicomwireError
from dicomwire.logs import escaped

MOST_OF_A_REASON = 64 * 1024
"""The most bytes of the body of a failure that are read to find the reason in it."""
_LONGEST_REASON = 300
_MEMBERS = ("detail", "Details", "Message", "message", "title", "error")
"""Members of JSON objects in which servers state a reason, the most telling first."""
_lacks_root = re.compile(r"/(studies|series|instances)(/|$)").match
_LACKS_ROOT = "; the URL may lack the root of the server's DICOMweb, such as /dicom-web"
_OF_OTHER_PAGES = (200, 404, 405)
"""Statuses with which a server answers that has its DICOMweb elsewhere: it has no such page, or one
that is not DICOMweb."""


class WebFailure(DicomwireError):
    """A request failed.

    Attributes
    ----------
    status : int or None
        The status of the response; None if there was none.
    reason : str
        What the server said about it, or what happened to the connection.
    url : str
        The resource, without its query.
    is_unreachable : bool
        Whether there was no connection, so that the server has not seen the request.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, url: str, is_unreachable: bool = False
    ) -> None:
        code = "" if status is None else f"{status} {_phrase(status)}: "
        is_elsewhere = status in _OF_OTHER_PAGES and _lacks_root(urlsplit(url).path)
        advice = _LACKS_ROOT if is_elsewhere else ""
        super().__init__(f"{code}{escaped(reason)}{advice} ({escaped(url)})")
        self.status = status
        self.reason = reason
        self.url = url
        self.is_unreachable = is_unreachable


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def reason_in(headers: Mapping[str, str], body: bytes) -> str:
    """Return the reason for a failure that the response states, in one line."""
    text = body.decode("utf-8", "replace").strip()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("json"):
        text = _member(text) or text
    elif kind != "text/plain":
        text = ""  # a page for people
    text = text or headers.get("warning", "")
    line = " ".join(text.split())
    return line[:_LONGEST_REASON] or "the server gave no reason"


def _member(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    return next((found[name] for name in _MEMBERS if isinstance(found.get(name), str)), "")
