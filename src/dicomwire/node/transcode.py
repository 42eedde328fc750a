"""An object in another transfer syntax, for peers that do not accept the one it is stored in.

Nothing is lost here: compression is lossless, and the SOP Instance UID stays (PS3.5 Section 8).
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
"""Pixel data of more bytes than this is not decoded."""
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
    """The object cannot be had in the transfer syntax; the text says why, without its values."""


def choose(syntax: str, accepted: Collection[str]) -> UID | None:
    """Return in which of the `accepted` transfer syntaxes to send an object; None for none.

    It is its own if possible, then an uncompressed one, then one of lossless compression.
    """
    for candidate in (UID(syntax), *_UNCOMPRESSED, *_LOSSLESS):
        if candidate in accepted:
            return candidate
    return None


def transcoded(path: Path, target: str) -> Dataset:
    """Return the object of a DICOM file in the transfer syntax `target`, with `file_meta`.

    Compression and decompression are pydicom's, with the codecs that are installed.

    Raises
    ------
    CannotTranscode
        When that is not possible.
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
        raise CannotTranscode("its file is gone") from None
    except Exception as error:  # pydicom, its plugins and their libraries raise anything
        LOGGER.debug("An object cannot be converted", exc_info=error)
        text = f"cannot be converted to {UID(target).name} ({type(error).__name__})"
        raise CannotTranscode(text) from None
    return ds


def pixel_digest(path: Path) -> str:
    """Return a digest of the decoded samples of a DICOM file, the same in every encoding.

    Colours are taken by pixel, in RGB where they are stored in another space that has it.

    Raises
    ------
    CannotTranscode
        When they cannot be decoded.
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
    """Write the object of a DICOM file, in the transfer syntax `target`, to another file.

    Raises
    ------
    CannotTranscode
        When it cannot be had in that, or not be written.
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
        return  # what else there is, is encoded as Explicit VR Little Endian has it
    _check_codec(get_decoder, ds.file_meta.TransferSyntaxUID)
    _check_size(ds, _check_frames(ds))
    ds.decompress(generate_instance_uid=False)


def _compress(ds: Dataset, target: UID) -> None:
    if target not in _LOSSLESS:
        raise CannotTranscode(f"nothing is compressed to {target.name}")
    if "PixelData" not in ds:
        raise CannotTranscode("it has no pixel data to be compressed")
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
    """Refuse what would take too much memory by what the dataset states."""
    samples = ds.get("SamplesPerPixel", 1) * ds.get("BitsAllocated", 8) // 8
    if frames * ds.get("Rows", 0) * ds.get("Columns", 0) * max(samples, 1) > LARGEST:
        raise CannotTranscode(f"its pixel data has more than {LARGEST} bytes")


def _check_frames(ds: Dataset) -> int:
    """Refuse frames of another size than the dataset states; return how many there are.

    Decoders go by the header of a frame, which may state any size in a few bytes.
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
            raise CannotTranscode("a frame is of another size than its dataset states")
    return number


def _fits(shape: Shape, ds: Dataset) -> bool:
    """Return whether a frame header agrees with the dataset, as far as it states something."""
    if shape.bits is not None and shape.bits > ds.BitsAllocated:
        return False
    pairs = zip(shape[:3], (ds.Rows, ds.Columns, ds.SamplesPerPixel), strict=True)
    return all(found is None or found == wanted for found, wanted in pairs)


def _swap(ds: Dataset) -> None:
    """Turn words round where pydicom takes them for bytes (PS3.5 Section 7.3)."""
    for element in ds.iterall():
        length = _WORD_LENGTHS.get(element.VR)
        if length is not None and element.value:
            words = array.array(_CODES[length], element.value)
            words.byteswap()
            element.value = words.tobytes()


def _declare(ds: Dataset, syntax: UID) -> None:
    """Let `ds` say that it is in `syntax`: none of its elements may be in another one then."""
    for _ in ds.iterall():
        pass  # by which it is decoded
    ds.file_meta.TransferSyntaxUID = syntax
    implicit, little, _ = encoding_of(syntax)
    ds.set_original_encoding(implicit, little, ds.original_character_set)
