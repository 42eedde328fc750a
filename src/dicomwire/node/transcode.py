"""Converts objects to another transfer syntax, for peers that do not accept the stored one.

Conversions are lossless, so the SOP Instance UID stays the same (PS3.5 Section 8).
"""

from __future__ import annotations

import array
import hashlib
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomwire.data.codec import decode_for, encode_dataset, encoding_of, is_uncompressed
from dicomwire.data.file_meta import file_head, split_dataset
from dicomwire.node.codestreams import Shape, UnknownFrame, shape_of

LOGGER = logging.getLogger("dicomwire.node")

LARGEST = 2**30
"""The most bytes of pixel data to decode: more would not fit into `converters.MEMORY`."""
_UNCOMPRESSED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
_LOSSLESS = (JPEGLSLossless, JPEG2000Lossless, RLELossless)
_WORD_LENGTHS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_CODES = {2: "H", 4: "I", 8: "Q"}


class CannotTranscode(Exception):
    """An object cannot be converted; the text says why, without values of the object."""


def choose(syntax: str, accepted: Collection[str]) -> UID | None:
    """Return the one of the `accepted` transfer syntaxes to send an object in; None for none.

    First choice is its own, then an uncompressed one, then one with lossless compression.
    """
    for candidate in (UID(syntax), *_UNCOMPRESSED, *_LOSSLESS):
        if candidate in accepted:
            return candidate
    return None


def transcoded(path: Path, target: str) -> Dataset:
    """Return the object of a DICOM file, converted to the transfer syntax `target`.

    The dataset has `file_meta`. pydicom compresses and decompresses, with the installed codecs.

    Raises
    ------
    CannotTranscode
        When the object cannot be read or converted.
    """
    try:
        ds = _read(path)
        source = ds.file_meta.TransferSyntaxUID
        if not is_uncompressed(source):
            _decompress(ds)
        if encoding_of(source)[1] != encoding_of(target)[1]:
            _swap(ds)
        if not is_uncompressed(target):
            _compress(ds, UID(target))
        _declare(ds, UID(target))
    except CannotTranscode:
        raise
    except FileNotFoundError:
        raise CannotTranscode("its file is missing") from None
    except Exception as error:  # pydicom, its plugins and their libraries raise all kinds of errors
        LOGGER.debug("An object cannot be converted", exc_info=error)
        text = f"cannot be converted to {UID(target).name} ({type(error).__name__})"
        raise CannotTranscode(text) from None
    return ds


def pixel_digest(path: Path) -> str:
    """Return a digest of the decoded samples of a DICOM file, the same for every compression.

    Samples are ordered by pixel; colours are converted to RGB where pydicom can do that.

    Raises
    ------
    CannotTranscode
        When the pixels cannot be decoded.
    """
    ds = transcoded(path, ExplicitVRLittleEndian)
    digest = hashlib.sha256()
    try:
        for samples, described in get_decoder(ExplicitVRLittleEndian).iter_array(ds):
            digest.update(samples.tobytes())
            digest.update(str(described["photometric_interpretation"]).encode())
    except Exception as error:  # as above
        raise CannotTranscode(f"cannot be decoded ({type(error).__name__})") from None
    return digest.hexdigest()


def write_transcoded(path: Path, target: str, output: Path) -> None:
    """Convert the object of a DICOM file to the transfer syntax `target`; write it to `output`.

    Raises
    ------
    CannotTranscode
        When it cannot be converted or written.
    """
    ds = transcoded(path, target)
    try:
        data = encode_dataset(ds, target)
        with output.open("wb") as file:
            file.write(file_head(ds.SOPClassUID, ds.SOPInstanceUID, target))
            file.write(data)
    except OSError as error:
        raise CannotTranscode(f"cannot be written: {error.strerror}") from None
    except Exception as error:
        text = f"cannot be encoded as {UID(target).name} ({type(error).__name__})"
        raise CannotTranscode(text) from None


