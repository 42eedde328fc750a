"""Datasets to bytes and back, for programs: the part of `data` that they may rely on.

Nothing is made here.
"""

from __future__ import annotations

from dicomwire.data.codec import decode, encode
from dicomwire.data.file_meta import create_file_meta, encode_file_meta, split_dataset
from dicomwire.data.pretty import pretty_dataset, pretty_element

__all__ = [
    "create_file_meta",
    "decode",
    "encode",
    "encode_file_meta",
    "pretty_dataset",
    "pretty_element",
    "split_dataset",
]
