"""What a browser shows when a page cannot be shown; programs get a problem in JSON."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.configuration import Configuration
from dicomwire.node.web.endpoints import ROOT
from dicomwire.node.web.page.rendering import page

_FOR_PROGRAMS = (ROOT, "/api/", "/wado", "/static/", "/health", "/ready", "/metrics")
_TITLES = {
    403: "Your account does not allow this",
    404: "There is nothing here",
    429: "Too many attempts",
    503: "The archive cannot answer now",
}
_ADVICE = {
    403: "Ask who administers the archive for the right to do it.",
    404: "It may have been deleted, or the address is not complete.",
    429: "Wait a minute, and try again.",
    503: "Try again in a moment. If that does not help, look at the log of the archive.",
}


def for_person(request: Request, problem: Response, configuration: Configuration) -> Response:
    """Return the page for a problem if a person looks at it in a browser; otherwise itself."""
    is_shown = "text/html" in request.headers.get("accept", "")
    if not is_shown or request.url.path.startswith(_FOR_PROGRAMS):
        return problem
    status = problem.status_code
    told = json.loads(bytes(problem.body))
    title = _TITLES.get(status, told["title"])
    text = _ADVICE.get(status, told.get("detail", ""))
    common = {"archive": configuration.ae_title, "here": "", "may": set(), "user": ""}
    shown = page("message.html", status, **common, problems=[], title=title, text=text)
    retry = problem.headers.get("retry-after")
    if retry is not None:
        shown.headers["Retry-After"] = retry
    return shown
