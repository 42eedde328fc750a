"""The rules of attribute matching (PS3.4 C.2.2.2): which values a key of a query matches.

The `matches` method of a matcher is the rule. Its prefilter is an SQL condition that selects all
rows that match, and maybe more. No statement is executed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import or_

from dicomwire.node.index.dialects import is_one_of
from dicomwire.node.keys import VALUE_LIMIT
from dicomwire.node.names import plain_name, words_of
from dicomwire.node.patterns import WILDCARDS, FuzzyName, Name, Wildcard
from dicomwire.node.prefilters import equals
from dicomwire.node.ranges import (
    DateRange,
    MomentRange,
    TimeRange,
    ends_of,
    parse_date,
    parse_moment,
    parse_time,
)
from dicomwire.node.values import ByText, Column, Condition, Matcher, text_of

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
NUMBER_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
EMPTY = '""'
"""The key of empty value matching (PS3.4 C.2.2.2.7)."""

_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST_NUMBER = 32
_MOST_VALUES = 100
"""The most values of a key, except for lists of UIDs."""
_MOST_SELECTED = 100
"""The most UIDs in a prefilter, where each is a parameter of the statement. For a longer list there
is no prefilter, and the rule looks at all rows; but see `parts`."""
_MOST_IN_PART = 10_000
"""The most UIDs of one statement, in JSON: some 500 kB."""


@dataclass(frozen=True)
class Equal(ByText):
    """Case-sensitive single value matching of text (PS3.4 C.2.2.2.1)."""

    text: str

    def accepts(self, text: str) -> bool:
        return text == self.text

    def prefilter(self, column: Column) -> Condition | None:
        return equals(column, self.text)


@dataclass(frozen=True)
class Number(ByText):
    """Single value matching of numbers by value, whatever their notation."""

    number: Decimal

    def accepts(self, text: str) -> bool:
        return is_number(text) and Decimal(text) == self.number

    def prefilter(self, column: Column) -> Condition | None:
        return None


@dataclass(frozen=True)
class UIDs(ByText):
    """Single UID or list of UID matching (PS3.4 C.2.2.2.2)."""

    uids: frozenset[str]

    def accepts(self, text: str) -> bool:
        return text in self.uids

    def prefilter(self, column: Column) -> Condition | None:
        return column.in_(self.uids) if len(self.uids) <= _MOST_SELECTED else None

    def parts(self, column: Column) -> Iterator[Condition]:
        """Yield conditions on a column, each for a part of the list."""
        short = self.prefilter(column)
        if short is not None:
            yield short
            return
        uids = sorted(self.uids)
        for start in range(0, len(uids), _MOST_IN_PART):
            part = json.dumps(uids[start : start + _MOST_IN_PART])
            yield is_one_of(column, part)


@dataclass(frozen=True)
class Empty:
    """Empty value matching: the attribute has no value (PS3.4 C.2.2.2.7)."""

    def matches(self, values: Sequence[Any]) -> bool:
        return not any(map(text_of, values))

    def prefilter(self, column: Column) -> Condition | None:
        return column == ""


@dataclass(frozen=True)
class AnyOf:
    """Multiple value matching: any of several keys matches (PS3.4 C.2.2.2.8)."""

    matchers: tuple[Matcher, ...]

    def matches(self, values: Sequence[Any]) -> bool:
        return any(matcher.matches(values) for matcher in self.matchers)

    def prefilter(self, column: Column) -> Condition | None:
        conditions = [matcher.prefilter(column) for matcher in self.matchers]
        known = [condition for condition in conditions if condition is not None]
        return or_(*known) if len(known) == len(conditions) else None


# --- Sequences --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Items:
    """Sequence matching: one item matches all keys (PS3.4 C.2.2.2.6)."""

    keys: tuple[tuple[str, Matcher], ...]
    """Tags as in the DICOM JSON model, with the matcher of each."""

    def matches(self, values: Sequence[Any]) -> bool:
        return any(
            all(matcher.matches(item.get(tag, {}).get("Value", ())) for tag, matcher in self.keys)
            for item in values
            if isinstance(item, dict)
        )

    def prefilter(self, column: Column) -> Condition | None:
        return None


# --- From the values of a key -----------------------------------------------------------------


def matcher_for(vr: str, values: Sequence[str], fuzzy: bool = False) -> Matcher | None:
    """Return the matcher of a key with these values; None if it matches universally (C.2.2.2.3).

    Keys without a value, and keys one of whose values is "*", match universally.

    Parameters
    ----------
    fuzzy : bool, optional
        Whether fuzzy semantic matching of person names was negotiated.

    Raises
    ------
    ValueError
        When the VR does not allow a value, or the key is too long; the text says which.
    """
    wanted = list(dict.fromkeys(filter(None, (value.strip(" \0") for value in values))))
    is_long = len(wanted) > _MOST_VALUES or sum(map(len, wanted)) > VALUE_LIMIT
    if is_long and vr != "UI":
        raise ValueError("too long")
    # In the standard, "*" is universal for VRs of text only, but programs send it for any VR.
    if not wanted or not all(value.strip("*") for value in wanted):
        return None
    if vr == "UI":
        return _uids(wanted)
    make = _fuzzy_name if fuzzy and vr == "PN" else _MAKERS.get(vr, _text)
    matchers: list[Matcher] = []
    for value in wanted:
        matcher = Empty() if value == EMPTY else make(value, vr)
        if matcher is None:
            return None
        matchers.append(matcher)
    return matchers[0] if len(matchers) == 1 else AnyOf(tuple(matchers))


def _uids(values: list[str]) -> Matcher:
    if values == [EMPTY]:
        return Empty()
    if not all(map(_UID.fullmatch, values)):
        raise ValueError("not a UID")
    return UIDs(frozenset(values))


def _text(value: str, vr: str) -> Matcher:
    return Wildcard(value) if vr in WILDCARD_VRS and WILDCARDS.search(value) else Equal(value)


def _name(value: str, vr: str) -> Matcher | None:
    return Name(value) if plain_name(value).strip("*^=") else None


def _fuzzy_name(value: str, vr: str) -> Matcher | None:
    return FuzzyName(value) if any(word.strip("*") for word in words_of(value)) else None


def is_number(text: str) -> bool:
    """Return whether a text is a number, as an attribute has it."""
    return len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) is not None


def _number(value: str, vr: str) -> Matcher:
    if not is_number(value):
        raise ValueError("not a number")
    return Number(Decimal(value))


_Value = TypeVar("_Value")


def _range(
    value: str, parse: Callable[[str], _Value | None], noun: str
) -> tuple[_Value | None, _Value | None]:
    ends = ends_of(value, parse)
    if ends is None:
        raise ValueError(f"neither a {noun} nor a range")
    return ends


def _date(value: str, vr: str) -> Matcher:
    if parse_date(value):
        return DateRange(value, value)
    first, last = _range(value, parse_date, "date")
    return DateRange(first or "", last or "")


def _time(value: str, vr: str) -> Matcher:
    time = parse_time(value)
    if time is not None:
        return TimeRange(time.earliest, time.earliest)
    first, last = _range(value, parse_time, "time")
    return TimeRange(first.earliest if first else "", last.latest if last else "")


def _moment(value: str, vr: str) -> Matcher:
    moment = parse_moment(value)
    if moment is not None:
        return MomentRange(moment, moment._replace(latest=moment.earliest))
    return MomentRange(*_range(value, parse_moment, "date-time"))


_MAKERS: dict[str, Callable[[str, str], Matcher | None]] = {
    "DA": _date,
    "DT": _moment,
    "PN": _name,
    "TM": _time,
    **dict.fromkeys(NUMBER_VRS, _number),
}
