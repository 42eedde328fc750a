from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomwire.apps.console import Stop
from dicomwire.apps.identifier import (
    add_identifier,
    build_identifier,
    check_identifier,
    path_of,
    set_element,
)
from dicomwire.data.codec import encode_dataset


def build(*arguments: str) -> Dataset:
    parser = ArgumentParser()
    add_identifier(parser)
    options = parser.parse_args(arguments)
    check_identifier(parser, options)
    return build_identifier(options)


def keyed(*keys: str) -> Dataset:
    ds = Dataset()
    for key in keys:
        set_element(ds, key)
    encode_dataset(ds, "1.2.840.10008.1.2")
    return ds


@pytest.mark.parametrize(
    ("key", "tag", "vr", "value"),
    [
        ("PatientName=Doe^J*", 0x00100010, "PN", "Doe^J*"),
        ("PatientName", 0x00100010, "PN", ""),
        ("PatientName=", 0x00100010, "PN", ""),
        ("PatientName=a=b", 0x00100010, "PN", "a=b"),
        ('PatientID="7"', 0x00100020, "LO", '"7"'),
        ("(0010,0020)=7", 0x00100020, "LO", "7"),
        ("0010,0020=7", 0x00100020, "LO", "7"),
        ("7FE0,0010=00ff", 0x7FE00010, "OB", b"\x00\xff"),
        ("(7fe0,0010)=00 FF", 0x7FE00010, "OB", b"\x00\xff"),
        ("StudyDate=20200101-", 0x00080020, "DA", "20200101-"),
        ("ModalitiesInStudy=CT\\MR", 0x00080061, "CS", ["CT", "MR"]),
        ("StudyInstanceUID=1.2\\1.3", 0x0020000D, "UI", ["1.2", "1.3"]),
        ("InstanceNumber=7", 0x00200013, "IS", 7),
        ("Rows=512", 0x00280010, "US", 512),
        ("Rows=1\\2", 0x00280010, "US", [1, 2]),
        ("Rows=", 0x00280010, "US", None),
        ("SmallestImagePixelValue=3", 0x00280106, "US", 3),
        ("RecommendedDisplayFrameRateInFloat=1.5", 0x00089459, "FL", 1.5),
        ("SelectorAttribute=00100010", 0x00720026, "AT", Tag(0x00100010)),
        ("SelectorAttribute=(0010,0010)", 0x00720026, "AT", Tag(0x00100010)),
        (
            "FrameIncrementPointer=00181063\\0018,1065",
            *(0x00280009, "AT", [Tag(0x00181063), Tag(0x00181065)]),
        ),
        ("(0009,1001)=0102", 0x00091001, "UN", b"\x01\x02"),
        ("(0020,3100)=7", 0x00203100, "CS", "7"),
    ],
)
def test_an_element(key: str, tag: int, vr: str, value: Any) -> None:
    (element,) = keyed(key)
    assert (element.tag, element.VR, element.value or None) == (tag, vr, value or None)


def test_a_value_replaces_another() -> None:
    assert keyed("PatientID=1", "PatientID=2").PatientID == "2"


def test_sequences() -> None:
    assert len(keyed("BeamSequence=").BeamSequence) == 0
    assert keyed("BeamSequence[1]=").BeamSequence == [Dataset(), Dataset()]
    assert keyed("BeamSequence[1]=", "BeamSequence[0]=").BeamSequence == [Dataset(), Dataset()]
    assert len(keyed("BeamSequence[1]=", "BeamSequence=").BeamSequence) == 0


def test_elements_in_sequences() -> None:
    ds = keyed(
        "BeamSequence[0].BeamNumber=1",
        "(300A,00B0)[1].BeamNumber=2",
        "BeamSequence[0].BeamName=first",
        "BeamSequence[0].BeamLimitingDeviceSequence[0].NumberOfLeafJawPairs=7",
    )
    first, second = ds.BeamSequence
    assert (first.BeamNumber, first.BeamName, second.BeamNumber) == (1, "first", 2)
    assert first.BeamLimitingDeviceSequence[0].NumberOfLeafJawPairs == 7


