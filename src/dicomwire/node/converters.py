"""Processes that decode and encode the pixels of whole objects; see `processes`.

`transcode` does the conversion itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dicomwire.node.processes import Processes, TaskFailed, serve
from dicomwire.node.transcode import CannotTranscode, pixel_digest, write_transcoded

PROCESSES = 2
"""The most processes at a time, so that a few retrievals do not take all cores and memory."""
MEMORY = 4 * 2**30
"""The address space of a process in bytes: room for four copies of the largest pixel data
(`transcode.LARGEST`), which is in memory compressed, decoded, as an array and encoded."""
TASK_TIMEOUT = 120.0
"""Seconds for one object: twice the minute that 1 GiB of pixel data takes in JPEG 2000."""


class Converters:
    """A few processes for the conversions of all associations and requests.

    Safe to use from any thread.

    Parameters
    ----------
    make_file : callable
        Returns a new, empty file for a converted object, which is removed after use.
    timeout : float
        Seconds that a task may take; also the longest wait for a free process before that.
    memory : int
        Limit of each process's address space in bytes, where the system has such a limit.
    """

    def __init__(
        self, make_file: Callable[[], Path], timeout: float = TASK_TIMEOUT, memory: int = MEMORY
    ) -> None:
        self._make_file = make_file
        names = ("converter", "conversion")
        self._processes = Processes(__name__, names, PROCESSES, timeout, memory)
        self.close = self._processes.close
        """Ends all processes; running and later tasks fail."""

    @contextlib.contextmanager
    def converted(self, path: Path, target: str) -> Iterator[Path]:
        """Yield a file with the object of `path`, converted to the transfer syntax `target`.

        Raises
        ------
        CannotTranscode
            When it cannot be converted; the text says why, without values of the object.
        """
        try:
            output = self._make_file()
        except OSError as error:
            raise CannotTranscode(f"cannot be written: {error.strerror}") from None
        try:
            self._ask("convert", path, target, output)
            yield output
        finally:
            output.unlink(missing_ok=True)

    def pixel_digest(self, path: Path) -> str:
        """Return a digest of the decoded samples of a DICOM file; raises like `converted`."""
        return self._ask("digest", path)

    def _ask(self, *task: object) -> str:
        try:
            answer, _ = self._processes.ask([str(part) for part in task])
        except TaskFailed as error:
            raise CannotTranscode(str(error)) from None
        return str(answer)


def _done(task: Any, _: bytes) -> tuple[str, bytes]:
    kind, path, *arguments = task
    try:
        if kind == "digest":
            return pixel_digest(Path(path)), b""
        target, output = arguments
        write_transcoded(Path(path), target, Path(output))
    except CannotTranscode as error:
        raise TaskFailed(str(error)) from None
    return "", b""


if __name__ == "__main__":
    serve(_done)
