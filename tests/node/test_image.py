"""The frames of an image object: each is found, alone, however the object is encoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from images import compressed_object, image_object, opened
from pydicom import dcmread
from pydicom.encaps import encapsulate_extended, generate_frames
from pydicom.uid import MPEG2MPML, JPEGBaseline8Bit, RLELossless
from running_node import make_object, write

from dicomwire.data.encodings import DatasetError
from dicomwire.node.pixels.image import Image, NoSuchFrame, NotAnImage

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
FILES = [
    *("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "SC_rgb_rle_2frame.dcm"),
    *("JPEG2000.dcm", "examples_ybr_color.dcm", "rtdose.dcm", "rtdose_rle.dcm"),
]
ENCODED = {"Rows": 1, "Columns": 4, "BitsAllocated": 8, "BitsStored": 8}

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")  # as those files have


@pytest.mark.parametrize("name", FILES)
def test_frames_are_those_of_pydicom(name: str) -> None:
    ds = dcmread(WHEEL / name)
    number = int(ds.get("NumberOfFrames", 1))
    if ds["PixelData"].is_undefined_length:
        expected = list(generate_frames(ds.PixelData, number_of_frames=number))
    else:
        size = len(ds.PixelData) // number
        expected = [ds.PixelData[at * size : (at + 1) * size] for at in range(number)]
    with (WHEEL / name).open("rb") as file:
        image = Image(file)
        assert [image.frame(at + 1) for at in range(number)] == expected
        assert image.shape.frames == number


class Ranges(io.BytesIO):
    """A file that notes how many bytes are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_only_the_frame_that_is_asked_for_is_read(tmp_path: Path) -> None:
    pixels = np.arange(100, dtype=np.uint8)[:, None, None] * np.ones((1, 100, 1000), np.uint8)
    file = Ranges(write(tmp_path / "large.dcm", image_object(pixels)).read_bytes())
    assert Image(file).frame(70) == bytes([69]) * 100_000
    assert file.count < 200_000


def test_single_bits_begin_in_the_first_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (4, 3, 5), np.uint8)
    packed = np.packbits(bits, bitorder="little").tobytes()
    elements = {"Rows": 3, "Columns": 5, "NumberOfFrames": 4, "BitsAllocated": 1}
    image = opened(tmp_path, image_object(packed, **elements))
    for number in range(4):
        expected = np.packbits(bits[number], bitorder="little").tobytes()
        assert image.frame(number + 1) == expected


@pytest.mark.parametrize("has_bot", [True, False])
def test_a_table_of_offsets_is_used_if_there_is_one(has_bot: bool, tmp_path: Path) -> None:
    frames = [bytes([at]) * 2 * (at + 1) for at in range(10)]
    ds = compressed_object(frames, RLELossless, has_bot, NumberOfFrames=10, **ENCODED)
    image = opened(tmp_path, ds)
    assert [image.frame(at) for at in (3, 10, 1)] == [frames[2], frames[9], frames[0]]


def test_an_extended_table_of_offsets_is_used(tmp_path: Path) -> None:
    frames = [b"aaaa", b"bb", b"cccccc"]
    ds = compressed_object(frames, RLELossless, NumberOfFrames=3, **ENCODED)
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(
        frames
    )
    image = opened(tmp_path, ds)
    assert [image.frame(at) for at in (2, 3, 1)] == [frames[1], frames[2], frames[0]]


def _fragments(*values: bytes, table: bytes = b"") -> bytes:
    return b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value for value in (table, *values)
    )


def _image(path: Path, pixels: bytes, frames: int, syntax: str = JPEGBaseline8Bit) -> Image:
    ds = compressed_object([b"--"], syntax, False, NumberOfFrames=frames, **ENCODED)
    data = write(path / "whole.dcm", ds).read_bytes()
    begin = data.index(_fragments(b"--"))
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return Image(io.BytesIO(data[:begin] + pixels + end))


def test_frames_of_several_fragments_end_with_an_end_of_image(tmp_path: Path) -> None:
    pixels = _fragments(b"ab", b"c\xff\xd9\0", b"de", b"fg", b"\xff\xd9")
    image = _image(tmp_path, pixels, 2)
    assert [image.frame(1), image.frame(2)] == [b"abc\xff\xd9\0", b"defg\xff\xd9"]
    table = struct.pack("<II", 0, 22)
    image = _image(tmp_path, _fragments(b"ab", b"c\xff\xd9\0", b"de", b"fg", table=table), 2)
    assert [image.frame(2), image.frame(1)] == [b"defg", b"abc\xff\xd9\0"]


@pytest.mark.parametrize("table", [b"", b"\1\0\0\0", struct.pack("<II", 4, 2)])
def test_all_fragments_are_the_only_frame(table: bytes, tmp_path: Path) -> None:
    assert _image(tmp_path, _fragments(b"ab", b"cd", table=table), 1).frame(1) == b"abcd"


@pytest.mark.parametrize(
    ("pixels", "frames"),
    [
        (b"", 1),
        (b"rubbish!", 1),
        (_fragments(), 1),
        (_fragments(b"ab", b"cd", b"ef"), 2),
        (_fragments(b"ab", b"cd", table=struct.pack("<II", 0, 3)), 2),
        (_fragments(b"ab", b"cd", table=struct.pack("<II", 0, 4000)), 2),
    ],
)
def test_damaged_pixel_data_has_no_frames(pixels: bytes, frames: int, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        _image(tmp_path, pixels, frames).frame(frames)


def test_a_frame_beyond_the_last_one_is_not_there(tmp_path: Path) -> None:
    image = opened(tmp_path, image_object(np.zeros((2, 4, 4), np.uint8)))
    for number in (3, 10**9):
        with pytest.raises(NoSuchFrame):
            image.frame(number)


def test_pixel_data_that_is_shorter_than_it_states_is_damaged(tmp_path: Path) -> None:
    image = opened(tmp_path, image_object(np.zeros((4, 4), np.uint8), NumberOfFrames=2))
    assert len(image.frame(1)) == 16
    for read in (image.every_frame, lambda: image.frame(2)):
        with pytest.raises(DatasetError, match="shorter"):
            read()


def test_a_video_has_no_frames(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match="video"):
        _image(tmp_path, _fragments(b"ab"), 1, MPEG2MPML).frame(1)


@pytest.mark.parametrize("missing", ["PixelData", "Rows", "BitsAllocated"])
def test_an_object_without_pixels_or_their_size_is_not_an_image(
    missing: str, tmp_path: Path
) -> None:
    ds = image_object(np.zeros((4, 4), np.uint8))
    delattr(ds, missing)
    with pytest.raises(NotAnImage):
        opened(tmp_path, ds)
    with pytest.raises(NotAnImage):
        opened(tmp_path, make_object())
