"""What a character set holds is what pydicom can write in it."""

from __future__ import annotations

import pytest
from pydicom.charset import convert_encodings, encode_string
from pydicom.dataset import Dataset

from dicomwire.data.characters import check_keys
from dicomwire.data.codec import DatasetError, decode, encode_dataset

SETS = [
    "",
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 144",
    "ISO_IR 192",
    "ISO_IR 13",
    "GB18030",
    ["", "ISO 2022 IR 87"],
    ["", "ISO 2022 IR 159"],
    ["ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159"],
    ["", "ISO 2022 IR 149"],
    ["", "ISO 2022 IR 58"],
    ["ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126"],
]
CHARACTERS = "a?ü²ˉΩЖ‾ﾔ山丂김\ufffd¥\udc80"


def keyed(character_set: object, value: object) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = character_set
    ds.PatientName = value
    return ds


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("character", CHARACTERS, ids=ascii)
@pytest.mark.parametrize("character_set", SETS, ids=str)
def test_a_character(character_set: object, character: str) -> None:
    try:
        encode_string(character, convert_encodings(character_set))
    except (UserWarning, UnicodeEncodeError):
        with pytest.raises(DatasetError):
            check_keys(keyed(character_set, character))
    else:
        check_keys(keyed(character_set, character))


def test_values_of_every_shape() -> None:
    for value in (None, "", ["a", "b"], "Müller^Jörg"):
        check_keys(keyed("ISO_IR 100", value))
    with pytest.raises(DatasetError):
        check_keys(keyed("ISO_IR 100", ["a", "山"]))


def test_items_may_have_a_character_set_of_their_own() -> None:
    ds = keyed("ISO_IR 100", "ü")
    ds.ReferencedStudySequence = [keyed("ISO_IR 192", "山")]
    check_keys(ds)
    del ds.ReferencedStudySequence[0].SpecificCharacterSet
    with pytest.raises(DatasetError):
        check_keys(ds)


def test_what_was_read_is_left_alone() -> None:
    explicit = "1.2.840.10008.1.2.1"
    received = encode_dataset(keyed("ISO_IR 192", "山"), explicit)
    received = received.replace(b"ISO_IR 192", b"ISO_IR 100")
    check_keys(decode(received, False, True))


def test_a_character_set_that_is_none() -> None:
    ds = keyed("ISO_IR 100", "ü")
    ds["SpecificCharacterSet"]._value = 5
    with pytest.raises(DatasetError, match="Specific Character Set is not valid"):
        check_keys(ds)
