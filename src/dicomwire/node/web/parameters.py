"""The query parameters of a search (PS3.18 Section 8.3.4).

`matching` has the rules: the parameters become an identifier, as a C-FIND request has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomwire.node.web.errors import Problem

_MOST = 2**31
"""The highest limit or offset: more results than an archive has."""
_DEEPEST = 16
_is_tag = re.compile(r"[0-9A-Fa-f]{8}").fullmatch
_is_count = re.compile(r"[0-9]{1,12}").fullmatch
_SINGLE_VRS = frozenset({"LT", "ST", "UR", "UT"})
_FLAGS = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_OTHERS = frozenset({"accept", "charset"})
"""Parameters of all requests (PS3.18 Section 8.3.3)."""

Path = tuple[BaseTag, ...]
"""The tags of sequences, and of an attribute in their items."""


class Parameters:
    """The parameters of a search.

    Attributes
    ----------
    keys : dict
        The values to match, by path; empty for universal matching.
    included : list of BaseTag
        The attributes to return, of the dataset itself.
    includes_all, fuzzy : bool
    limit : int or None
    offset : int

    Raises
    ------
    Problem
        400, when a parameter is unknown or invalid.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.keys: dict[Path, str] = {}
        self.included: list[BaseTag] = []
        self.includes_all = self.fuzzy = False
        self.limit: int | None = None
        self.offset = 0
        for name, value in pairs:
            if name in _FLAGS:
                # The other two kinds of matching are always done, as for C-FIND.
                is_set = _flag(name, value)
                self.fuzzy |= is_set and name == "fuzzymatching"
            elif name == "limit":
                self.limit = _count(name, value)
            elif name == "offset":
                self.offset = _count(name, value)
            elif name == "includefield":
                self._include(value)
            elif name not in _OTHERS:
                self.add(path_of(name), value)

    def add(self, path: Path, value: str) -> None:
        """Add a key."""
        if path in self.keys:
            raise Problem(400, f"{name_of(path)} occurs twice")
        self.keys[path] = value

    def _include(self, value: str) -> None:
        for name in filter(None, map(str.strip, value.split(","))):
            if name.lower() == "all":
                self.includes_all = True
            else:
                self.included.append(path_of(name)[0])

    def identifier(self, level: str) -> Dataset:
        """Return the identifier of a C-FIND request for the same."""
        identifier = Dataset()
        for path, value in self.keys.items():
            *above, last = path
            inner = identifier
            for sequence in above:
                if sequence not in inner:
                    inner.add(DataElement(sequence, "SQ", Sequence([Dataset()])))
                inner = inner[sequence].value[0]
            inner.add(_element(last, value, path))
        identifier.QueryRetrieveLevel = level  # whatever a key says
        return identifier


def path_of(name: str) -> Path:
    """Return the path for keywords or tags with dots between; 400 if it is none."""
    names = name.split(".")
    tags = [int(each, 16) if _is_tag(each) else tag_for_keyword(each) for each in names]
    known = [BaseTag(tag) for tag in tags if tag is not None]
    if len(known) != len(names) or len(names) > _DEEPEST:
        raise Problem(400, f"{name[:64]!r} is neither a parameter nor a DICOM attribute")
    if any(_vr_of(tag) != "SQ" for tag in known[:-1]):
        raise Problem(400, f"{name[:64]!r} is no path of sequences to an attribute")
    return tuple(known)


def name_of(path: Path) -> str:
    """Return a path in keywords."""
    return ".".join(keyword_for_tag(tag) or f"{int(tag):08X}" for tag in path)


def _element(tag: BaseTag, value: str, path: Path) -> DataElement:
    vr = _vr_of(tag)
    if vr == "SQ":
        if value:
            raise Problem(400, f"{name_of(path)} is a sequence: name an attribute in its items")
        return DataElement(tag, vr, Sequence([]))
    if vr in _SINGLE_VRS:
        values = [value]
    else:
        separated = value.replace(",", "\\") if vr == "UI" else value
        values = [each.strip() for each in separated.split("\\")]
    found = [each for each in values if each]
    return DataElement(tag, vr, found, already_converted=True)


def _vr_of(tag: BaseTag) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _flag(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise Problem(400, f"{name} is neither true nor false")
    return value == "true"


def _count(name: str, value: str) -> int:
    if not _is_count(value) or int(value) > _MOST:
        raise Problem(400, f"{name} is not a number from 0 to {_MOST}")
    return int(value)
