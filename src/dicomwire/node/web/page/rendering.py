"""HTML responses: the templates, the static files, and the header fields that protect both."""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from dicomwire.node.web.errors import Problem
from dicomwire.node.web.page import people

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""The types of the static files."""
PROTECTION = {
    # No script, style or image of another host, and none within the HTML.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""The header fields of every page."""


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": people.person_name,
        "day": people.day,
        "clock": people.clock,
        "age": people.age,
        "size": people.size,
        "count": people.count,
        "iso": _iso,
        "moment": people.moment,
    }
    environment.globals["static"] = "/static/{}".format
    return environment


def page(template: str, status: int = 200, **facts: Any) -> Response:
    """Return a page made from a template."""
    text = _templates().get_template(template).render(facts)
    # It has patient data: nothing between us and the browser, nor the browser, keeps it.
    return HTMLResponse(text, status, {**PROTECTION, "Cache-Control": "no-store"})


def static_file(name: str, known: str) -> Response:
    """Return one of the files of `static`; 304 if the browser has it, 404 if there is none.

    Parameters
    ----------
    known : str
        The field If-None-Match of the request.
    """
    if name not in _files():
        raise Problem(404, "there is no such file")
    data, tag, media_type = _files()[name]
    # The address of a file says no version: a browser asks each time whether it has changed.
    fields = {**PROTECTION, "Cache-Control": "no-cache", "ETag": tag}
    if tag in known:
        return Response(None, 304, fields)
    return Response(data, headers=fields, media_type=media_type)


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Return content, tag and type of each static file, by name."""
    found = {}
    for path in _STATIC.iterdir():
        if path.suffix in _TYPES:
            data = path.read_bytes()
            found[path.name] = data, f'"{sha256(data).hexdigest()[:32]}"', _TYPES[path.suffix]
    return found


def _iso(value: str) -> str:
    """Return a DA as a field of a form needs it: YYYY-MM-DD."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if re.fullmatch(r"\d{8}", value) else ""
