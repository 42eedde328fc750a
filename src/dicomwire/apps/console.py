"""The terminal of an application: its log, a line of progress, and errors without tracebacks."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from dicomwire.logs import escaped

LIBRARY = logging.getLogger("dicomwire")
"""The logger of the library; those of the applications are below it."""

_LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "fatal": logging.CRITICAL,
    "trace": logging.DEBUG,
}
_SILENT = logging.CRITICAL + 1
_CLEAR = "\r\x1b[K"
_PROGRESS_EVERY = 0.1
DONE, FAILED, USAGE, NO_ASSOCIATION = range(4)
"""Exit codes: everything was done, something failed, wrong arguments, no association."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class Stop(Exception):
    """Ends an application; the text is one line, which says what to do."""

    exit_code = FAILED


class Misuse(Stop):
    """Ends an application whose arguments do not go together."""

    exit_code = USAGE


class Console(logging.StreamHandler[TextIO]):
    """Handles the log of the library while an application runs, as a context manager.

    Parameters
    ----------
    options : Namespace
        With `quiet`, `verbose`, `debug`, `log_level`, `log_times`, `log_json` and `log_file`.

    Attributes
    ----------
    is_terminal : bool
        Whether standard error is a terminal, and not quiet, so that progress can be shown.
    """

    def __init__(self, options: Namespace) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_formatter(options, has_times=options.log_times))
        self.is_terminal = not options.quiet and sys.stderr.isatty()
        self._threshold = _threshold(options)
        self._file: logging.Handler | None = None
        self._has_progress = False
        self._next_progress = 0.0 if self.is_terminal else math.inf

    def __enter__(self) -> Console:
        self._before = LIBRARY.handlers[:], LIBRARY.level, warnings.showwarning
        LIBRARY.handlers[:] = [self if self._threshold < _SILENT else logging.NullHandler()]
        LIBRARY.setLevel(self._threshold)
        warnings.showwarning = _log_warning
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()
        if self._file is not None:
            self._file.close()
        handlers, level, warnings.showwarning = self._before
        LIBRARY.handlers[:] = handlers
        LIBRARY.setLevel(level)

    def open_file(self, options: Namespace) -> None:
        """Log to the file of --log-file, too; raise Stop if it cannot be written."""
        if options.log_file is None:
            return
        from dicomwire.apps.log_output import RotatedFile

        try:
            self._file = RotatedFile(options.log_file)
        except OSError as error:
            text = f"Cannot write the log to {options.log_file}: {error.strerror}"
            raise Stop(text) from None
        self._file.setFormatter(_formatter(options, has_times=True))
        LIBRARY.addHandler(self._file)
        if self._threshold == _SILENT:
            LIBRARY.setLevel(logging.INFO)

    def omit_times(self, options: Namespace) -> None:
        """Write the next lines to the terminal without times: the application does not run."""
        self.setFormatter(_formatter(options, has_times=False))

    def emit(self, record: logging.LogRecord) -> None:
        """Remove the line of progress, and write a line of the log."""
        self.clear()
        super().emit(record)

    def progress(self, text: str) -> None:
        """Show `text` as the line of progress; only for terminals."""
        self._has_progress = True
        self.stream.write(_CLEAR + text)
        self.stream.flush()

    def follow(self, text: Callable[[], str]) -> None:
        """Show the result of `text` as the line of progress, on a terminal, ten times a second."""
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_EVERY
            self.progress(text())

    def conclude(self, logger: logging.Logger, text: str) -> None:
        """Log `text` at INFO; on a terminal show it even if the level is higher."""
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", text)
        elif self.is_terminal:
            self.progress(f"{text}\n")
            self._has_progress = False

    def clear(self) -> None:
        """Remove the line of progress."""
        if self._has_progress:
            self._has_progress = False
            self.stream.write(_CLEAR)
            self.stream.flush()


def _formatter(options: Namespace, *, has_times: bool) -> logging.Formatter:
    """Return how lines are written: as JSON with --log-json, otherwise level and message."""
    if options.log_json:
        from dicomwire.apps.log_output import JSONFormatter

        return JSONFormatter()
    line = "%(levelname).1s: %(message)s"
    if not has_times:
        return logging.Formatter(line)
    formatter = logging.Formatter(f"%(asctime)s {line}")
    formatter.default_msec_format = "%s.%03d"
    return formatter


def _threshold(options: Namespace) -> int:
    if options.quiet:
        return _SILENT
    if options.log_level is not None:
        return _LEVELS[options.log_level]
    if options.debug:
        return logging.DEBUG
    return logging.INFO if options.verbose else logging.ERROR


def _log_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Log a warning of pydicom at DEBUG, since it may quote the values of a patient."""
    LIBRARY.debug("%s", escaped(str(message)))


def run(options: Namespace, app: Callable[[Namespace, Console], int]) -> int:
    """Run an application and return its exit code; log an exception as one line."""
    with Console(options) as console:
        try:
            console.open_file(options)
            return app(options, console)
        except KeyboardInterrupt:
            return INTERRUPTED
        except Stop as reason:
            console.omit_times(options)
            LIBRARY.error("%s", escaped(str(reason)))
            return reason.exit_code
        except BrokenPipeError:  # the reader of our output, such as `head`, closed the pipe
            _close_output()
            return DONE
        except Exception as error:
            LIBRARY.error("%s", escaped(str(error)) or type(error).__name__)
            LIBRARY.debug("The traceback of that error", exc_info=error)
            return FAILED


def _close_output() -> None:
    """Discard all further output, also the output that Python flushes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
