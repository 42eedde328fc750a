"""Dates, times and date-times, and matching of their ranges (PS3.5 6.2, PS3.4 C.2.2.2.5).

`matching` decides which keys use these matchers.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, TypeVar

from dicomwire.node.prefilters import between, equals
from dicomwire.node.values import ByText, Column, Condition, Matcher, text_of

_DATE = re.compile(r"\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4})(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12]\d|3[01])"
    rf"({_TIME.pattern})?)?)?(?:([+-])(0\d|1[0-4])([0-5]\d))?",
    re.ASCII,
)
_EARLIEST_TIME = "000000000000"
_LATEST_TIME = "235959999999"
_LONGEST_RANGE = 64
"""In characters; two date-times of 26 characters and a hyphen have 53."""

_Value = TypeVar("_Value")


class Time(NamedTuple):
    """A time (TM): the earliest and latest time that it may mean, as digits to the microsecond."""

    earliest: str
    latest: str


class Moment(NamedTuple):
    """A date-time (DT): the earliest and latest moment that it may mean.

    Both are microseconds from the beginning of the calendar, in its own time zone.

    Attributes
    ----------
    offset : int or None
        How many microseconds its zone is ahead of UTC; None if it states no zone.
    """

    earliest: int
    latest: int
    offset: int | None

    def in_zone_of(self, other: Moment) -> Moment:
        """Return the same moment in the zone of `other`; unchanged if one of them has no zone."""
        if self.offset is None or other.offset is None:
            return self
        ahead = other.offset - self.offset
        return Moment(self.earliest + ahead, self.latest + ahead, other.offset)


def parse_date(text: str) -> str | None:
    """Return the text if it is a date (DA); None if not."""
    return text if _DATE.fullmatch(text) else None


def parse_time(text: str) -> Time | None:
    """Return a time if the text is one; components that it leaves out may have any value."""
    if not _TIME.fullmatch(text):
        return None
    digits = text.replace(".", "")
    return Time(digits + _EARLIEST_TIME[len(digits) :], digits + _LATEST_TIME[len(digits) :])


def parse_moment(text: str) -> Moment | None:
    """Return a date-time if the text is one; components that it leaves out may have any value."""
    parts = _MOMENT.fullmatch(text)
    if parts is None:
        return None
    year, month, day, clock, sign, hours, minutes = parts.groups()
    if not int(year):
        return None
    time = parse_time(clock) if clock else Time(_EARLIEST_TIME, _LATEST_TIME)
    assert time is not None
    first = _microseconds(int(year), int(month or 1), int(day or 1), time.earliest)
    last = _microseconds(int(year), int(month or 12), int(day or 31), time.latest)
    offset = None
    if sign:
        offset = (int(hours) * 60 + int(minutes)) * 60_000_000 * (-1 if sign == "-" else 1)
    return Moment(first, last, offset)


def _microseconds(year: int, month: int, day: int, digits: str) -> int:
    """Count from the beginning of the calendar; a day after the end of a month is its last day."""
    days = date(year, month, min(day, monthrange(year, month)[1])).toordinal()
    hours, minutes, seconds = (int(digits[at : at + 2]) for at in (0, 2, 4))
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + int(digits[6:])


def ends_of(
    text: str, parse: Callable[[str], _Value | None]
) -> tuple[_Value | None, _Value | None] | None:
    """Return the ends of "first-last", "first-" or "-last" (PS3.4 C.2.2.2.5); None for other text.

    The caller first checks that the text is not a single date-time, since a hyphen may also begin
    its offset from UTC.
    """
    if len(text) > _LONGEST_RANGE:
        return None
    for minus in re.finditer("-", text):
        before, after = text[: minus.start()].strip(), text[minus.end() :].strip()
        first = parse(before) if before else None
        last = parse(after) if after else None
        is_range = bool(before or after)
        if is_range and (first is None) == (not before) and (last is None) == (not after):
            return first, last
    return None


# --- Matching ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DateRange(ByText):
    """Range matching of dates, including both ends (PS3.4 C.2.2.2.5.1)."""

    first: str = ""
    last: str = ""

    def accepts(self, text: str) -> bool:
        if parse_date(text) is None:
            return False
        return self.first <= text and (not self.last or text <= self.last)

    def prefilter(self, column: Column) -> Condition | None:
        if self.first == self.last:
            return equals(column, self.first)
        return between(column, self.first or "0", self.last)


@dataclass(frozen=True)
class TimeRange(ByText):
    """Range matching of times (PS3.4 C.2.2.2.5.2).

    If the last time leaves out components, the range includes all their values.
    """

    first: str = ""
    last: str = ""

    def accepts(self, text: str) -> bool:
        time = parse_time(text)
        if time is None:
            return False
        return self.first <= time.earliest and (not self.last or time.earliest <= self.last)

    def prefilter(self, column: Column) -> Condition | None:
        return None


@dataclass(frozen=True)
class MomentRange(ByText):
    """Range matching of date-times, with their offsets from UTC (PS3.4 C.2.2.2.5.3)."""

    first: Moment | None = None
    last: Moment | None = None

    def accepts(self, text: str) -> bool:
        moment = parse_moment(text)
        if moment is None:
            return False
        if self.first is not None and moment.earliest < self.first.in_zone_of(moment).earliest:
            return False
        return self.last is None or moment.earliest <= self.last.in_zone_of(moment).latest

    def prefilter(self, column: Column) -> Condition | None:
        return None


@dataclass(frozen=True)
class DateAndTime:
    """Combined date-time matching, if it was negotiated (PS3.4 C.2.2.2.5.4).

    A range of dates and a range of times form one range, from the first time on the first date
    to the last time on the last date. Rows without a time do not match.
    """

    first: str
    last: str

    def matches(self, dates: Sequence[Any], times: Sequence[Any]) -> bool:
        """Return whether a date with its time matches; each attribute has one value or none."""
        date = parse_date(text_of(dates[0])) if dates else None
        time = parse_time(text_of(times[0])) if times else None
        if date is None or time is None:
            return False
        moment = date + time.earliest
        return self.first <= moment and (not self.last or moment <= self.last)

    def prefilter(self, date_column: Column) -> Condition | None:
        """Return a condition on the column of the date; see `Matcher.prefilter`."""
        return DateRange(self.first[:8], self.last[:8]).prefilter(date_column)


def combined(dates: Matcher | None, times: Matcher | None) -> DateAndTime | None:
    """Return the combination of two ranges; None unless they are of dates and of times."""
    if not isinstance(dates, DateRange) or not isinstance(times, TimeRange):
        return None
    first = dates.first and dates.first + (times.first or "0" * 12)
    last = dates.last and dates.last + (times.last or "9" * 12)
    return DateAndTime(first, last)