def test_items_in_between_are_added() -> None:
    items = keyed("BeamSequence[0].BeamNumber=1", "BeamSequence[3].BeamNumber=4").BeamSequence
    assert [item.get("BeamNumber") for item in items] == [1, None, None, 4]


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("BeamSequence[-1]=", "Element path contains an invalid component: 'BeamSequence[-1]'"),
        ("BeamSequence[]=", "Element path contains an invalid component: 'BeamSequence[]'"),
        ("BeamSequence[0=", "Element path contains an invalid component: 'BeamSequence[0'"),
        ("BeamSequence0]=", "Element path contains an invalid component: 'BeamSequence0]'"),
        ("BeamSequence[10000]=", "Element path contains an invalid component: "),
        ("Nonsense=1", "Unable to parse element path component: 'Nonsense'"),
        ("00100010=1", "Unable to parse element path component: '00100010'"),
        ("(0010,0010=1", "Unable to parse element path component: '(0010,0010'"),
        ("0010,001=1", "Unable to parse element path component: '0010,001'"),
        ("=1", "Unable to parse element path component: ''"),
        ("BeamSequence[0].=1", "Unable to parse element path component: ''"),
        ("TransferSyntaxUID=1.2", "'TransferSyntaxUID' is not an element of a dataset"),
        ("SourceImageIDs=1", "must be specified using (gggg,eeee): 'SourceImageIDs'"),
        ("PatientName[0]=1", "'PatientName[0]' has an item number, but is not a sequence"),
        ("PatientName.PatientID=1", "'PatientName' is not a sequence"),
        ("BeamSequence.BeamNumber=1", "needs the number of an item, such as BeamSequence[0]"),
        ("BeamSequence=1", "'BeamSequence' is a sequence, which cannot have the value '1'"),
        ("BeamSequence[0]=1", "is a sequence, which cannot have the value '1'"),
        ("Rows=many", "'Rows' has the VR US, which does not allow the value 'many'"),
        (
            "InstanceNumber=first",
            "'InstanceNumber' has the VR IS, which does not allow the value 'first'",
        ),
        ("PixelData=0f0", "'PixelData' has the VR OB, which does not allow the value '0f0'"),
        (
            "SelectorAttribute=xyz",
            "'SelectorAttribute' has the VR AT, which does not allow the value 'xyz'",
        ),
    ],
)
def test_what_is_no_element(key: str, complaint: str) -> None:
    with pytest.raises(Stop) as stop:
        build("-k", key)
    assert complaint in str(stop.value)


@given(st.text() | st.text("BeamSequence[0].()=,123 ", max_size=40))
def test_any_text_makes_an_element_or_a_complaint(key: str) -> None:
    ds = Dataset()
    try:
        set_element(ds, key)
    except ValueError:
        return
    assert len(ds) == 1


@pytest.mark.parametrize(
    ("tag", "path"),
    [(0x00100010, "PatientName"), (0x00091001, "(0009,1001)"), (0x00203100, "(0020,3100)")],
)
def test_paths_lead_back(tag: int, path: str) -> None:
    assert path_of(Tag(tag)) == path
    assert list(keyed(path).keys()) == [tag]


def test_a_file_and_keys(wheel: Path) -> None:
    path = str(wheel / "CT_small.dcm")
    assert build("-f", path).PatientID == "1CT1"
    ds = build("-f", path, "-k", "PatientID=2", "-k", "QueryRetrieveLevel=STUDY")
    assert (ds.PatientID, ds.QueryRetrieveLevel, ds.Modality) == ("2", "STUDY", "CT")


def test_a_file_without_a_head(tmp_path: Path) -> None:
    path = tmp_path / "bare"
    path.write_bytes(encode_dataset(keyed("PatientID=7"), "1.2.840.10008.1.2"))
    assert build("-f", str(path)).PatientID == "7"


@pytest.mark.parametrize(
    "content", [None, b"", b"\x10\x00\x10\x00PN\xff\x00short", b"(0010,0010) PN [Doe^John]\n"]
)
def test_a_file_that_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Stop) as stop:
        build("-f", str(path))
    assert str(stop.value).startswith(f"Cannot read input file {path}: ")


def test_something_must_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        build()
    assert end.value.code == 2
    assert "give -k or -f" in capsys.readouterr().err


def test_text_beyond_ascii_has_a_character_set() -> None:
    ds = build("-k", "PatientName=Müller*")
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert "Müller*".encode() in encode_dataset(ds, "1.2.840.10008.1.2")
    assert "SpecificCharacterSet" not in build("-k", "PatientName=Mueller*")
    ds = build("-k", "SpecificCharacterSet=ISO_IR 100", "-k", "PatientName=Müller*")
    assert "Müller*".encode("latin-1") in encode_dataset(ds, "1.2.840.10008.1.2")


def test_text_that_the_character_set_cannot_hold() -> None:
    with pytest.raises(Stop, match=r"^PatientName has characters that its Specific Character Set"):
        build("-k", "SpecificCharacterSet=ISO_IR 100", "-k", "PatientName=山田")