def _read(path: Path) -> Dataset:
    meta, offset = split_dataset(path)
    with path.open("rb") as file:
        file.seek(offset)
        ds = decode_for(file, meta.TransferSyntaxUID)
    ds.file_meta = FileMetaDataset(meta)
    return ds


def _decompress(ds: Dataset) -> None:
    if "PixelData" not in ds:
        return  # the other elements are in Explicit VR Little Endian already
    _check_codec(get_decoder, ds.file_meta.TransferSyntaxUID)
    _check_size(ds, _check_frames(ds))
    ds.decompress(generate_instance_uid=False)


def _compress(ds: Dataset, target: UID) -> None:
    if target not in _LOSSLESS:
        raise CannotTranscode(f"compression to {target.name} is not supported")
    if "PixelData" not in ds:
        raise CannotTranscode("it has no pixel data to compress")
    _check_codec(get_encoder, target)
    _check_size(ds, int(ds.get("NumberOfFrames") or 1))
    ds.compress(target, generate_instance_uid=False)


def _check_codec(get: Callable[[str], Any], syntax: UID) -> None:
    try:
        is_available = get(syntax).is_available
    except NotImplementedError:
        raise CannotTranscode(f"there is no codec for {syntax.name}") from None
    if not is_available:
        raise CannotTranscode(f"no codec for {syntax.name} (pip install 'dicomwire[codecs]')")


def _check_size(ds: Dataset, frames: int) -> None:
    """Raise CannotTranscode if, by the dataset, the pixels take more than `LARGEST` bytes."""
    samples = ds.get("SamplesPerPixel", 1) * ds.get("BitsAllocated", 8) // 8
    if frames * ds.get("Rows", 0) * ds.get("Columns", 0) * max(samples, 1) > LARGEST:
        raise CannotTranscode(f"its pixel data has more than {LARGEST} bytes")


def _check_frames(ds: Dataset) -> int:
    """Check that all frames have the size that the dataset states; return their number.

    Decoders allocate memory by the header of a frame, which may state any size in a few bytes.
    """
    offsets, lengths = ds.get("ExtendedOffsetTable"), ds.get("ExtendedOffsetTableLengths")
    frames = generate_frames(
        ds.PixelData,
        number_of_frames=int(ds.get("NumberOfFrames") or 1),
        extended_offsets=(offsets, lengths) if offsets and lengths else None,
    )
    number = 0
    for frame in frames:
        number += 1
        try:
            shape = shape_of(frame, ds.file_meta.TransferSyntaxUID)
        except UnknownFrame as error:
            raise CannotTranscode(str(error)) from None
        if not _fits(shape, ds):
            raise CannotTranscode("a frame and its dataset state different sizes")
    return number


def _fits(shape: Shape, ds: Dataset) -> bool:
    """Return whether all sizes that a frame header states agree with the dataset."""
    if shape.bits is not None and shape.bits > ds.BitsAllocated:
        return False
    pairs = zip(shape[:3], (ds.Rows, ds.Columns, ds.SamplesPerPixel), strict=True)
    return all(found is None or found == wanted for found, wanted in pairs)


def _swap(ds: Dataset) -> None:
    """Swap the bytes of words in values that pydicom keeps as bytes (PS3.5 Section 7.3)."""
    for element in ds.iterall():
        length = _WORD_LENGTHS.get(element.VR)
        if length is not None and element.value:
            words = array.array(_CODES[length], element.value)
            words.byteswap()
            element.value = words.tobytes()


def _declare(ds: Dataset, syntax: UID) -> None:
    """Decode all elements of `ds`, and set its transfer syntax to `syntax`."""
    for _ in ds.iterall():
        pass  # this decodes them; an undecoded element would be written in its old encoding
    ds.file_meta.TransferSyntaxUID = syntax
    implicit, little, _ = encoding_of(syntax)
    ds.set_original_encoding(implicit, little, ds.original_character_set)
