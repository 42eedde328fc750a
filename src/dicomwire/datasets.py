"""Encoding and decoding of datasets, under the name that programs import.

The modules of `data` define the functions.
"""

from __future__ import annotations

from dicomwire.data.codec import INFLATE_CEILING as INFLATE_CEILING
from dicomwire.data.codec import decode as decode
from dicomwire.data.codec import decode_for as decode_for
from dicomwire.data.codec import encode as encode
from dicomwire.data.codec import encode_dataset as encode_dataset
from dicomwire.data.codec import encoding_of as encoding_of
from dicomwire.data.codec import is_uncompressed as is_uncompressed
from dicomwire.data.file_meta import FileFormatError as FileFormatError
from dicomwire.data.file_meta import FileHead as FileHead
from dicomwire.data.file_meta import create_file_meta as create_file_meta
from dicomwire.data.file_meta import encode_file_meta as encode_file_meta
from dicomwire.data.file_meta import file_head as file_head
from dicomwire.data.file_meta import parse_file_meta as parse_file_meta
from dicomwire.data.file_meta import split_dataset as split_dataset
from dicomwire.data.pretty import pretty_dataset as pretty_dataset
from dicomwire.data.pretty import pretty_element as pretty_element
from dicomwire.data.scanner import DatasetError as DatasetError
