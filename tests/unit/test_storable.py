"""Which object a file or dataset is, before it is sent: its dataset says it."""

from __future__ import annotations

import io
import os
import re
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicomwire import Stream
from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.data.file_meta import FileFormatError, file_head
from dicomwire.data.storable import (
    _parse,
    _parse_as_before,
    instance_uid_of,
    open_storable,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"
META = 144
"""Where the file meta information begins, after its group length."""


def image(**values: Any) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientID = "1"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def file_of(ds: Dataset, syntax: str = EXPLICIT, uid: str = "1.2.3.4") -> bytes:
    return file_head(CT, uid, syntax) + encode_dataset(ds, syntax)


def elements_of_meta(head: bytes) -> dict[int, bytes]:
    """Return the encoded elements of file meta information, without its group length."""
    found, position = {}, META
    while position < len(head):
        _, number, vr, length = struct.unpack_from("<HH2sH", head, position)
        size = 12 + struct.unpack_from("<I", head, position + 8)[0] if vr == b"OB" else 8 + length
        found[number] = head[position : position + size]
        position += size
    return found


def file_with(
    syntax: str = EXPLICIT,
    without: tuple[int, ...] = (),
    group_length: int | None = None,
) -> bytes:
    """Return a file whose meta information lacks some elements, or has another group length."""
    elements = elements_of_meta(file_head(CT, "1.2.3.4", syntax))
    for number in without:
        del elements[number]
    meta = b"".join(elements.values())
    length = len(meta) if group_length is None else group_length
    return b"".join(
        (
            bytes(128) + b"DICM",
            struct.pack("<HH2sHI", 2, 0, b"UL", 4, length),
            meta,
            encode_dataset(image(), syntax),
        )
    )


def with_implicit_meta(syntax: str) -> bytes:
    parts = []
    for number, element in elements_of_meta(file_head(CT, "1.2.3.4", syntax)).items():
        value = element[12:] if element[4:6] == b"OB" else element[8:]
        parts.append(struct.pack("<HHI", 2, number, len(value)) + value)
    meta = b"".join(parts)
    head = bytes(128) + b"DICM" + struct.pack("<HHII", 2, 0, 4, len(meta)) + meta
    return head + encode_dataset(image(), syntax)


def with_empty_syntax() -> bytes:
    whole = file_with(without=(0x0010,))
    at = whole.index(b"\2\0\x12\0UI")
    return whole[:at] + struct.pack("<HH2sH", 2, 0x10, b"UI", 0) + whole[at:]


WHOLE = file_of(image())
BARE = {syntax: encode_dataset(image(), syntax) for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN)}
FILES = {
    **{syntax: (file_of(image(), syntax), syntax) for syntax in (*BARE, DEFLATED, JPEG)},
    "no preamble": (WHOLE[128:], EXPLICIT),
    "no prefix": (WHOLE[132:], EXPLICIT),
    "no file meta, implicit": (BARE[IMPLICIT], IMPLICIT),
    "no file meta, explicit": (BARE[EXPLICIT], EXPLICIT),
    "no file meta, big endian": (BARE[BIG_ENDIAN], BIG_ENDIAN),
    "only a preamble": (bytes(128) + b"DICM" + BARE[IMPLICIT], IMPLICIT),
    "no class": (file_with(without=(2,)), EXPLICIT),
    "no instance": (file_with(without=(3,)), EXPLICIT),
    "no syntax, explicit": (file_with(without=(0x0010,)), EXPLICIT),
    "no syntax, implicit": (file_with(IMPLICIT, without=(0x0010,)), IMPLICIT),
    "empty syntax": (with_empty_syntax(), EXPLICIT),
    "no group length": (WHOLE[:132] + WHOLE[META:], EXPLICIT),
    "group length too small": (file_with(group_length=10), EXPLICIT),
    "group length too large": (file_with(group_length=5000), EXPLICIT),
    "file meta in implicit VR": (with_implicit_meta(EXPLICIT), EXPLICIT),
    "file meta and dataset in implicit VR": (with_implicit_meta(IMPLICIT), IMPLICIT),
}


