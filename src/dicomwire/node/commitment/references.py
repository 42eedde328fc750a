"""References to objects: in the datasets of storage commitment, and in the payloads of tasks.

A request may have 100,000 of them. So they are read from, and written as, encoded items: pydicom
would need seconds and some 300 MB for the datasets.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import Association
from dicomwire.data.scanner import Elements, items_of, new_dataset
from dicomwire.sop_class import StorageCommitmentPushModel

SYNTAXES: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
"""The transfer syntaxes in which these datasets are written."""
TRANSACTION_UID = BaseTag(0x00081195)
REFERENCED = BaseTag(0x00081199)
FAILED = BaseTag(0x00081198)
_CLASS = BaseTag(0x00081150)
_INSTANCE = BaseTag(0x00081155)
_REASON = BaseTag(0x00081197)
_ITEM = struct.Struct("<HHI").pack
_EXPLICIT = struct.Struct("<HH2sH").pack
_IMPLICIT = struct.Struct("<HHI").pack

_is_uid = re.compile(rb"[0-9.]{1,64}").fullmatch


class Malformed(ValueError):
    """A dataset lacks what it needs to have; the text says what."""


class Reference(NamedTuple):
    """A reference to an object."""

    sop_class_uid: str
    sop_instance_uid: str


class Failure(NamedTuple):
    """A reference that failed, and the Failure Reason (PS3.3 Section C.14.1.1)."""

    reference: Reference
    reason: int


def uid_in(elements: Elements, tag: BaseTag) -> str:
    """Return the UID that an element has; Malformed if it has none."""
    element = elements.get(tag)
    value = getattr(element, "value", None)
    uid = value.rstrip(b"\0 ") if isinstance(value, bytes) else b""
    if not _is_uid(uid):
        raise Malformed(f"{tag} has no valid UID")
    return uid.decode()


def references_in(elements: Elements, tag: BaseTag = REFERENCED) -> list[Reference]:
    """Return the references in a sequence; Malformed if one lacks a UID."""
    return [
        Reference(uid_in(item, _CLASS), uid_in(item, _INSTANCE)) for item in _items(elements, tag)
    ]


def failures_in(elements: Elements) -> list[Failure]:
    """Return the references in the Failed SOP Sequence; Malformed if one lacks a UID."""
    return [
        Failure(Reference(uid_in(item, _CLASS), uid_in(item, _INSTANCE)), _reason_in(item))
        for item in _items(elements, FAILED)
    ]


def _items(elements: Elements, tag: BaseTag) -> Iterable[Elements]:
    element = elements.get(tag)
    return items_of(element) if isinstance(element, RawDataElement) and element.value else ()


def _reason_in(item: Elements) -> int:
    value = getattr(item.get(_REASON), "value", None)
    return int.from_bytes(value, "little") if isinstance(value, bytes) else 0


def dataset_of(
    transaction_uid: str,
    references: Iterable[Reference],
    failures: Iterable[Failure],
    transfer_syntax: str,
) -> Dataset:
    """Return the dataset of a request or a report, to be encoded in one of `SYNTAXES`.

    A sequence without items is left out.
    """
    is_implicit = transfer_syntax == ImplicitVRLittleEndian
    sequences = (
        (FAILED, b"".join(_item(each.reference, is_implicit, each.reason) for each in failures)),
        (REFERENCED, b"".join(_item(each, is_implicit) for each in references)),
    )
    values = [(TRANSACTION_UID, "UI", _padded(transaction_uid))]
    values += [(tag, "SQ", data) for tag, data in sequences if data]
    elements: Elements = {}
    for tag, vr, value in values:
        raw_vr = None if is_implicit else vr
        elements[tag] = RawDataElement(tag, raw_vr, len(value), value, 0, is_implicit, True)
    dataset = new_dataset(elements)
    dataset.set_original_encoding(is_implicit, True, default_encoding)
    return dataset


def syntax_of(association: Association) -> str | None:
    """Return the transfer syntax for storage commitment; None if the peer does not accept it."""
    for context in association.accepted_contexts:
        if context.abstract_syntax == StorageCommitmentPushModel:
            return str(context.transfer_syntax[0])
    return None


def _item(reference: Reference, is_implicit: bool, reason: int | None = None) -> bytes:
    parts = []
    values = [(_CLASS, b"UI", _padded(reference.sop_class_uid))]
    values.append((_INSTANCE, b"UI", _padded(reference.sop_instance_uid)))
    if reason is not None:
        values.append((_REASON, b"US", reason.to_bytes(2, "little")))
    for tag, vr, value in values:
        if is_implicit:
            parts.append(_IMPLICIT(tag.group, tag.element, len(value)))
        else:
            parts.append(_EXPLICIT(tag.group, tag.element, vr, len(value)))
        parts.append(value)
    data = b"".join(parts)
    return _ITEM(0xFFFE, 0xE000, len(data)) + data


def _padded(uid: str) -> bytes:
    data = uid.encode()
    return data + b"\0" if len(data) % 2 else data


# --- In tasks ---------------------------------------------------------------------------------


def pack(references: Sequence[Reference]) -> str:
    """Return references as a short text."""
    lines = "\n".join(f"{each.sop_class_uid} {each.sop_instance_uid}" for each in references)
    return base64.b85encode(zlib.compress(lines.encode(), 1)).decode()


def unpack(packed: str) -> list[Reference]:
    """Return the references that `pack` has packed."""
    lines = zlib.decompress(base64.b85decode(packed)).decode()
    return [Reference(*line.split(" ")) for line in lines.splitlines()]
