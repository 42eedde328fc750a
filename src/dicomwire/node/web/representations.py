"""In which media types and transfer syntaxes an object, or its frames, can be sent.

PS3.18 Section 8.7.3: without a transfer syntax in the request, that is Explicit VR Little Endian,
or the default of the media type; but pixels that are stored with loss are sent as they are stored.
Implicit VR Little Endian and Explicit VR Big Endian are never used.
"""

from __future__ import annotations

from dicomwire.data.codec import is_uncompressed
from dicomwire.node.web.found import EXPLICIT
from dicomwire.node.web.media_types import Form

DICOM = "application/dicom"
OCTETS = "application/octet-stream"
_UID = "1.2.840.10008.1.2"
DEFLATED = f"{_UID}.1.99"
_JPEG_LS, _JPEG_2000, _RLE = f"{_UID}.4.80", f"{_UID}.4.90", f"{_UID}.5"
_TYPES = {
    "image/jpeg": (50, 51, 57, 70),
    "image/jls": (80, 81),
    "image/jp2": (90, 91),
    "image/jpx": (92, 93),
    "image/jphc": (201, 202, 203),
    "image/jxl": (110, 111, 112),
}
_TYPE_OF = {
    _RLE: "image/dicom-rle",
    **{f"{_UID}.4.{number}": name for name, numbers in _TYPES.items() for number in numbers},
}
"""The media types of compressed frames, by transfer syntax (PS3.18 Table 8.7.3-5)."""
_LOSSY = frozenset(
    f"{_UID}.4.{number}"
    for number in (50, 51, 81, 91, 93, *range(100, 109), 111, 112, 203)
)  # fmt: skip
"""The transfer syntaxes that are, or may be, with loss."""
_DECODED = frozenset(
    (_RLE, *(f"{_UID}.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)))
)
"""The transfer syntaxes for which pydicom has decoders."""
_ENCODED = (_JPEG_LS, _JPEG_2000, _RLE)
"""The transfer syntaxes for which it has lossless encoders, as `transcode.choose` prefers them."""


def forms_of_object(stored: str, kinds: tuple[bool, ...]) -> list[Form]:
    """Return the representations of an object, by the transfer syntax it is stored in."""
    if is_uncompressed(stored):
        targets = [EXPLICIT, DEFLATED, *_ENCODED]
        if stored == DEFLATED:
            targets[:2] = [DEFLATED, EXPLICIT]
        usual = EXPLICIT
    elif stored in _DECODED:
        targets = [stored, EXPLICIT, DEFLATED, *_others(stored)]
        usual = stored if stored in _LOSSY else EXPLICIT
    else:  # a video, or one of a kind that is not decoded here
        targets, usual = [stored], stored if stored in _LOSSY else EXPLICIT
    return [Form(DICOM, target, target == usual, target == usual, kinds) for target in targets]


def forms_of_frames(stored: str, kinds: tuple[bool, ...]) -> list[Form]:
    """Return the representations of frames, by the transfer syntax they are stored in."""
    if is_uncompressed(stored):
        forms = [Form(OCTETS, EXPLICIT, is_default=True)]
    else:
        is_lossy = stored in _LOSSY
        forms = [Form(_TYPE_OF.get(stored, OCTETS), stored, is_default=is_lossy)]
        if stored in _DECODED:
            forms.append(Form(OCTETS, EXPLICIT, is_default=not is_lossy))
    if is_uncompressed(stored) or stored in _DECODED:
        forms += [Form(_TYPE_OF[target], target) for target in _others(stored)]
    return [form._replace(kinds=kinds) for form in forms]


def _others(stored: str) -> list[str]:
    return [target for target in _ENCODED if target != stored]


def content_type(form: Form) -> str:
    """Return the field Content-Type of a representation."""
    return f"{form.media_type}; transfer-syntax={form.transfer_syntax}"
