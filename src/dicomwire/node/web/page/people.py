"""Names, dates, times and sizes as people write them; the index has them as DICOM does.

Nothing here knows of HTML; the templates call these functions.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import NamedTuple

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"(\d{4})[.]?(\d{2})?[.]?(\d{2})?")
_TIME = re.compile(r"(\d{2}):?(\d{2})?")
_KILO = 1000.0


class PersonName(NamedTuple):
    """A person name (PS3.5 6.2.1): one text for each component group that it has."""

    main: str
    """The alphabetic group; the ideographic one if that is missing."""
    ideographic: str
    """"" if the name has none, or if `main` is it."""
    phonetic: str


def person_name(value: str) -> PersonName:
    """Return a PN as people write it: "Doe, Dr Jane Q" for "Doe^Jane^Q^Dr", "山田 太郎"."""
    groups = [*value.split("="), "", ""][:3]
    alphabetic, ideographic, phonetic = _western(groups[0]), *map(_eastern, groups[1:])
    if not alphabetic:
        alphabetic, ideographic = ideographic or phonetic, ""
    return PersonName(alphabetic, ideographic, phonetic if phonetic != alphabetic else "")


def _western(group: str) -> str:
    family, given, middle, prefix, suffix = _components(group)
    called = " ".join(filter(None, (prefix, given, middle)))
    return ", ".join(filter(None, (family, called, suffix)))


def _eastern(group: str) -> str:
    family, given, middle, prefix, suffix = _components(group)
    return " ".join(filter(None, (prefix, family, given, middle, suffix)))


def _components(group: str) -> list[str]:
    parts = [" ".join(part.split()) for part in group.split("^")]
    return [*parts, "", "", "", "", ""][:5]


def day(value: str) -> str:
    """Return a DA as "1 Mar 2024"; a text that is no date, as it is."""
    found = _DATE.fullmatch(value)
    if found is None:
        return value
    year, month, number = found.groups()
    if month is None or not 1 <= int(month) <= len(_MONTHS):
        return year if month is None else value
    return " ".join(
        filter(None, (str(int(number)) if number else "", _MONTHS[int(month) - 1], year))
    )


def clock(value: str) -> str:
    """Return a TM as "10:30"; a text that is no time, as it is."""
    found = _TIME.match(value)
    if found is None:
        return value
    return f"{found[1]}:{found[2] or '00'}"


def moment(value: str | float | None) -> str:
    """Return a time of the program, in seconds or in ISO 8601, as "1 Mar, 10:30:05" here."""
    if not value:
        return ""
    if isinstance(value, str):
        then = datetime.fromisoformat(value).astimezone()
    else:
        then = datetime.fromtimestamp(value).astimezone()
    return f"{then.day} {_MONTHS[then.month - 1]}, {then:%H:%M:%S}"


def age(birth_date: str, at: str) -> str:
    """Return the age on a day as "34 y" or "5 mo"; "" if a date is missing or wrong."""
    try:
        born, then = (date.fromisoformat(each.replace(".", "")) for each in (birth_date, at))
    except ValueError:
        return ""
    months = (then.year - born.year) * 12 + then.month - born.month - (then.day < born.day)
    if months < 0:
        return ""
    return f"{months // 12} y" if months >= 24 else f"{months} mo"


def size(number: float) -> str:
    """Return a number of bytes as "1.2 GB"."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < _KILO or unit == "TB":
            break
        number /= _KILO
    digits = 0 if unit in ("bytes", "kB") or number >= 100 else 1
    return f"{number:.{digits}f} {unit}"


def count(number: int) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")
