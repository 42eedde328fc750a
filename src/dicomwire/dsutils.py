"""Datasets to bytes and back, for programs: what of `datasets` they may rely on.

Nothing is made here.
"""

from __future__ import annotations

from dicomwire.datasets import (
    create_file_meta,
    decode,
    encode,
    encode_file_meta,
    pretty_dataset,
    pretty_element,
    split_dataset,
)

__all__ = [
    "create_file_meta",
    "decode",
    "encode",
    "encode_file_meta",
    "pretty_dataset",
    "pretty_element",
    "split_dataset",
]
