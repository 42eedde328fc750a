"""Checks AE titles and UIDs that programs pass in, and shows bytes as text."""

from __future__ import annotations

import logging
import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from dicomwire.protocol.context import UID_LENGTH, as_uid, quick_uid
from dicomwire.protocol.items import TEXT_LENGTH
from dicomwire.registry.uids import is_valid

if TYPE_CHECKING:
    from pydicom.uid import UID

LOGGER = logging.getLogger(__name__)


def set_ae(
    value: str | None, name: str, allow_empty: bool = True, allow_none: bool = True
) -> str | None:
    """Return `value` if it is an AE title, or any other value of VR AE (PS3.5 Section 6.2).

    Parameters
    ----------
    value : str or None
        At most 16 ASCII characters without controls and backslash.
    name : str
        The name of the value in error texts.
    allow_empty, allow_none : bool
        Whether an empty value (or only spaces) and None are allowed.

    Raises
    ------
    TypeError, ValueError
        For a value that is not allowed.
    """
    if value is None and allow_none:
        return None
    if not isinstance(value, str):
        allowed = "str or None" if allow_none else "str"
        raise TypeError(f"'{name}' must be {allowed}, not {type(value).__name__}")
    if not value.strip(" ") and not allow_empty:
        raise ValueError(f"'{name}' must not be empty or all spaces")
    if len(value) > TEXT_LENGTH:
        raise ValueError(f"'{name}' must not exceed {TEXT_LENGTH} characters: {value!r}")
    if not value.isascii():
        raise ValueError(f"'{name}' must be ASCII only: {value!r}")
    if "\\" in value or not value.isprintable():
        raise ValueError(f"'{name}' must not contain controls or backslashes: {value!r}")
    return value


def set_title(value: str | bytes, name: str) -> str:
    """Return the AE title in `value`, which must not be empty; bytes are deprecated."""
    if isinstance(value, bytes):
        text = f"bytes for '{name}' are deprecated, use str"
        warnings.warn(text, DeprecationWarning, stacklevel=3)  # the caller of the setter
        value = decode_bytes(value)
    set_ae(value, name, allow_empty=False, allow_none=False)
    return value


def validate_uid(uid: str) -> bool:
    """Return whether `uid` has a valid length, the only default requirement for a UID."""
    return 0 < len(uid) <= UID_LENGTH


def set_uid(
    value: str | bytes | UID | None,
    name: str,
    allow_empty: bool = True,
    allow_none: bool = True,
    validate: bool = True,
) -> UID | None:
    """Return `value` as a UID (PS3.5 Section 9.1).

    A value of a valid length that breaks other rules for UIDs is accepted, with a warning in the
    log.

    Parameters
    ----------
    value : str, bytes, UID or None
        At most 64 ASCII characters.
    name : str
        The name of the value in error texts.
    allow_empty, allow_none : bool
        Whether an empty value and None are allowed.
    validate : bool
        False skips all checks of the text.

    Raises
    ------
    TypeError, ValueError
        For a value that is not allowed.
    """
    if value is None and allow_none:
        return None
    if not isinstance(value, (str, bytes)):
        allowed = "str, bytes, UID or None" if allow_none else "str, bytes or UID"
        raise TypeError(f"'{name}' must be {allowed}, not {type(value).__name__}")
    if not value:
        if allow_empty:
            return quick_uid("")
        raise ValueError(f"'{name}' must not be empty")
    if not validate:
        return quick_uid(decode_bytes(value) if isinstance(value, bytes) else value)
    uid = as_uid(value, name)
    if not is_valid(uid):
        LOGGER.warning("%s: %r does not conform to PS3.5", name, str(uid))
    return uid


def decode_bytes(encoded_value: bytes) -> str:
    """Return the ASCII text in `encoded_value`; ValueError if it is not ASCII."""
    try:
        return encoded_value.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"not ASCII: {encoded_value!r}") from None


def pretty_bytes(
    bytestream: bytes | BytesIO,
    prefix: str = "  ",
    delimiter: str = "  ",
    items_per_line: int = 16,
    max_size: int | None = 512,
    suffix: str = "",
) -> list[str]:
    """Return lines of `items_per_line` bytes each in hexadecimal.

    If there are more than `max_size` bytes, a first line says so and only the first `max_size`
    bytes are shown; None shows all.
    """
    data = bytestream.getvalue() if isinstance(bytestream, BytesIO) else bytestream
    lines = []
    if max_size is not None and len(data) > max_size:
        lines.append(f"{prefix}First {max_size} of {len(data)} bytes:")
        data = data[:max_size]
    for start in range(0, len(data), items_per_line):
        row = data[start : start + items_per_line]
        lines.append(prefix + delimiter.join(f"{byte:02x}" for byte in row) + suffix)
    return lines
