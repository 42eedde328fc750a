"""Which representation a client accepts: the header field Accept and its query parameter.

RFC 9110 Section 12.5.1; PS3.18 Sections 8.3.3.1, 8.7.3 and 8.7.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from starlette.requests import Request

from dicomwire.node.web.errors import Problem

MULTIPART = "multipart/related"
ANY_SYNTAX = "*"
_MOST_RANGES = 256
"""The most media ranges in one header field; programs have a dozen at the most."""
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_type_at = re.compile(rf"[ \t]*({_TOKEN})/({_TOKEN})[ \t]*").match
# Without quotes, too, a value may have a "/": many programs write type=application/dicom.
_parameter_at = re.compile(
    rf';[ \t]*(?:({_TOKEN})=("(?:[^"\\]|\\.)*"|[^;,\s"]*))?[ \t]*', re.DOTALL
).match
_is_weight = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?").fullmatch


class InvalidAccept(ValueError):
    """A value is not a list of media ranges; the text says where."""


class Form(NamedTuple):
    """A representation that the node can make.

    Attributes
    ----------
    transfer_syntax : str
        Its UID; "" for a rendered media type.
    is_usual : bool
        Whether this is the transfer syntax for its media type if a client states none.
    is_default : bool
        Whether this is the representation for a client that accepts anything.
    kinds : tuple of bool
        For each way to send it, whether that is as several parts; the first one is for a client
        that accepts both.
    """

    media_type: str
    transfer_syntax: str = ""
    is_usual: bool = True
    is_default: bool = False
    kinds: tuple[bool, ...] = (True, False)


class Chosen(NamedTuple):
    """The representation to send."""

    form: Form
    is_multipart: bool


class Range(NamedTuple):
    """A media range of a client."""

    media_type: str
    """In lower case; of the parts, if it is multipart/related."""
    transfer_syntax: str
    """As it was stated, "*" for any; "" if none was stated."""
    is_multipart: bool
    """Whether it is multipart/related."""
    weight: float

    @property
    def precision(self) -> int:
        """The more precise range decides about a representation that fits several."""
        if self.media_type == "*/*":
            return 0
        if self.media_type.endswith("/*"):
            return 1
        return 2 + bool(self.transfer_syntax) + (self.transfer_syntax not in ("", ANY_SYNTAX))

    def fits(self, form: Form, is_multipart: bool) -> bool:
        """Return whether a representation is in this range."""
        if self.media_type == "*/*" and self.transfer_syntax in ("", ANY_SYNTAX):
            return form.is_default and (is_multipart or not self.is_multipart)
        if self.is_multipart != is_multipart:
            return False
        if self.media_type not in ("*/*", form.media_type, f"{form.media_type.split('/')[0]}/*"):
            return False
        if self.transfer_syntax == ANY_SYNTAX or not form.transfer_syntax:
            return True
        if not self.transfer_syntax:
            return form.is_usual
        return self.transfer_syntax == form.transfer_syntax


def accepted(text: str) -> list[Range]:
    """Return the media ranges in a value of Accept; InvalidAccept if it is not a list of them.

    Parameters that are not known are ignored.
    """
    ranges = list(_ranges(text))
    if len(ranges) > _MOST_RANGES:
        raise InvalidAccept(f"there are more than {_MOST_RANGES} media types")
    return ranges or [Range("*/*", "", False, 1.0)]


def _ranges(text: str) -> Iterator[Range]:
    position = 0
    while position < len(text):
        if text[position] in ", \t":  # a list may have empty elements
            position += 1
            continue
        found = _type_at(text, position)
        if found is None:
            raise InvalidAccept(f"character {position + 1}: not a media type")
        media_type = f"{found[1]}/{found[2]}".lower()
        parameters: dict[str, str] = {}
        position = found.end()
        while position < len(text) and text[position] == ";":
            parameter = _parameter_at(text, position)
            if parameter is None or parameter.end() == position:
                raise InvalidAccept(f"character {position + 1}: not a parameter")
            if parameter[1]:
                parameters.setdefault(parameter[1].lower(), _unquoted(parameter[2]))
            position = parameter.end()
        if position < len(text) and text[position] != ",":
            raise InvalidAccept(f"character {position + 1}: not a parameter")
        yield _range(media_type, parameters)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)


def _range(media_type: str, parameters: dict[str, str]) -> Range:
    weight = parameters.get("q", "1")
    if not _is_weight(weight):
        raise InvalidAccept("a weight (q) is not a number from 0 to 1")
    is_multipart = media_type == MULTIPART
    if is_multipart:
        media_type = parameters.get("type", "*/*").lower()
    return Range(media_type, parameters.get("transfer-syntax", ""), is_multipart, float(weight))


def accepted_by(request: Request) -> list[Range]:
    """Return the media ranges of a request; Problem if they are not valid.

    The query parameter `accept` is used in place of the header field (PS3.18 Section 8.3.3.1).
    """
    text = request.query_params.get("accept")
    if text is None:
        text = ", ".join(request.headers.getlist("accept"))
    try:
        return accepted(text)
    except InvalidAccept as error:
        raise Problem(400, f"accept is not valid: {error}") from None


def choose(ranges: Sequence[Range], forms: Iterable[Form]) -> Chosen | None:
    """Return the representation that a client prefers; None if it accepts none of them.

    Parameters
    ----------
    forms : iterable of Form
        What the node can make, the easiest first: that decides between equal weights.
    """
    best, most = None, 0.0
    for form in forms:
        for is_multipart in form.kinds:
            fitting = [each for each in ranges if each.fits(form, is_multipart)]
            if fitting:
                weight = max(fitting, key=lambda each: (each.precision, each.weight)).weight
                if weight > most:
                    best, most = Chosen(form, is_multipart), weight
    return best
