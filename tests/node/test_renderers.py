"""Pictures are made in processes of their own, of no more bytes than a frame has."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from images import image_object, opened
from running_node import write

from dicomwire.node.objects.reader import RangeReader
from dicomwire.node.pixels.image import Image
from dicomwire.node.pixels.picture import CannotRender, Picture
from dicomwire.node.pixels.renderers import Renderers

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.fixture
def renderers() -> Iterator[Renderers]:
    """Processes with a limit of 400 MB."""
    made = Renderers(memory=400 * 10**6)
    yield made
    made.close()


def _idle(renderers: Renderers) -> list[int]:
    return [process.pid for process in renderers._processes._idle]


def test_a_process_makes_one_picture_after_the_other_until_it_dies(
    real_processes: None, renderers: Renderers, tmp_path: Path
) -> None:
    image = opened(tmp_path, image_object(RAMP))
    first = renderers.rendered(image, 1, Picture())
    (process,) = _idle(renderers)
    assert renderers.rendered(image, 1, Picture()) == first
    assert _idle(renderers) == [process]
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert renderers.rendered(image, 1, Picture()) == first
    assert _idle(renderers) != [process]


def test_a_picture_that_takes_too_much_memory_fails_alone(
    renderers: Renderers, tmp_path: Path
) -> None:
    image = opened(tmp_path, image_object(np.zeros((3500, 3500), np.uint32)))
    with pytest.raises(CannotRender, match="more memory"):
        renderers.rendered(image, 1, Picture())
    assert renderers.rendered(opened(tmp_path, image_object(RAMP)), 1, Picture())


def test_a_frame_with_too_many_pixels_is_not_even_read(
    renderers: Renderers, tmp_path: Path
) -> None:
    image = opened(tmp_path, image_object(RAMP, Rows=65535, Columns=65535))
    with pytest.raises(CannotRender, match="pixels"):
        renderers.rendered(image, 1, Picture())
    assert _idle(renderers) == []


def test_after_the_end_nothing_is_started(renderers: Renderers, tmp_path: Path) -> None:
    renderers.close()
    with pytest.raises(CannotRender, match="being stopped"):
        renderers.rendered(opened(tmp_path, image_object(RAMP)), 1, Picture())


def test_of_a_bucket_only_the_ranges_of_a_frame_are_fetched(tmp_path: Path) -> None:
    frames = np.zeros((50, 256, 512), np.uint8)
    frames[40] = 40
    data = write(tmp_path / "large.dcm", image_object(frames)).read_bytes()
    fetched = 0

    def fetch(start: int, stop: int) -> tuple[memoryview, int]:
        nonlocal fetched
        piece = memoryview(data)[start:stop]
        fetched += len(piece)
        return piece, len(data)

    with io.BufferedReader(RangeReader(fetch)) as file:
        assert Image(file).frame(41) == frames[40].tobytes()
    assert fetched < len(data) / 10
