"""From stored values to grey levels of the screen: the grayscale pipeline (PS3.4 Section N.2).

Modality LUT, VOI LUT and Presentation LUT are one table with an entry for each possible word of
the pixel data; so a frame takes one look-up per pixel, whatever its description says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from dicomwire.node.pixels.picture import (
    LINEAR,
    LINEAR_EXACT,
    SIGMOID,
    CannotRender,
    Window,
)

Array = np.ndarray[Any, Any]

_WHITE = 255


class Table(NamedTuple):
    """A LUT of the dataset (PS3.3 Sections C.11.1.1 and C.11.2.1.1)."""

    first: int
    """The value of the first entry; lower ones have the same."""
    bits: int
    entries: tuple[int, ...]


@dataclass(frozen=True)
class Tones:
    """What stored values mean.

    Attributes
    ----------
    word : int
        The bits of a word of the pixel data.
    stored, high : int
        How many bits of it are a value, and the number of the highest of these.
    padding : tuple of int, optional
        The lowest and the highest value that stand for "no pixel here".
    """

    word: int
    stored: int
    high: int
    is_signed: bool
    modality: Table | None = None
    slope: float = 1.0
    intercept: float = 0.0
    voi: Window | Table | None = None
    is_inverted: bool = False
    padding: tuple[int, int] | None = None

    def values(self, words: Array) -> Array:
        """Return the stored values in words of the pixel data (PS3.5 Section 8.1.1)."""
        values = words.astype(np.int64) >> max(self.high + 1 - self.stored, 0)
        values &= (1 << self.stored) - 1
        if self.is_signed:
            values -= (values >> (self.stored - 1)) << self.stored
        return values

    def rescaled(self, values: Array) -> Array:
        """Return the output of the Modality LUT."""
        if self.modality is not None:
            return _looked_up(self.modality, values)
        return values * self.slope + self.intercept

    def levels(self, rescaled: Array) -> Array:
        """Return levels from 0 to 255 for the output of the Modality LUT."""
        if isinstance(self.voi, Table):
            highest = (1 << self.voi.bits) - 1
            levels = _looked_up(self.voi, np.rint(rescaled).astype(np.int64)) * (_WHITE / highest)
        else:
            assert self.voi is not None
            levels = _windowed(self.voi, rescaled)
        levels = np.floor(np.clip(levels, 0, _WHITE) + 0.5).astype(np.uint8)
        return _WHITE - levels if self.is_inverted else levels

    def is_padding(self, values: Array) -> Array | None:
        """Return where values stand for "no pixel here"."""
        if self.padding is None:
            return None
        first, last = self.padding
        return (values >= first) & (values <= last)

    def suited(self, words: Array) -> Tones:
        """Return these tones with a VOI LUT: if there is none, the window with all values of a
        frame; but all values that there can be where they are grey levels of eight bits or fewer.
        """
        if self.voi is not None:
            return self
        if self.stored <= 8 and not self.is_signed and self.modality is None:
            lowest, highest = (
                self.slope * value + self.intercept for value in (0, (1 << self.stored) - 1)
            )
        else:
            lowest, highest = self._extent(words)
        center, width = (lowest + highest) / 2, abs(highest - lowest)
        return replace(self, voi=Window(center, width or 1.0, LINEAR_EXACT))

    def _extent(self, words: Array) -> tuple[float, float]:
        values = self.values(np.unique(words))
        padding = self.is_padding(values)
        if padding is not None and not padding.all():
            values = values[~padding]
        rescaled = self.rescaled(values)
        return float(rescaled.min()), float(rescaled.max())


def grey(words: Array, tones: Tones) -> Array:
    """Return the grey levels of a frame: unsigned words in, 0 (black) to 255 out."""
    tones = tones.suited(words)
    if tones.word <= 16:
        return _table(tones).take(words)
    return _levels(tones, words)


@lru_cache(maxsize=16)
def _table(tones: Tones) -> Array:
    """Return the levels of all words: the images of a series mostly have the same."""
    return _levels(tones, np.arange(1 << tones.word))


def _levels(tones: Tones, words: Array) -> Array:
    values = tones.values(words)
    levels = tones.levels(tones.rescaled(values))
    padding = tones.is_padding(values)
    if padding is not None:
        levels[padding] = 0
    return levels


def grey_of_floats(samples: Array, voi: Window | None, is_inverted: bool) -> Array:
    """Return the grey levels of a frame of floating-point samples; NaN is black."""
    finite = samples[np.isfinite(samples)]
    if voi is None:
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        voi = Window((lowest + highest) / 2, (highest - lowest) or 1.0, LINEAR_EXACT)
    tones = Tones(64, 64, 63, True, voi=voi, is_inverted=is_inverted)
    levels = tones.levels(np.nan_to_num(samples.astype(np.float64), posinf=1e300, neginf=-1e300))
    levels[np.isnan(samples)] = 0
    return levels


def _looked_up(table: Table, values: Array) -> Array:
    entries = np.asarray(table.entries, np.float64)
    return entries.take(values - table.first, mode="clip")


def _windowed(window: Window, values: Array) -> Array:
    center, width, function = window
    if function == SIGMOID:
        with np.errstate(over="ignore"):
            return _WHITE / (1 + np.exp(-4 * (values - center) / width))
    if function == LINEAR:
        if width <= 1:  # a threshold; the quotient below is not defined
            return np.where(values <= center - 0.5, 0, _WHITE)
        return ((values - (center - 0.5)) / (width - 1) + 0.5) * _WHITE
    return ((values - center) / width + 0.5) * _WHITE


# --- From the dataset -------------------------------------------------------------------------


def tones_of(ds: Dataset, word: int, window: Window | None) -> Tones:
    """Return the tones that a dataset describes, with a window instead of its own if there is one.

    Raises
    ------
    CannotRender
        When it describes none that make sense.
    """
    stored = int(ds.get("BitsStored") or word)
    high = int(ds.get("HighBit", stored - 1))
    if not 0 < stored <= word or not 0 <= high < word:
        raise CannotRender("its stored bits do not fit into its words")
    transformation = _functional_group(ds, "PixelValueTransformationSequence", ds)
    is_signed = bool(ds.get("PixelRepresentation"))
    return Tones(
        word,
        stored,
        high,
        is_signed,
        modality=_table_of(ds.get("ModalityLUTSequence"), is_signed),
        slope=_number(transformation.get("RescaleSlope"), 1.0),
        intercept=_number(transformation.get("RescaleIntercept"), 0.0),
        voi=window or voi_of(ds) or _table_of(ds.get("VOILUTSequence"), is_signed),
        is_inverted=is_inverted(ds),
        padding=_padding(ds, stored, is_signed),
    )


def is_inverted(ds: Dataset) -> bool:
    """Return whether low values are bright (PS3.3 Sections C.7.6.3.1.2 and C.11.6.1.2)."""
    shape = ds.get("PresentationLUTShape")
    if shape in ("IDENTITY", "INVERSE"):
        return bool(shape == "INVERSE")
    return bool(ds.get("PhotometricInterpretation") == "MONOCHROME1")


def voi_of(ds: Dataset) -> Window | None:
    """Return the first window of a dataset; None if it has none."""
    group = _functional_group(ds, "FrameVOILUTSequence", ds)
    center, width = _first(group.get("WindowCenter")), _first(group.get("WindowWidth"))
    if center is None or width is None:
        return None
    function = str(group.get("VOILUTFunction") or LINEAR)
    if function not in (LINEAR, LINEAR_EXACT, SIGMOID):
        function = LINEAR
    window = Window(_number(center, 0.0), _number(width, 0.0), function)
    return window if window.width > 0 else None


def _functional_group(ds: Dataset, keyword: str, otherwise: Dataset) -> Dataset:
    """Return the item of a functional group macro: of the frame, or shared by all (C.7.6.16)."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for item in ds.get(groups) or ():
            for macro in item.get(keyword) or ():
                return macro  # type: ignore[no-any-return]
    return otherwise


