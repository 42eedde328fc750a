"""Objects in other transfer syntaxes: the pixels, the UIDs and all else stay what they are."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.node import transcode
from dicomwire.node.transcode import CannotTranscode, choose, transcoded

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
UNCOMPRESSED = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
]
STORED = [
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
]
"""One image in several transfer syntaxes."""

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")  # as those files have


def on_the_wire(ds: Dataset) -> Dataset:
    """Return what a peer reads that is sent `ds`."""
    syntax = ds.file_meta.TransferSyntaxUID
    received = decode_for(encode_dataset(ds, syntax), syntax)
    received.file_meta = FileMetaDataset()
    received.file_meta.TransferSyntaxUID = syntax
    return received


@pytest.mark.parametrize("target", [*UNCOMPRESSED, JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("name", STORED)
def test_every_syntax_from_every_other(name: str, target: UID) -> None:
    original = dcmread(WHEEL / "MR_small.dcm")
    received = on_the_wire(transcoded(WHEEL / name, target))
    assert received.file_meta.TransferSyntaxUID == target
    assert received.SOPInstanceUID == dcmread(WHEEL / name).SOPInstanceUID
    assert received.PatientName == original.PatientName
    assert received.Rows == 64
    if target == ExplicitVRBigEndian:  # pydicom reads no pixels from a dataset in memory then
        swapped = bytearray(original.PixelData)
        swapped[::2], swapped[1::2] = swapped[1::2], swapped[::2]
        assert received.PixelData == bytes(swapped)
    else:
        assert (received.pixel_array == original.pixel_array).all()


def test_numbers_turn_round_with_the_pixels() -> None:
    received = on_the_wire(transcoded(WHEEL / "rtdose_expb.dcm", ImplicitVRLittleEndian))
    assert (received.BitsAllocated, received.FrameIncrementPointer) == (32, 0x3004000C)
    # OW is of words of 16 bits, whatever pixels are made of them (PS3.5 Section 8.1.1).
    assert received.PixelData[:4].hex() == "1300e80e"


@pytest.mark.parametrize(
    "name", ["SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_rle_2frame.dcm", "examples_jpeg2k.dcm"]
)
def test_colours_are_decompressed(name: str) -> None:
    stored = dcmread(WHEEL / name)
    received = on_the_wire(transcoded(WHEEL / name, ImplicitVRLittleEndian))
    assert received.PhotometricInterpretation == "RGB"
    assert (received.pixel_array == stored.pixel_array).all()
    assert received.SOPInstanceUID == stored.SOPInstanceUID


def test_without_pixels_only_the_encoding_changes() -> None:
    received = on_the_wire(transcoded(WHEEL / "reportsi.dcm", ImplicitVRLittleEndian))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert received == dcmread(WHEEL / "reportsi.dcm")


@pytest.mark.parametrize("target", [JPEG2000, JPEGBaseline8Bit])
def test_nothing_is_lost(target: UID) -> None:
    with pytest.raises(CannotTranscode, match="compression to JPEG"):
        transcoded(WHEEL / "MR_small.dcm", target)


def test_no_pixels_no_compression() -> None:
    with pytest.raises(CannotTranscode, match="no pixel data"):
        transcoded(WHEEL / "reportsi.dcm", RLELossless)


def test_damaged_pixels(tmp_path: Path) -> None:
    ds = dcmread(WHEEL / "MR_small_jp2klossless.dcm")
    ds.PixelData = ds.PixelData[:40]
    ds.save_as(tmp_path / "damaged.dcm")
    with pytest.raises(CannotTranscode, match="cannot be converted to Explicit VR"):
        transcoded(tmp_path / "damaged.dcm", ExplicitVRLittleEndian)


def test_no_memory_for_what_an_object_says_of_itself(tmp_path: Path) -> None:
    ds = dcmread(WHEEL / "MR_small_RLE.dcm")
    ds.Rows = ds.Columns = 65535
    ds.NumberOfFrames = "1000"
    ds.save_as(tmp_path / "bomb.dcm")
    with pytest.raises(CannotTranscode, match="more than"):
        transcoded(tmp_path / "bomb.dcm", ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("JPGExtended.dcm", b"\x04\x00\x01\x00"),  # rows and columns
        ("MR_small_jpeg_ls_lossless.dcm", b"\x00\x40\x00\x40"),
        ("MR_small_jp2klossless.dcm", b"\x00\x00\x00\x40\x00\x00\x00\x40"),
    ],
)
def test_a_frame_that_states_another_size_than_its_dataset_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: bytes
) -> None:
    ds = dcmread(WHEEL / name)
    assert size in ds.PixelData
    ds.PixelData = ds.PixelData.replace(size, size[:-1] + b"\x77", 1)
    ds.save_as(tmp_path / "bomb.dcm")
    monkeypatch.setattr(Dataset, "decompress", None)
    with pytest.raises(CannotTranscode, match="a frame and its dataset state different sizes"):
        transcoded(tmp_path / "bomb.dcm", ExplicitVRLittleEndian)


@pytest.mark.parametrize(("keyword", "value"), [("SamplesPerPixel", 3), ("BitsAllocated", 8)])
def test_a_frame_of_other_samples_than_its_dataset_states_is_not_decoded(
    tmp_path: Path, keyword: str, value: int
) -> None:
    ds = dcmread(WHEEL / "MR_small_jp2klossless.dcm")
    setattr(ds, keyword, value)
    ds.save_as(tmp_path / "bomb.dcm")
    with pytest.raises(CannotTranscode, match="a frame and its dataset state different sizes"):
        transcoded(tmp_path / "bomb.dcm", ExplicitVRLittleEndian)


def test_frames_that_the_dataset_does_not_tell_of_take_memory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = dcmread(WHEEL / "SC_rgb_rle_2frame.dcm")
    ds.NumberOfFrames = 1
    ds.save_as(tmp_path / "bomb.dcm")
    monkeypatch.setattr(transcode, "LARGEST", 100 * 100 * 3)
    with pytest.raises(CannotTranscode, match="more than"):
        transcoded(tmp_path / "bomb.dcm", ExplicitVRLittleEndian)


def test_a_frame_of_another_kind_than_its_syntax(tmp_path: Path) -> None:
    ds = dcmread(WHEEL / "MR_small_jp2klossless.dcm")
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.save_as(tmp_path / "other.dcm")
    with pytest.raises(CannotTranscode, match="a frame is not a JPEG image"):
        transcoded(tmp_path / "other.dcm", ExplicitVRLittleEndian)


def test_a_syntax_that_nobody_knows(tmp_path: Path) -> None:
    ds = dcmread(WHEEL / "MR_small.dcm")
    ds.file_meta.TransferSyntaxUID = UID("1.2.3.4")
    ds.save_as(tmp_path / "private.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(CannotTranscode, match=r"there is no codec for 1\.2\.3\.4"):
        transcoded(tmp_path / "private.dcm", ExplicitVRLittleEndian)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(CannotTranscode, match="its file is missing"):
        transcoded(tmp_path / "gone.dcm", ExplicitVRLittleEndian)


def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_decoder(JPEG2000Lossless), "_available", {})
    with pytest.raises(CannotTranscode, match=r"no codec for JPEG 2000 .*pip install"):
        transcoded(WHEEL / "MR_small_jp2klossless.dcm", ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("syntax", "accepted", "chosen"),
    [
        (JPEG2000, [ExplicitVRLittleEndian, JPEG2000], JPEG2000),
        (JPEG2000, [ImplicitVRLittleEndian, RLELossless], ImplicitVRLittleEndian),
        (JPEG2000, [ExplicitVRBigEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        (ImplicitVRLittleEndian, [RLELossless, JPEG2000], RLELossless),
        (ImplicitVRLittleEndian, [JPEG2000], None),
        (ImplicitVRLittleEndian, [], None),
    ],
)
def test_what_is_chosen(syntax: UID, accepted: list[UID], chosen: UID | None) -> None:
    assert choose(syntax, accepted) == chosen
