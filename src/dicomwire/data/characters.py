"""Checks text against the Specific Character Set of its dataset (PS3.3 Section C.12.1.1.2).

pydicom encodes the text, and writes "?" for a character that the character set does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from dicomwire.data.scanner import DatasetError

_CHARACTER_SET = 0x00080005
_ESCAPES = {"iso2022_jp": b"\x1b$B", "iso2022_jp_2": b"\x1b$(D"}
"""The escape sequences of the character sets that DICOM allows with these codecs, JIS X 0208 and
0212; the codecs also know other sets."""
_SINGLE_BYTE = "shift_jis"
"""pydicom's codec for JIS X 0201: only its characters of one byte belong to that set."""


def check_keys(identifier: Dataset) -> None:
    """Raise DatasetError if a text has a character that its character set does not have.

    The peer would receive "?" instead, which matches any character (PS3.4 Section C.2.2.2.4).
    Elements that were read and not changed are not checked, because they are sent unchanged.
    """
    _check(identifier, [default_encoding])


def _check(ds: Dataset, codecs: Sequence[str]) -> None:
    if _CHARACTER_SET in ds:
        codecs = _codecs(ds[_CHARACTER_SET].value)
    for tag in sorted(ds.keys()):
        element = ds.get_item(tag)
        if not isinstance(element, DataElement):
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                _check(item, codecs)
        elif element.VR in CUSTOMIZABLE_CHARSET_VR and not _can_hold(element.value, codecs):
            name = keyword_for_tag(tag) or str(tag)
            raise DatasetError(
                f"{name} has characters that its Specific Character Set cannot hold; "
                "ISO_IR 192 (UTF-8) holds all"
            )


def _codecs(value: Any) -> Sequence[str]:
    try:
        return convert_encodings(value)
    except Exception as error:  # a value of the wrong type can raise anything in pydicom
        raise DatasetError("the Specific Character Set is not valid") from error


def _can_hold(value: Any, codecs: Iterable[str]) -> bool:
    values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    text = "".join(map(str, values))
    return text.isascii() or all(_holds_character(codecs, each) for each in set(text))


def _holds_character(codecs: Iterable[str], character: str) -> bool:
    for codec in codecs:
        try:
            encoded = character.encode(codec)
        except UnicodeEncodeError:
            continue
        if codec == _SINGLE_BYTE and len(encoded) > 1:
            continue
        if encoded.startswith(_ESCAPES.get(codec, b"")) or character.isascii():
            return True
    return False
