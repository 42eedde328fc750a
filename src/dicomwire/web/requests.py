"""The requests of DICOMweb (PS3.18 Chapter 10), and when one is repeated. Nothing is sent here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from pydicom.dataset import Dataset

JSON = "application/dicom+json"
ANY_SYNTAX = "*"
"""The transfer syntax in which the server has the object."""

Level = Literal["studies", "series", "instances"]
Keys = Mapping[str, Any] | Dataset
"""The elements of a query: values by keyword or tag, or a dataset as for C-FIND."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, without the address of the server.

    Attributes
    ----------
    path : str
        Below the root of the server's DICOMweb.
    body : callable, optional
        Returns the pieces of the body, from its beginning each time.
    length : int or None
        The number of bytes of the body; None if it is not known.
    is_repeatable : bool
        Whether the same request may be sent again after the server may have seen it.
    has_stream : bool
        Whether the body can be made only once, since a program supplies a part of it.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Iterator[bytes]] | None = None
    length: int | None = None
    is_repeatable: bool = True
    has_stream: bool = False


def resource(study: str = "", series: str = "", instance: str = "", *more: str) -> str:
    """Return the path of a study, a series or an instance, or of something that it has.

    Raises
    ------
    ValueError
        If a UID has other characters than digits and dots, or the one above it is missing.
    """
    path = ""
    uids = {"studies": study, "series": series, "instances": instance}
    if (series and not study) or (instance and not series):
        raise ValueError("a series needs its study, and an instance its series")
    for name, uid in uids.items():
        if uid:
            path += f"/{name}/{_checked(uid)}"
    return path + "".join(f"/{each}" for each in more)


_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch


def _checked(uid: str) -> str:
    if not _is_uid(str(uid)):
        raise ValueError(f"not a UID: {uid!r}")
    return str(uid)


def search(
    level: Level,
    keys: Keys | None,
    study: str,
    series: str,
    include: Iterable[str],
    fuzzy: bool,
    limit: int | None,
    offset: int,
) -> Request:
    """Return a QIDO-RS request (PS3.18 Section 10.6)."""
    if level not in ("studies", "series", "instances"):
        raise ValueError(f"there is no level {level!r}: give studies, series or instances")
    query = [(name, value) for name, value in _parameters(keys or {}) if value]
    query += [("includefield", name) for name in include]
    # A key without a value is returned, as in C-FIND.
    query += [("includefield", name) for name, value in _parameters(keys or {}) if not value]
    if fuzzy:
        query.append(("fuzzymatching", "true"))
    if limit is not None:
        query.append(("limit", str(limit)))
    if offset:
        query.append(("offset", str(offset)))
    return Request("GET", f"{resource(study, series)}/{level}", query, {"Accept": JSON})


def _parameters(keys: Keys, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and value of each key."""
    if not isinstance(keys, Dataset):
        for name, value in keys.items():
            yield prefix + name, _text(value)
        return
    for element in keys:
        name = prefix + (element.keyword or f"{element.tag:08X}")
        if element.keyword in ("QueryRetrieveLevel", "SpecificCharacterSet"):
            continue
        if element.VR == "SQ":
            items = list(element.value or [])
            if not items:
                yield name, ""
            for item in items:
                yield from _parameters(item, f"{name}.")
        else:
            yield name, _text(element.value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)


def multipart_accept(kind: str, syntaxes: str | Iterable[str]) -> str:
    """Return an Accept field for parts of a media type in one of several transfer syntaxes."""
    wanted = [syntaxes] if isinstance(syntaxes, str) else list(syntaxes)
    return ", ".join(
        f'multipart/related; type="{kind}"' + (f"; transfer-syntax={each}" if each else "")
        for each in wanted
    )


def retrieve(study: str, series: str, instance: str, syntaxes: str | Iterable[str]) -> Request:
    """Return a WADO-RS request for objects (PS3.18 Section 10.4)."""
    accept = multipart_accept("application/dicom", syntaxes)
    return Request("GET", _some(study, series, instance), headers={"Accept": accept})


def metadata(study: str, series: str, instance: str) -> Request:
    """Return a request for the metadata of objects."""
    path = f"{_some(study, series, instance)}/metadata"
    return Request("GET", path, headers={"Accept": JSON})


def frames(
    study: str,
    series: str,
    instance: str,
    numbers: Iterable[int],
    kind: str,
    syntaxes: str | Iterable[str],
) -> Request:
    """Return a request for frames."""
    listed = ",".join(str(int(number)) for number in numbers)
    path = f"{_some(study, series, instance)}/frames/{listed}"
    return Request("GET", path, headers={"Accept": multipart_accept(kind, syntaxes)})


def rendered(
    study: str,
    series: str,
    instance: str,
    frame: int | None,
    kind: str,
    name: str,
    query: Mapping[str, str] | None,
) -> Request:
    """Return a request for an image; `name` is "rendered" or "thumbnail"."""
    more = [] if frame is None else ["frames", str(int(frame))]
    path = resource(study, series, instance, *more, name)
    return Request("GET", path, list((query or {}).items()), {"Accept": kind})


def delete(study: str, series: str, instance: str) -> Request:
    """Return a request to delete objects.

    It is not repeated: if the first one has succeeded, the second one would fail.
    """
    return Request("DELETE", _some(study, series, instance), is_repeatable=False)


def _some(study: str, series: str, instance: str) -> str:
    if not study:
        raise ValueError("the request needs a Study Instance UID")
    return resource(study, series, instance)


def target(root: str, request: Request) -> str:
    """Return the URL of a request."""
    query = "&".join(
        f"{quote(name, safe='.')}={quote(value, safe='*?,.^')}" for name, value in request.query
    )
    return f"{root}{request.path}" + (f"?{query}" if query else "")


# --- Repeating --------------------------------------------------------------------------------

_BUSY = (429, 503)
"""Statuses of requests that the server has not begun to serve."""
_PASSING = (*_BUSY, 502, 504)
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0


def delay_before_repeating(
    request: Request, attempt: int, status: int | None, headers: Mapping[str, str], is_sent: bool
) -> float | None:
    """Return the seconds after which a failed request is sent again; None if it is not.

    Parameters
    ----------
    attempt : int
        The number of this attempt, from 0.
    status : int or None
        That of the response; None if there was none.
    is_sent : bool
        Whether the server may have seen the request.
    """
    if status is None:
        may = request.is_repeatable or not is_sent
    else:
        passing = _PASSING if request.is_repeatable else _BUSY
        may = status in passing and not request.has_stream
    if not may:
        return None
    asked = headers.get("retry-after", "")
    delay = float(asked) if asked.isdecimal() and len(asked) < 6 else _FIRST_DELAY * 2**attempt
    return min(delay, _LONGEST_DELAY)
