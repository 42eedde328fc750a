"""Checks and converts the values that programs assign to attributes of primitives.

A check takes a value and the name of its attribute, and returns the value to keep. It raises
TypeError or ValueError, as pynetdicom does, for what the attribute cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from pydicom.tag import Tag
from pydicom.uid import UID

from dicomwire.presentation import PresentationContext
from dicomwire.session.ends import AddressInformation
from dicomwire.utils import decode_bytes
from pynetdicom.utils import set_ae, set_uid

Check: TypeAlias = Callable[[Any, str], Any]


class Checked:
    """Objects some of whose attributes are checked when they are assigned."""

    __slots__ = ()

    CHECKS: ClassVar[Mapping[str, Check]] = {}
    """The checks by the names of the attributes."""

    def __setattr__(self, name: str, value: Any) -> None:
        check = self.CHECKS.get(name)
        super().__setattr__(name, value if check is None else check(value, name))


def as_received(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return an object of `kind` that has `values` as they are: what peers sent is shown so."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def instance_of(*kinds: type[Any]) -> Check:
    """Return the check for objects of `kinds`."""

    def check(value: Any, name: str) -> Any:
        if not isinstance(value, kinds):
            expected = " or ".join("None" if kind is _NONE else kind.__name__ for kind in kinds)
            raise TypeError(f"{name} is {expected}, not {type(value).__name__}")
        return value

    return check


_NONE = type(None)
flag = instance_of(bool)
optional_flag = instance_of(bool, _NONE)
optional_bytes = instance_of(bytes, _NONE)
optional_address = instance_of(AddressInformation, _NONE)
_integer = instance_of(int)


def one_of(*allowed: Any) -> Check:
    """Return the check for a choice of values."""

    def check(value: Any, name: str) -> Any:
        if value not in allowed:
            raise ValueError(f"{name} is one of {allowed}, not {value!r}")
        return value

    return check


def number(least: float = 0, most: float = float("inf")) -> Check:
    """Return the check for an int from `least` to `most`."""

    def check(value: Any, name: str) -> Any:
        if not least <= int(_integer(value, name)) <= most:
            raise ValueError(f"{name} is {least} to {most}, not {value}")
        return value

    return check


def or_none(check: Check) -> Check:
    """Return the check that lets None pass, too."""
    return lambda value, name: None if value is None else check(value, name)


def list_of(check: Check) -> Check:
    """Return the check for a list, each of whose items `check` takes."""
    a_list = instance_of(list)
    return lambda value, name: [check(each, name) for each in a_list(value, name)]


def read_only(value: Any, name: str) -> Any:
    """Refuse any value."""
    raise AttributeError(f"{name} cannot be set")


def uid(value: Any, name: str) -> UID | None:
    """Take str, bytes, UID or None, and return a UID or None."""
    is_blank = isinstance(value, (str, bytes)) and not value.strip()
    return set_uid("" if is_blank else value, name)


def uid_unless_empty(value: Any, name: str) -> UID | None:
    """Return a UID, or None for None and what is empty."""
    return uid(value, name) or None


def title(value: Any, name: str) -> str | None:
    """Take an AE title that is not empty."""
    return set_ae(value, name, allow_empty=False, allow_none=False)


def title_or_bytes(value: Any, name: str) -> str | None:
    """Take an AE title, as str or bytes, or None."""
    return set_ae(decode_bytes(value) if isinstance(value, bytes) else value, name)


def filled_title_or_bytes(value: Any, name: str) -> str | None:
    """Take an AE title that is not empty, as str or bytes, or None."""
    return None if value is None else title(title_or_bytes(value, name), name)


def tags(value: Any, name: str) -> list[Any] | None:
    """Take one tag, or a list of them, in any form that pydicom knows; return a list."""
    if value is None:
        return None
    try:
        return [Tag(each) for each in (value if isinstance(value, list) else [value])]
    except (OverflowError, TypeError) as error:
        raise ValueError(f"{name} is a list of tags, not {value!r}: {error}") from None


def fragment(value: Any, name: str) -> Any:
    """Take the number of a context and a fragment with its message control header."""
    if not isinstance(value, (list, tuple)) or [type(each) for each in value] != [int, bytes]:
        raise TypeError(f"{name} has pairs of int and bytes, not {value!r}")
    return value


contexts = list_of(instance_of(PresentationContext))
