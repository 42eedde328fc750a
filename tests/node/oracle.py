"""What a query should find, by looking at each entity in turn: PS3.4 C.2.2.2, read naively.

Nothing of the node is used here but the list of its keys and their levels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import zip_longest
from typing import Any

from archive_of import Archive, Entity
from pydicom.datadict import dictionary_VR

from dicomwire.node.keys import QUERY_KEYS, Level

WITH_WILDCARDS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
NUMBERS = ("DS", "IS", "US")
_LEVEL_OF = {key.keyword: key.level for key in QUERY_KEYS.values()}


class Oracle:
    """Answers queries of an archive.

    Parameters
    ----------
    fuzzy, combined : bool
        What was negotiated: fuzzy names, combined dates and times.
    """

    def __init__(self, archive: Archive, fuzzy: bool = False, combined: bool = False) -> None:
        self.archive = archive
        self._fuzzy = fuzzy
        self._combined = combined

    def find(self, level: Level, keys: dict[str, Any]) -> Iterator[Entity]:
        """Iterate over the entities that match keys, by keyword."""
        for entity in self.archive.entities(level):
            if self._matches(entity, level, dict(keys)):
                yield entity

    def _matches(self, entity: Entity, level: Level, keys: dict[str, Any]) -> bool:
        if self._combined:
            for name in ("Study", "Series", "Content", "PatientBirth"):
                date, time = keys.get(f"{name}Date"), keys.get(f"{name}Time")
                if date and time and '"' not in date + time:
                    del keys[f"{name}Date"], keys[f"{name}Time"]
                    stored = [texts_of(entity, f"{name}{part}") for part in ("Date", "Time")]
                    if not _both_match(date, time, *stored):
                        return False
        return all(
            _matches(dictionary_VR(keyword), key, values_of(entity, keyword), self._fuzzy)
            for keyword, key in keys.items()
            if _LEVEL_OF[keyword].depth <= level.depth
        )


# --- What is stored ---------------------------------------------------------------------------


def values_of(entity: Entity, keyword: str) -> list[Any]:
    """Return the values of an attribute of an entity or one of the levels above."""
    counted = re.fullmatch("NumberOf(Patient|Study|Series)Related(.*)", keyword)
    if counted:
        return [len(list(_related(entity, counted[1], counted[2])))]
    if keyword == "ModalitiesInStudy":
        return sorted({each.own["Modality"] for each in _related(entity, "Study", "Series")})
    if keyword == "SOPClassesInStudy":
        return sorted({each.own["SOPClassUID"] for each in _related(entity, "Study", "Instances")})
    owner: Entity | None = entity
    while owner is not None and owner.level is not _LEVEL_OF[keyword]:
        owner = owner.above
    assert owner is not None
    value = owner.own.get(keyword)
    values = value if isinstance(value, list) else [value]
    return [each for each in values if each not in (None, "")]


def texts_of(entity: Entity, keyword: str) -> list[str]:
    """Return the values of an attribute as text."""
    return [str(value) for value in values_of(entity, keyword)]


def _related(entity: Entity, of: str, what: str) -> Iterator[Entity]:
    below = {"Studies": Level.STUDY, "Series": Level.SERIES, "Instances": Level.IMAGE}[what]
    owner: Entity | None = entity
    while owner is not None and owner.level is not Level[of.upper()]:
        owner = owner.above
    assert owner is not None
    return owner.descendants(below)


# --- What matches -----------------------------------------------------------------------------


def _matches(vr: str, key: Any, values: list[Any], fuzzy: bool) -> bool:
    if key in ("", b"", {}, "*"):
        return True
    if isinstance(key, int):
        return key in values
    if key == '""':
        return not values
    if isinstance(key, dict):
        return not any(key.values()) or any(_item_matches(key, item, fuzzy) for item in values)
    if vr in WITH_WILDCARDS and not key.replace("*", "").replace("^", ""):
        return True
    if vr == "UI":
        return not _listed(key).isdisjoint(values)
    if vr not in ("ST", "LT", "UT", "UR") and "\\" in key:
        return any(_matches(vr, each, values, fuzzy) for each in key.split("\\"))
    return any(_value_matches(vr, key, str(value), fuzzy) for value in values)


@cache
def _listed(key: str) -> frozenset[str]:
    return frozenset(key.split("\\"))


def _item_matches(keys: dict[str, Any], item: dict[str, Any], fuzzy: bool) -> bool:
    for keyword, key in keys.items():
        value = item.get(keyword, [])
        values = value if isinstance(value, list) else [value]
        if not _matches(dictionary_VR(keyword), key, values, fuzzy):
            return False
    return True


def _value_matches(vr: str, key: str, value: str, fuzzy: bool) -> bool:
    if vr == "PN":
        return _fuzzily(key, value) if fuzzy else _name_matches(key, value)
    if vr == "DA":
        return _in_range(key, value, _date_ends, "-")
    if vr == "TM":
        return _in_range(key, value, _time_ends, "-")
    if vr == "DT":
        return _moment_matches(key, value)
    if vr in NUMBERS:
        return float(key) == float(value)
    if vr in WITH_WILDCARDS:
        return _like(key, value)
    return key == value


@cache
def _like(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _like(pattern[1:], text) or (bool(text) and _like(pattern, text[1:]))
    first = text[:1]
    fits = pattern[0] == "^" if first == MISSING else pattern[0] in ("?", first)
    return bool(text) and fits and _like(pattern[1:], text[1:])


MISSING = "\0"


# --- Names ---


@cache
def _name_matches(key: str, value: str) -> bool:
    wanted, groups = _groups(key), _groups(value)
    if len(wanted) == 1:
        return any(_group_matches(wanted[0], group) for group in groups)
    return all(
        _group_matches(one, other)
        for one, other in zip_longest(wanted, groups, fillvalue=[])
        if "".join(one).replace("*", "")
    )


def _groups(name: str) -> list[list[str]]:
    """Return the components of each group, without empty ones at the end."""
    groups = []
    for group in unicodedata.normalize("NFC", name).casefold().split("="):
        components = [part.strip() for part in group.split("^")]
        while components and not components[-1]:
            components.pop()
        groups.append(components)
    while len(groups) > 1 and not groups[-1]:
        groups.pop()
    return groups


def _group_matches(wanted: list[str], group: list[str]) -> bool:
    if not group:
        return False
    # A component that is not there is told from an empty one: no question mark stands for it.
    forms = ["^".join(group) + MISSING * more for more in range(max(1, 6 - len(group)))]
    return any(_like("^".join(wanted), form) for form in forms)


def _fuzzily(key: str, value: str) -> bool:
    words = _words(value)
    return all(any(_like(wanted, word) for word in words) for wanted in _words(key))


def _words(name: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(each for each in decomposed if not unicodedata.combining(each)).casefold()
    for special, base in (("ø", "o"), ("ł", "l")):
        plain = plain.replace(special, base)
    return [word for word in re.split(r"[\s^=,.;'’-]", plain) if word]  # noqa: RUF001


# --- Dates and times ---


@cache
def _date_ends(text: str) -> tuple[datetime, datetime] | None:
    if not re.fullmatch(r"\d{8}", text):
        return None
    day = datetime.strptime(text, "%Y%m%d")
    return day, day + timedelta(days=1, microseconds=-1)


@cache
def _time_ends(text: str) -> tuple[datetime, datetime]:
    """Return the first and last moment of what a time leaves open, on some day."""
    day = datetime(2000, 1, 1)
    whole, _, fraction = text.partition(".")
    parts = [int(whole[at : at + 2]) for at in range(0, len(whole), 2)]
    start = day + timedelta(
        hours=parts[0],
        minutes=parts[1] if len(parts) > 1 else 0,
        seconds=parts[2] if len(parts) > 2 else 0,
        microseconds=int(fraction.ljust(6, "0")) if fraction else 0,
    )
    step = [timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)][len(parts) - 1]
    if fraction:
        step = timedelta(microseconds=10 ** (6 - len(fraction)))
    return start, start + step - timedelta(microseconds=1)


def _in_range(key: str, value: str, ends: Any, sign: str) -> bool:
    stored = ends(value)
    if stored is None:
        return False
    if sign not in key:
        return bool(stored[0] == ends(key)[0])
    first, last = key.split(sign)
    if first and stored[0] < ends(first)[0]:
        return False
    return not last or stored[0] <= ends(last)[1]


def _both_match(date: str, time: str, dates: list[str], times: list[str]) -> bool:
    if not dates or not times or not _date_ends(dates[0]):
        return False

    def at(day: str, offset: datetime) -> datetime:
        return datetime.strptime(day, "%Y%m%d") + (offset - datetime(2000, 1, 1))

    stored = at(dates[0], _time_ends(times[0])[0])
    days = date.split("-") if "-" in date else [date, date]
    hours = time.split("-") if "-" in time else [time, time]
    if days[0] and stored < at(days[0], _time_ends(hours[0] or "00")[0]):
        return False
    if not days[1]:
        return True
    last = _time_ends(hours[1] or "235959")[1 if "-" in time or not hours[1] else 0]
    return stored <= at(days[1], last)


_MOMENT = r"\d{4,14}(?:\.\d+)?(?:[+-](?:0\d|1[0-4])[0-5]\d)?"


@cache
def _moment_matches(key: str, value: str) -> bool:
    stored = _moment(value)
    if re.fullmatch(_MOMENT, key):
        return _after(stored, _moment(key)) == timedelta(0)
    ends = re.fullmatch(f"({_MOMENT})?-({_MOMENT})?", key)
    assert ends is not None
    if ends[1] and _after(stored, _moment(ends[1])) < timedelta(0):
        return False
    return not ends[2] or _after(stored, _moment(ends[2], last=True)) <= timedelta(0)


@cache
def _moment(text: str, last: bool = False) -> datetime:
    zone = None
    offset = re.search(r"[+-](\d\d)(\d\d)$", text)
    if offset:
        ahead = timedelta(hours=int(offset[1]), minutes=int(offset[2]))
        zone = timezone(ahead if "+" in text else -ahead)
        text = text[: offset.start()]
    whole, _, fraction = text.partition(".")
    filler = "99991231235959" if last else "00000101000000"
    whole += filler[len(whole) :]
    micro = fraction.ljust(6, "0") if fraction else "999999" if last else "0"
    return datetime.strptime(whole, "%Y%m%d%H%M%S").replace(microsecond=int(micro), tzinfo=zone)


def _after(one: datetime, other: datetime) -> timedelta:
    if one.tzinfo is None or other.tzinfo is None:
        one, other = one.replace(tzinfo=None), other.replace(tzinfo=None)
    return one - other
