"""Encoding and decoding of datasets for programs.

The modules of `data` define the functions.
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
