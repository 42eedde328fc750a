"""The tasks of `renderers`, as its processes do them."""

from __future__ import annotations

from typing import Any

from dicomwire.node.pixels.image import Shape
from dicomwire.node.pixels.picture import CannotRender, Picture, Window
from dicomwire.node.pixels.recoding import recoded
from dicomwire.node.pixels.rendering import rendered
from dicomwire.node.processes import TaskFailed, serve


def _done(task: Any, data: bytes) -> tuple[None, bytes]:
    kind, size, transfer_syntax, shape, is_float, wanted = task
    arguments = (data[:size], data[size:], transfer_syntax, Shape(*shape), is_float)
    try:
        if kind == "recode":
            return None, recoded(*arguments, wanted)
        return None, rendered(*arguments, _picture(*wanted))
    except CannotRender as error:
        raise TaskFailed(str(error)) from None


def _picture(media_type: str, window: Any, size: Any, region: Any, *others: Any) -> Picture:
    quality, annotation, icc_profile = others
    return Picture(
        media_type,
        window and Window(*window),
        tuple(size),
        region and tuple(region),
        quality,
        tuple(annotation),
        icc_profile,
    )


if __name__ == "__main__":
    serve(_done)
