"""What a request for studies means, by its parameters and its user; of a page, and of the API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection
from starlette.requests import Request

from dicomwire.node.index.reader import IndexReader
from dicomwire.node.web.endpoints import Site, UserRight
from dicomwire.node.web.page.listing import DEFAULT_SORT, Visible, Wanted

_LONGEST = 200
"""The most characters of a parameter."""
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


def seen(request: Request, site: Site) -> Visible:
    """Return the index as the user sees it."""
    index: Visible = getattr(request.state, "index", None) or _Unrestricted(site.archive.index)
    return index


def rights_of(request: Request) -> set[UserRight]:
    """Return what the user may do."""
    user = getattr(request.state, "user", None)
    return set(UserRight) if user is None else set(user.rights)


class _Unrestricted(NamedTuple):
    """All of an index."""

    whole: IndexReader

    @property
    def visible(self) -> Sequence[ColumnElement[bool]]:
        return ()

    def reading(self) -> AbstractContextManager[Connection]:
        return self.whole.reading()


def _date(text: str) -> str:
    digits = text.replace("-", "")
    return digits if re.fullmatch("[0-9]{8}", digits) else ""
