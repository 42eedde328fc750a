"""What the headers of compressed frames state: a size, or that they are no such frame."""

from __future__ import annotations

import contextlib
import struct
import warnings
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicomwire.node.codestreams import Shape, UnknownFrame, shape_of

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
JPEG_XL = "1.2.840.10008.1.2.4.110"
SIZED = [
    "693_J2KI.dcm",
    "GDCMJ2K_TextGBR.dcm",  # in a JP2 file
    "JPGExtended.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "examples_jpeg2k.dcm",
]
SYNTAXES = [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000, HTJ2K, RLELossless, JPEG_XL]


def frame_of(name: str) -> tuple[bytes, str]:
    """Return the first frame of one of pydicom's files, and its transfer syntax."""
    ds = dcmread(WHEEL / name)
    frames = generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1)))
    return next(iter(frames)), ds.file_meta.TransferSyntaxUID


@pytest.mark.parametrize("name", SIZED)
def test_a_frame_states_the_size_of_its_image(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dcmread(WHEEL / name)
        shape = shape_of(*frame_of(name))
    assert shape[:3] == (ds.Rows, ds.Columns, ds.SamplesPerPixel)
    assert shape.bits <= ds.BitsAllocated


def test_high_throughput_jpeg_2000_has_the_header_of_jpeg_2000() -> None:
    frame, _ = frame_of("MR_small_jp2klossless.dcm")
    assert shape_of(frame, HTJ2KLossless) == Shape(64, 64, 1, 16)


def test_the_size_of_a_jpeg_2000_image_is_what_is_left_of_its_grid() -> None:
    frame, _ = frame_of("examples_jpeg2k.dcm")
    at = frame.index(b"\xff\x51") + 6
    right, bottom = 641, 483
    moved = frame[:at] + struct.pack(">4L", right, bottom, 3, 5) + frame[at + 16 :]
    assert shape_of(moved, JPEG2000Lossless)[:2] == (478, 638)


def test_rle_frames_state_no_size() -> None:
    assert shape_of(*frame_of("MR_small_RLE.dcm")) == Shape(None, None, None, None)


@pytest.mark.parametrize(
    ("begin", "rows", "columns"),
    [
        ("ff0a314150dc080804010018004b188b158201", 200, 300),
        ("ff0a4f4050dc080800010018004b188b158201", 64, 64),
        ("ff0af83e101437020802010018000000400004400004400004004b188b15", 480, 640),
        ("ff0a4218e87c80a0b811080201001c000000c0011cc0011cc0011cc0011c", 777, 1000),
        ("ff0a1000df2202417123080201001c000000000000000000000000000000", 3, 70000),
    ],
)
def test_jpeg_xl_states_rows_and_columns(begin: str, rows: int, columns: int) -> None:
    codestream = bytes.fromhex(begin)
    signature = bytes.fromhex("0000000c4a584c200d0a870a00000014667479706a786c20000000006a786c20")
    whole = struct.pack(">L4s", 8 + len(codestream), b"jxlc") + codestream
    in_parts = struct.pack(">L4sL", 12 + len(codestream), b"jxlp", 0) + codestream
    for frame in (codestream, signature + whole, signature + in_parts):
        assert shape_of(frame, JPEG_XL)[:2] == (rows, columns)


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(frame=st.binary(max_size=200))
def test_what_is_no_frame_is_told_from_one(syntax: str, frame: bytes) -> None:
    with contextlib.suppress(UnknownFrame):
        shape_of(frame, syntax)


@pytest.mark.parametrize("name", [*SIZED, "MR_small_RLE.dcm"])
def test_a_frame_that_ends_in_its_header_is_none(name: str) -> None:
    frame, syntax = frame_of(name)
    for length in range(10):
        with pytest.raises(UnknownFrame):
            shape_of(frame[:length], syntax)


def test_a_size_that_is_stated_twice_is_none() -> None:
    frame, syntax = frame_of("MR_small_jpeg_ls_lossless.dcm")
    oversize = b"\xff\xf8" + struct.pack(">HBBLL", 12, 4, 4, 65535, 65535)
    with pytest.raises(UnknownFrame, match="twice"):
        shape_of(frame[:2] + oversize + frame[2:], syntax)


def test_a_syntax_without_a_known_header() -> None:
    with pytest.raises(UnknownFrame, match="no known header"):
        shape_of(b"\0\0\1\xb3", MPEG2MPML)