def pixel_spacing(ds: Dataset) -> Iterator[Any]:
    """Yield values with the spacing of rows and of columns, the best first."""
    measures = _functional_group(ds, "PixelMeasuresSequence", ds)
    yield measures.get("PixelSpacing")
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        yield ds.get(keyword)


def _first(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value or None
    try:
        return value[0] if len(value) else None
    except TypeError:
        return value


def _number(value: Any, otherwise: float) -> float:
    value = _first(value)
    if value is None:
        return otherwise
    number = float(value)
    if not np.isfinite(number):
        raise CannotRender("a number of its description is not finite")
    return number


def _padding(ds: Dataset, stored: int, is_signed: bool) -> tuple[int, int] | None:
    first = ds.get("PixelPaddingValue")
    if first is None:
        return None
    last = ds.get("PixelPaddingRangeLimit")
    values = [
        _as_stored(int(each), stored, is_signed) for each in (first, last) if each is not None
    ]
    return min(values), max(values)


def _as_stored(value: int, stored: int, is_signed: bool) -> int:
    """Return a value of VR US or SS as a stored value: its VR may be the other one."""
    value &= (1 << stored) - 1
    if is_signed and value >> (stored - 1):
        value -= 1 << stored
    return value


def _table_of(sequence: Any, is_signed: bool) -> Table | None:
    for item in sequence or ():
        count, first, bits = (int(each) for each in item.LUTDescriptor)
        count = count or 65536
        if count < 0:
            count += 65536
        if is_signed and first > 32767:
            first -= 65536
        data = item.LUTData
        if isinstance(data, bytes):
            data = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1")
        entries = tuple(int(each) for each in data[:count])
        if len(entries) < count or not 0 < bits <= 16:
            raise CannotRender("a LUT is shorter than it states")
        return Table(first, bits, entries)
    return None
