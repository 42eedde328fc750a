"""Encoding and decoding of datasets for programs.

The modules of `data` define the functions.
"""

from __future__ import annotations

from dicomwire.data.codec import decode as decode
from dicomwire.data.codec import encode as encode
from dicomwire.data.file_meta import create_file_meta as create_file_meta
from dicomwire.data.file_meta import encode_file_meta as encode_file_meta
from dicomwire.data.file_meta import split_dataset as split_dataset
from dicomwire.data.pretty import pretty_dataset as pretty_dataset
from dicomwire.data.pretty import pretty_element as pretty_element
