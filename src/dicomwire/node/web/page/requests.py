"""What a request for studies means, by its parameters and its user; of a page, and of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import body_within
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.page.listing import DEFAULT_SORT, Visible, Wanted

_LONGEST = 200
"""The most characters of a parameter."""
_LONGEST_BODY = 2**20
"""In bytes: ten thousand UIDs are shorter."""
PARAMETERS = ("q", "from", "to", "modality", "sort")
"""The parameters that say which studies are wanted."""


def wanted_of(parameters: Mapping[str, str]) -> Wanted:
    """Return which studies are wanted; values that are none are left out."""
    text = {name: str(parameters.get(name, ""))[:_LONGEST] for name in PARAMETERS}
    return Wanted(
        words=text["q"],
        first=_date(text["from"]),
        last=_date(text["to"]),
        modality=text["modality"],
        sort=text["sort"] or DEFAULT_SORT,
    )


def number_of(parameters: Mapping[str, str], name: str, default: int) -> int:
    """Return a parameter that is a whole number."""
    text = parameters.get(name, "")
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else default


def seen(request: Request) -> Visible:
    """Return the index as the user sees it."""
    index: Visible = request.state.index
    return index


def rights_of(request: Request) -> set[UserRight]:
    """Return what the user may do."""
    return set(request.state.user.rights)


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request; Problem if it has none, or a long one."""
    data = await body_within(request, _LONGEST_BODY, "request")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "the body must be a JSON object")
    return body


def answer(facts: Mapping[str, Any]) -> Response:
    """Return a response of JSON."""
    return JSONResponse(facts, headers={"Cache-Control": "no-store"})


def is_list_of(kind: type, value: object) -> bool:
    """Return whether a value of JSON is a list of texts, or of numbers."""
    return isinstance(value, list) and all(type(each) is kind for each in value)


def _date(text: str) -> str:
    digits = text.replace("-", "")
    return digits if re.fullmatch("[0-9]{8}", digits) else ""
