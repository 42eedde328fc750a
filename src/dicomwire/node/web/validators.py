"""Header fields by which a client need not fetch again what it has (RFC 9110 Section 13).

An object under its UIDs may be replaced or deleted, and a user may lose the right to see it: so a
client asks each time, and is told with 304 that its copy is still right.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from starlette.requests import Request
from starlette.responses import Response

from dicomwire import __version__
from dicomwire.node.web.found import Instance

_tags_in = re.compile(r'(?:W/)?("[^"]*")').findall


def validators(found: Instance, *how: str) -> dict[str, str]:
    """Return the header fields for a representation of an instance.

    Parameters
    ----------
    *how : str
        What decides about the representation, besides the instance: its media type, parameters.
    """
    text = "\n".join((str(found.id), found.digest, __version__, *how))
    fields = {
        "ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
    }
    received = _received(found)
    if received is not None:
        fields["Last-Modified"] = format_datetime(received, usegmt=True)
    return fields


def not_modified(request: Request, fields: dict[str, str]) -> Response | None:
    """Return the response 304 if the client has the representation; None if not."""
    wanted = request.headers.get("if-none-match")
    if wanted is not None:
        is_same = wanted.strip() == "*" or fields["ETag"] in _tags_in(wanted)
    else:
        is_same = _is_older(fields.get("Last-Modified"), request.headers.get("if-modified-since"))
    return Response(status_code=304, headers=fields) if is_same else None


def _received(found: Instance) -> datetime | None:
    try:
        received = datetime.fromisoformat(found.received)
    except ValueError:
        return None
    return received.replace(tzinfo=UTC) if received.tzinfo is None else received.astimezone(UTC)


def _is_older(modified: str | None, since: str | None) -> bool:
    if modified is None or since is None:
        return False
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):  # no date, or one without a time zone
        return False
