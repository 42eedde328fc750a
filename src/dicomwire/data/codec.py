"""Encodes datasets and decodes them.

pydicom encodes and decodes the values. Pixel data are never decompressed.
"""

from __future__ import annotations

import logging
import re
import zlib
from typing import BinaryIO, Protocol

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicomwire.data.encodings import INFLATE_CEILING as INFLATE_CEILING
from dicomwire.data.encodings import DatasetError as DatasetError
from dicomwire.data.encodings import encoding_of as encoding_of
from dicomwire.data.encodings import is_uncompressed as is_uncompressed
from dicomwire.data.plain_encoder import encode_plain
from dicomwire.data.scanner import Elements, ScanLimits, Scanner
from dicomwire.protocol.limits import KIB, MIB, Limits

LOGGER = logging.getLogger("dicomwire")

_DEFAULT_LIMITS = Limits()
_DEFLATED_PIECE = 16 * KIB
_RATIO_CEILING = 200
_RATIO_FREE = 128 * MIB
"""Up to this size the ratio is not limited: a blank segmentation can deflate by 1,000 : 1."""
_MESSAGE_RATIO_FREE = MIB
"""The same for the datasets of other messages than C-STORE: they have no pixels."""

_BYTES_PER_ITEM = 24
_BYTES_PER_ELEMENT = 12
"""The fewest encoded bytes per item and per element; the densest functional groups have a few more.

An item contains elements, and an element has a value besides its header of 8 bytes. The ratio
bounds our memory: pydicom needs about 700 bytes for an item, and 450 for an element.
"""
_FREE_ITEMS = 10_000
_FREE_ELEMENTS = 20_000
"""Any message may have so many, because a small deflated dataset can rightly inflate to them."""


class Viewable(Protocol):
    """An object that holds the bytes of a dataset, such as a `Payload`."""

    def view(self) -> memoryview:
        """Return the bytes, if possible without copying them."""


Encoded = bytes | bytearray | memoryview | BinaryIO | Viewable
"""An encoded dataset: in memory, or a file positioned at the beginning of the dataset."""


_WITH_TAG = re.compile(r"(?:With tag (\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)) got exception: )+")


def encode_dataset(ds: Dataset, transfer_syntax: str) -> bytes:
    """Return `ds` encoded for `transfer_syntax`; DatasetError if that is not possible."""
    return _encode(ds, *encoding_of(transfer_syntax))


def encode(
    ds: Dataset, is_implicit_vr: bool, is_little_endian: bool, deflated: bool = False
) -> bytes | None:
    """Return `ds` encoded; None if that is not possible, with the reason in the log."""
    try:
        return _encode(ds, is_implicit_vr, is_little_endian, deflated)
    except DatasetError as error:
        LOGGER.error("%s", error)
        LOGGER.debug("The exception of the encoder", exc_info=error)
        return None


def _encode(ds: Dataset, implicit: bool, little: bool, deflated: bool) -> bytes:
    data = encode_plain(ds, implicit) if little else None
    if data is None:
        data = _encode_any(ds, implicit, little)
    return deflate(data) if deflated else data


