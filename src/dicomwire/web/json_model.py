"""Reads the DICOM JSON Model (PS3.18 Annex F): an array of datasets that arrives in pieces."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset

from dicomwire.web.multipart import Malformed

BulkData = Callable[[str, str, str], bytes | None]
"""Returns the value of an element by its tag, its VR and the URL of its value."""

LARGEST_ITEM = 64 * 1024 * 1024
"""The most characters of one dataset: metadata have no pixels."""
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class ArrayReader:
    """Takes the bytes of an array, and returns its items as soon as they are complete."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._separator = "["  # before the next item
        self._enough = 0  # characters before the next attempt: each takes as long as the item is

    def feed(self, data: bytes, is_end: bool = False) -> Iterator[Any]:
        """Yield the items that are complete with these bytes.

        Raises
        ------
        Malformed
            If the text is no array, or an item is too large.
        """
        try:
            self._text += self._decoder.decode(data, is_end)
        except UnicodeDecodeError:
            raise Malformed("the text is not UTF-8") from None
        if len(self._text) < self._enough and not is_end:
            return
        text, at = self._text, 0
        self._enough = 0
        while (begin := self._item_at(text, at)) is not None:
            try:
                item, at = _DECODER.raw_decode(text, begin)
            except ValueError:  # it is not complete, or malformed
                if len(text) - at > LARGEST_ITEM or is_end:
                    raise Malformed("a dataset is malformed or too long") from None
                self._enough = 2 * (len(text) - at)
                break
            except RecursionError:
                raise Malformed("a dataset is nested too deep") from None
            self._separator = ","
            yield item
        self._text = text[at:]

    def finish(self) -> Iterator[Any]:
        """Yield the remaining items at the end of the response.

        Raises
        ------
        Malformed
            If the array is not complete.
        """
        yield from self.feed(b"", is_end=True)
        if "".join(self._text.split()) != ("]" if self._separator == "," else "[]"):
            raise Malformed("the array ends before its last dataset")

    def _item_at(self, text: str, at: int) -> int | None:
        """Return where the next item begins, after its separator; None if it has not arrived."""
        at = _after_space(text, at)
        if at == len(text) or (text[at] == "]" and self._separator == ","):
            return None
        if text[at] != self._separator:
            raise Malformed("the text is no array of datasets")
        at = _after_space(text, at + 1)
        is_empty = text.startswith("]", at) and self._separator == "["
        return None if at == len(text) or is_empty else at


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def dataset_of(item: Any, bulk_data: BulkData | None = None) -> Dataset:
    """Return the dataset of an item; `Malformed` if it is none.

    Parameters
    ----------
    bulk_data : callable, optional
        Called for each value that the server gives as a URL; without it, such elements are empty.
    """
    if not isinstance(item, dict):
        raise Malformed("a dataset is no object")
    try:
        return Dataset.from_json(item, bulk_data or _no_value)
    except Exception as error:  # pydicom raises many kinds of errors for bad values
        raise Malformed(f"a dataset is malformed: {type(error).__name__}") from None


def _no_value(tag: str, vr: str, url: str) -> None:
    return None
