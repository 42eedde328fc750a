"""Which characters the Specific Character Set of a dataset can hold (PS3.3 Section C.12.1.1.2).

Nothing is encoded here for the wire: that is pydicom's, and it writes "?" for what is not held.
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
"""How the one set begins that DICOM has of these codecs, which know others: JIS X 0208, 0212."""
_SINGLE_BYTE = "shift_jis"
"""pydicom's codec for JIS X 0201, which is of one byte, as the codec's own is not."""


def check_keys(identifier: Dataset) -> None:
    """Raise DatasetError where a text has a character that its character set cannot hold.

    The peer would get a "?" instead, and that matches any character (PS3.4 Section C.2.2.2.4).
    What was read and not changed is left alone, since it goes out as it is.
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
    except Exception as error:  # whatever a value of the wrong type brings about
        raise DatasetError("the Specific Character Set is none") from error


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