def _encode_any(ds: Dataset, implicit: bool, little: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = implicit
    buffer.is_little_endian = little
    try:
        write_dataset(buffer, ds)
    except Exception as error:  # a value of the wrong type can raise anything in pydicom
        where = _WITH_TAG.match(str(error))
        at = f" at {where[1]}" if where else ""
        raise DatasetError(f"cannot encode the dataset: {type(error).__name__}{at}") from error
    return buffer.getvalue()


def deflate(data: bytes) -> bytes:
    """Return an encoded dataset as a deflated transfer syntax has it (PS3.5 Section A.5)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(data) + deflater.flush()
    return deflated + b"\0" if len(deflated) % 2 else deflated


def decode_for(
    data: Encoded,
    transfer_syntax: str,
    inflate_ceiling: int = INFLATE_CEILING,
    limits: Limits = _DEFAULT_LIMITS,
) -> Dataset:
    """Return the dataset in `data`, which is encoded for `transfer_syntax` (see `decode`)."""
    return decode(data, *encoding_of(transfer_syntax), inflate_ceiling, limits)


def decode(
    bytestring: Encoded,
    is_implicit_vr: bool,
    is_little_endian: bool,
    deflated: bool = False,
    inflate_ceiling: int = INFLATE_CEILING,
    limits: Limits = _DEFAULT_LIMITS,
) -> Dataset:
    """Return the dataset in `bytestring`; values are decoded when they are read.

    Time and memory are proportional to the size of `bytestring`, with a bound for small ones.

    Raises
    ------
    DatasetError
        If the data are truncated or not a dataset, have sequences nested more than 64 deep, have
        more items or elements than `limits` allow, or inflate to more than `inflate_ceiling` bytes
        (or, at a ratio above 200, to more than 128 MiB).
    """
    view = _view(bytestring)
    size = len(view)
    if deflated:
        ceiling = min(inflate_ceiling, max(_RATIO_FREE, _RATIO_CEILING * size))
        view = memoryview(_inflate(view, ceiling))
    most = ScanLimits(
        max(limits.dataset_items, size // _BYTES_PER_ITEM),
        max(limits.dataset_elements, size // _BYTES_PER_ELEMENT),
    )
    return _dataset(Scanner(view, is_implicit_vr, is_little_endian, most))


def decode_message(data: Encoded, transfer_syntax: str, limits: Limits) -> Dataset:
    """Return the dataset of a message other than C-STORE, such as an identifier.

    Raises
    ------
    DatasetError
        As for `decode`. The limits are lower, because such a dataset has no pixels.
    """
    return _dataset(_message_scanner(data, transfer_syntax, limits))


def message_elements(data: Encoded, transfer_syntax: str, limits: Limits) -> Elements:
    """Return the raw elements of the dataset of a message; see `decode_message`, `items_of`."""
    return _message_scanner(data, transfer_syntax, limits).elements()


def _message_scanner(data: Encoded, transfer_syntax: str, limits: Limits) -> Scanner:
    is_implicit, is_little, is_deflated = encoding_of(transfer_syntax)
    view = _view(data)
    size = len(view)
    if is_deflated:
        ceiling = min(limits.identifier, max(_MESSAGE_RATIO_FREE, _RATIO_CEILING * size))
        view = memoryview(_inflate(view, ceiling))
    most = ScanLimits(
        min(limits.dataset_items, max(_FREE_ITEMS, size // _BYTES_PER_ITEM)),
        min(limits.dataset_elements, max(_FREE_ELEMENTS, size // _BYTES_PER_ELEMENT)),
    )
    return Scanner(view, is_implicit, is_little, most)


def _dataset(scanner: Scanner) -> Dataset:
    try:
        return scanner.dataset()
    except DatasetError:
        raise
    except Exception as error:  # a character set that pydicom cannot interpret
        raise DatasetError(f"cannot decode the dataset: {type(error).__name__}") from error


def _view(data: Encoded) -> memoryview:
    if isinstance(data, bytes | bytearray | memoryview):
        return memoryview(data)
    if hasattr(data, "view"):
        return data.view()
    return memoryview(data.read())


def _inflate(view: memoryview, ceiling: int) -> bytearray:
    """Inflate a raw deflate stream (PS3.5 Section A.5) to at most `ceiling` bytes.

    It inflates in pieces, because zlib needs twice the memory to inflate all at once.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = bytearray()
    try:
        for start in range(0, len(view), _DEFLATED_PIECE):
            piece = view[start : start + _DEFLATED_PIECE]
            data += inflater.decompress(piece, ceiling + 1 - len(data))
            if len(data) > ceiling:
                raise DatasetError(f"the dataset inflates to more than {ceiling} bytes")
    except zlib.error as error:
        raise DatasetError("the dataset is not deflated, or damaged") from error
    if not inflater.eof:
        raise DatasetError("the deflated dataset is truncated")
    return data
