"""Datasets to bytes and back, by dicomwire."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset

from dicomwire import dsutils as _dsutils
from dicomwire.dsutils import *
from dicomwire.implementation import (
    IMPLEMENTATION_CLASS_UID as PYNETDICOM_IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION_NAME as PYNETDICOM_IMPLEMENTATION_VERSION,
)


def decode(
    bytestring: BytesIO, is_implicit_vr: bool, is_little_endian: bool, deflated: bool = False
) -> Dataset:
    """Return the dataset in all of `bytestring`, wherever its position is."""
    return _dsutils.decode(bytestring.getvalue(), is_implicit_vr, is_little_endian, deflated)
