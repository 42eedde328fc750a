"""Processes that render and decode single frames; see `processes`, and `frame_tasks` for the tasks.

They get the bytes of a frame with the elements that describe it, and open no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicomwire.node.pixels.image import MOST_PIXELS, Image
from dicomwire.node.pixels.picture import CannotRender, Picture
from dicomwire.node.processes import Processes, TaskFailed

_TASKS = "dicomwire.node.pixels.frame_tasks"
PROCESSES = 2
"""The most processes at a time, besides those of `converters`: a page of small pictures does not
wait for the conversion of a large object."""
MEMORY = 3 * 2**30
"""The address space of a process in bytes: a frame of `image.MOST_PIXELS`, compressed, decoded, and
as numbers of eight bytes during the look-up; the libraries alone take half a gigabyte."""
TASK_TIMEOUT = 30.0
"""Seconds for one frame: `image.MOST_PIXELS` take some five in JPEG 2000."""


class Renderers:
    """A few processes for the frames of all requests. Safe to use from any thread."""

    def __init__(self, timeout: float = TASK_TIMEOUT, memory: int = MEMORY) -> None:
        names = ("renderer", "rendering")
        self._processes = Processes(_TASKS, names, PROCESSES, timeout, memory)
        self.close = self._processes.close
        """Ends all processes; running and later tasks fail."""

    def rendered(self, image: Image, number: int, picture: Picture) -> bytes:
        """Return the picture of a frame; the first frame is 1.

        Raises
        ------
        CannotRender
            When it cannot be rendered; the text says why, without values of the object.
        NoSuchFrame, NotAnImage, DatasetError, OSError
            As `Image.frame`.
        """
        return self._ask(image, number, "render", picture)

    def recoded(self, image: Image, number: int, target: str) -> bytes:
        """Return a frame in another transfer syntax; the target is not one of a video.

        Raises as `rendered`.
        """
        return self._ask(image, number, "recode", target)

    def _ask(self, image: Image, number: int, kind: str, wanted: Sequence[Any]) -> bytes:
        shape = image.shape
        if shape.rows * shape.columns > MOST_PIXELS:  # refused before it is read
            raise CannotRender(f"a frame has more than {MOST_PIXELS} pixels")
        frame = image.frame(number)
        description = image.description(number)
        task = (kind, len(description), image.transfer_syntax, shape, image.is_float, wanted)
        try:
            return self._processes.ask(task, description + frame)[1]
        except TaskFailed as error:
            raise CannotRender(str(error)) from None
