"""Objects that were made to harm: each is answered with a reason, and the node serves on."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from backends import of_folder
from images import compressed_object, image_object, opened
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from running_node import running, store, write
from web_client import Serving, client_of

from dicomwire.data.encodings import DatasetError
from dicomwire.data.file_meta import FileFormatError
from dicomwire.node.pixels.image import Image, NoSuchFrame, NotAnImage
from dicomwire.node.pixels.picture import CannotRender, Picture
from dicomwire.node.pixels.rendering import rendered

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
INSTANCES = "/dicom-web/studies/1.2.3/series/1.2.3.1/instances"
ENCODED = {
    "Rows": 64,
    "Columns": 64,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "PixelRepresentation": 0,
}


def _j2k_of(rows: int, columns: int) -> bytes:
    """Return the head of a JPEG 2000 image that states a size."""
    size = struct.pack(">2xH8LH", 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + b"\7\1\1"
    return b"\xff\x4f\xff\x51" + size[:2] + size[2:] + b"\xff\xd9"


def _rle_of(bytes_per_segment: int) -> bytes:
    """Return an RLE frame that expands to 128 times its length."""
    return struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * (bytes_per_segment // 2)


HOSTILE = [
    ("a frame of 65,535 rows", compressed_object([_j2k_of(65535, 9)], JPEG2000Lossless, **ENCODED)),
    ("a frame that expands", compressed_object([_rle_of(500_000)], RLELossless, **ENCODED)),
    ("an empty frame", compressed_object([bytes(2)], JPEG2000Lossless, **ENCODED)),
    ("more frames than can be", image_object(RAMP, NumberOfFrames=2**31 - 1)),
    ("frames without rows", image_object(RAMP, Rows=0)),
    ("65,535 rows and columns", image_object(RAMP, Rows=65535, Columns=65535)),
    ("65,535 samples", image_object(RAMP, SamplesPerPixel=65535)),
    ("bits of no kind", image_object(RAMP, BitsAllocated=12, BitsStored=12)),
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A node with hostile objects, of which the last one inflates to 200 MB."""
    folder = tmp_path_factory.mktemp("hostile")
    with running(folder, http=0) as node, client_of(node) as client:
        objects = []
        for number, (_, ds) in enumerate(HOSTILE, 1):
            ds.SOPInstanceUID = f"1.2.3.1.{number}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            objects.append(ds)
        bomb = image_object(b"", DeflatedExplicitVRLittleEndian, len(HOSTILE) + 1, **ENCODED)
        assert store(node, *objects, bomb) == [0] * (len(HOSTILE) + 1)
        _arm(folder, bomb)
        yield Serving(node, client)


def _arm(folder: Path, bomb: Dataset) -> None:
    """Replace the deflated object by one that inflates to 200 MB of pixels."""
    behind = of_folder(folder)
    for name, data in behind.contents(folder).items():
        if DeflatedExplicitVRLittleEndian.encode() + b"\0" not in data[:640]:
            continue
        plain = zlib.decompress(data[640:], -zlib.MAX_WBITS)
        at = plain.rindex(b"\xe0\x7f\x10\x00")
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        size = 200 * 10**6
        deflated = compressor.compress(plain[: at + 8] + struct.pack("<L", size))
        for _ in range(200):
            deflated += compressor.compress(bytes(10**6))
        behind.rewrite(folder, name, data[:640] + deflated + compressor.flush())


@pytest.mark.parametrize("number", range(1, len(HOSTILE) + 2))
def test_a_hostile_object_is_shown_or_refused_with_a_reason(served: Serving, number: int) -> None:
    path = f"{INSTANCES}/1.2.3.1.{number}"
    statuses = set()
    for part in ("/rendered", "/thumbnail", "/frames/1/rendered", "/frames/1"):
        answer = served.client.get(path + part, headers={"Accept": "image/png, */*"})
        statuses.add(answer.status_code)
        if answer.status_code != 200:
            assert answer.json()["detail"]
    assert statuses <= {200, 404, 406}
    assert served.client.get("/health").status_code == 200


# --- Any bytes ---


@pytest.mark.parametrize("seed", range(4))
def test_of_any_changed_file_there_is_a_picture_or_a_reason(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    ds = image_object(np.stack([RAMP, RAMP]), WindowCenter=100, WindowWidth=50, PixelPaddingValue=3)
    whole = write(tmp_path / "whole.dcm", ds).read_bytes()
    begin = whole.index(b"\x08\x00\x05\x00")
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(begin, len(data) - 1000)
            data[at] = random.randrange(256)
        if random.random() < 0.3:
            del data[random.randrange(begin, len(data)) :]
        try:
            image = Image(io.BytesIO(bytes(data)))
            frame = image.frame(2) if image.shape.rows * image.shape.columns < 10**6 else b""
            rendered(
                image.description(2),
                frame,
                image.transfer_syntax,
                image.shape,
                image.is_float,
                Picture(),
            )
        except (NotAnImage, NoSuchFrame, CannotRender, DatasetError, FileFormatError):
            continue


def test_functional_groups_of_a_frame_that_are_too_long_are_refused(tmp_path: Path) -> None:
    ds = image_object(RAMP)
    item = Dataset()
    item.add_new(0x00091001, "OB", bytes(5 * 2**20))
    ds.PerFrameFunctionalGroupsSequence = [item]
    with pytest.raises(DatasetError, match="too long"):
        opened(tmp_path, ds).description(1)