@pytest.mark.parametrize("kind", ["path", "bytes", "open file"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_can_be_recognized(name: str, kind: str, tmp_path: Path) -> None:
    data, syntax = FILES[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    value: Any = {"path": path, "bytes": data, "open file": io.BytesIO(data)}[kind]
    with closing(open_storable(value)) as opened:
        assert (opened.sop_class_uid, opened.sop_instance_uid) == (CT, "1.2.3.4")
        assert opened.transfer_syntax_uid == syntax
        assert list(opened.differing) == []
        assert decode_for(read(opened.encoded_in(syntax)), syntax) == image()
    assert instance_uid_of(value) == "1.2.3.4"


def read(source: Any) -> bytes:
    if isinstance(source, bytes | memoryview):
        return bytes(source)
    data = bytearray(source.length)
    assert source.readinto([memoryview(data)]) == len(data)
    return bytes(data)


NO_FILES = {
    "nothing": b"",
    "text": b"no DICOM file, and not a short one either" * 200,
    "a preamble": bytes(128) + b"DICM",
    "zeros": bytes(200),
    "half of the file meta": WHOLE[:200],
    "a dataset without UIDs": encode_dataset(image(SOPInstanceUID=None), EXPLICIT),
    "no UID anywhere": file_head("", "", EXPLICIT) + encode_dataset(Dataset(), EXPLICIT),
    "a dataset that is cut": BARE[EXPLICIT][:30],
    "an unknown syntax": file_with(without=(0x0010,))[: -len(BARE[EXPLICIT])]
    + b"\x10\0\x10\0PN\0\0",
    "a length without end": b"\x08\0\5\0\xff\xff\xff\x7f" + bytes(3 << 20),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_a_file_that_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(NO_FILES[name])
    with pytest.raises(FileFormatError, match="file: "):
        open_storable(path)
    assert instance_uid_of(path) == ""


def test_the_dataset_says_which_object_it_is() -> None:
    opened = open_storable(file_of(image(SOPClassUID=MR, SOPInstanceUID="1.2.9")))
    assert (opened.sop_class_uid, opened.sop_instance_uid) == (MR, "1.2.9")
    assert opened.differing == ["SOP Class UID", "SOP Instance UID"]


@pytest.mark.parametrize(("said", "actual"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)])
def test_the_dataset_shows_its_transfer_syntax(said: str, actual: str) -> None:
    opened = open_storable(file_head(CT, "1.2.3.4", said) + BARE[actual])
    assert opened.transfer_syntax_uid == actual
    assert opened.differing == ["Transfer Syntax UID"]


@pytest.mark.parametrize("value", [None, "no UID", "1.2.3é"])
def test_file_meta_counts_where_the_dataset_has_no_uid(value: str | None) -> None:
    ds = image(SOPInstanceUID="1.2.3")
    ds["SOPInstanceUID"]._value = value
    opened = open_storable(file_of(ds, uid="1.2.9"))
    assert opened.sop_instance_uid == "1.2.9"


def test_file_meta_counts_where_there_is_no_dataset() -> None:
    assert open_storable(file_head(CT, "1.2.3.4", EXPLICIT)).sop_instance_uid == "1.2.3.4"
    assert open_storable(file_head(CT, "1.2.3.4", DEFLATED) + b"junk").sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("is_undefined", [False, True])
@pytest.mark.parametrize("size", [10, 100_000])
def test_what_comes_before_is_passed(syntax: str, is_undefined: bool, size: int) -> None:
    """There is one sequence in a dataset before its UIDs: Language Code Sequence."""
    code = Dataset()
    code.LongCodeValue = "x" * size
    code.EquivalentCodeSequence = [Dataset()]
    code["EquivalentCodeSequence"].is_undefined_length = is_undefined
    other = Dataset()
    other.SOPInstanceUID = "9.9"
    for item in (code, other):
        item.is_undefined_length_sequence_item = is_undefined
    ds = image(LanguageCodeSequence=[code, other])
    ds["LanguageCodeSequence"].is_undefined_length = is_undefined
    opened = open_storable(io.BytesIO(file_of(ds, syntax, uid="1.2.9")))
    assert (opened.sop_instance_uid, opened.transfer_syntax_uid) == ("1.2.3.4", syntax)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def noted(name: str) -> Any:
        function = getattr(os, name)

        def call(*args: Any) -> Any:
            calls.append(name)
            return function(*args)

        return call

    path = tmp_path / "file"
    path.write_bytes(file_of(image(EncapsulatedDocument=bytes(100_000))))
    for name in ("open", "read", "preadv"):
        monkeypatch.setattr(f"dicomwire.data.storable.os.{name}", noted(name))
    with closing(open_storable(path)) as opened:
        opened.encoded_in(EXPLICIT)
    assert calls == ["open", "read"]
    with closing(open_storable(path)) as opened:
        opened.encoded_in(IMPLICIT)
    assert calls[2:4] == ["open", "read"]
    assert set(calls[4:]) == {"preadv"}


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        open_storable(tmp_path)


def test_a_small_file_is_in_memory_once_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    ds = image()
    path.write_bytes(file_of(ds))
    opened = open_storable(path)
    path.write_bytes(b"")
    assert bytes(opened.encoded_in(EXPLICIT)) == encode_dataset(ds, EXPLICIT)


def test_a_file_that_is_cut() -> None:
    for size in range(len(WHOLE)):
        try:
            opened = open_storable(WHOLE[:size])
        except FileFormatError:
            continue
        assert opened.sop_instance_uid == "1.2.3.4", size


@given(st.sampled_from(sorted(FILES)), st.integers(0, 400), st.binary(max_size=40))
def test_mutations(name: str, position: int, noise: bytes) -> None:
    data = FILES[name][0]
    damaged = data[:position] + noise + data[position + len(noise) :]
    try:
        opened = open_storable(damaged)
    except FileFormatError:
        return
    assert opened.sop_instance_uid
    assert isinstance(opened.encoded_in(opened.transfer_syntax_uid), memoryview)


_digits = st.text("0123456789.", min_size=1, max_size=12)


@given(
    st.sampled_from(sorted(FILES)),
    _digits,
    st.booleans(),
    st.integers(0, 400),
    st.one_of(st.just(b""), st.binary(max_size=3)),
)
def test_a_file_like_an_earlier_one(
    name: str, uid: str, in_both: bool, position: int, noise: bytes
) -> None:
    """A file whose layout is known gives what it gives without that knowledge."""
    earlier = FILES[name][0]
    with suppress(FileFormatError):
        open_storable(earlier)
    new = uid.encode()[:7].ljust(7, b"1")
    later = earlier.replace(b"1.2.3.4", new, -1 if in_both else 1)
    later = later[:position] + noise + later[position + len(noise) :]
    by_layout = _parse_as_before(later)
    if by_layout is not None:
        by_parsing = _parse(later, True)
        assert by_parsing is not None
        assert vars(by_layout) == vars(by_parsing) | {"differing": ()}
        assert not by_parsing.differing


def test_a_known_layout_is_used() -> None:
    open_storable(WHOLE)
    opened = _parse_as_before(WHOLE.replace(b"1.2.3.4", b"1.2.3.5"))
    assert opened is not None
    assert opened.sop_instance_uid == "1.2.3.5"


# --- What is no file --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 5, True, None, 1.5, [], {"SOPInstanceUID": "1.2"}, object()])
def test_what_cannot_be_sent(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        open_storable(value)
    assert instance_uid_of(value) == ""


def test_a_number_is_no_open_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(WHOLE)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(TypeError):
        open_storable(descriptor)  # type: ignore[arg-type]
    assert os.read(descriptor, 4) == bytes(4)
    os.close(descriptor)


def test_a_file_in_text_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with path.open() as file, pytest.raises(TypeError, match="binary"):
        open_storable(file)  # type: ignore[arg-type]


def test_a_path_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(WHOLE)
    (entry,) = os.scandir(tmp_path)
    with closing(open_storable(entry)) as opened:
        assert opened.sop_instance_uid == "1.2.3.4"


def test_a_dataset() -> None:
    ds = image()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    opened = open_storable(ds)
    assert (opened.sop_class_uid, opened.sop_instance_uid) == (CT, "1.2.3.4")
    assert read(opened.encoded_in(IMPLICIT)) == BARE[IMPLICIT]
    assert opened.decoded() is ds
    opened.close()
    ds.SOPInstanceUID = None
    with pytest.raises(AttributeError, match="SOPInstanceUID"):
        open_storable(ds)
    assert instance_uid_of(ds) == ""


def test_a_stream_is_not_looked_at() -> None:
    class Chunks:
        def __iter__(self) -> Any:
            raise AssertionError

    opened = open_storable(Stream(CT, "1.2.3.4", EXPLICIT, Chunks()))
    assert (opened.sop_instance_uid, opened.is_convertible) == ("1.2.3.4", False)
    with pytest.raises(ValueError, match="stream"):
        opened.decoded()
    opened.close()
