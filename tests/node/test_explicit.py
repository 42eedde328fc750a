"""An object in Implicit VR becomes one in Explicit VR, without its pixels in memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from images import image_object
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from running_node import make_object, write

from dicomwire.data.encodings import DatasetError
from dicomwire.node import explicit
from dicomwire.node.explicit import TooLong, explicit_pieces

WHEEL = Path(pydicom.data.__file__).parent / "test_files"

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


def _converted(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(explicit_pieces(file))


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "rtdose.dcm", "rtplan.dcm"])
def test_all_values_are_those_of_the_stored_object(name: str) -> None:
    stored = dcmread(WHEEL / name)
    assert stored.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    converted = dcmread(io.BytesIO(_converted(WHEEL / name)))
    assert converted.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert converted == stored


def test_elements_after_the_pixels_and_ambiguous_ones_are_converted(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.int16).reshape(4, 4) - 8
    ds = image_object(pixels, ImplicitVRLittleEndian)
    ds.add_new("PixelPaddingValue", "SS", -5)
    ds.add_new("DataSetTrailingPadding", "OB", b"\0" * 20)
    converted = dcmread(io.BytesIO(_converted(write(tmp_path / "implicit.dcm", ds))))
    assert converted["PixelPaddingValue"].VR == "SS"
    assert converted.PixelPaddingValue == -5
    assert converted.DataSetTrailingPadding == b"\0" * 20
    assert (converted.pixel_array == pixels).all()


def test_pixels_are_copied_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explicit, "_PIECE", 10)
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = write(tmp_path / "implicit.dcm", image_object(pixels, ImplicitVRLittleEndian))
    with path.open("rb") as file:
        pieces = list(explicit_pieces(file))
    assert pieces[2:9] == [pixels.tobytes()[at : at + 10] for at in range(0, 64, 10)]


def test_what_is_too_long_is_said_before_the_first_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explicit, "_MOST", 100)
    path = write(tmp_path / "implicit.dcm", make_object(syntax=ImplicitVRLittleEndian))
    with path.open("rb") as file, pytest.raises(TooLong):
        next(explicit_pieces(file))


@pytest.mark.parametrize("cut", [1, 10, 70])
def test_a_damaged_object_is_refused(cut: int, tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = write(tmp_path / "implicit.dcm", image_object(pixels, ImplicitVRLittleEndian))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DatasetError):
        _converted(path)


def test_an_object_without_pixels_is_converted(tmp_path: Path) -> None:
    ds = make_object(syntax=ImplicitVRLittleEndian)
    item = Dataset()
    item.CodeValue = "1"
    ds.ProcedureCodeSequence = [item]
    converted = dcmread(io.BytesIO(_converted(write(tmp_path / "implicit.dcm", ds))))
    assert converted == ds
