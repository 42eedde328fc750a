"""What the log and the queue of tasks say of errors.

The texts of our own errors, of the system and of the database say what people need to know. Any
other error, of pydicom for example, may quote a value of an object, so that only its type and the
line that raised it are told; its text and traceback are logged at DEBUG.
"""

from __future__ import annotations

import logging
import traceback

from dicomwire.logs import escaped
from dicomwire.node.index.database import IndexFailure, reason_of


def told(error: BaseException) -> str:
    """Return what operators may be told of an error; it has no value of an object."""
    return _text_of(error) or _name_of(error)


def log_unexpected(
    logger: logging.Logger, error: BaseException, text: str, *values: object
) -> None:
    """Log an error that no code expects, in one line at ERROR, and its traceback at DEBUG.

    Parameters
    ----------
    logger : logging.Logger
    error : BaseException
    text : str
        What has failed, as a format for `values`.
    """
    reason = ": ".join(filter(None, [_name_of(error), escaped(_text_of(error))]))
    logger.error(text + ": %s", *values, reason)
    logger.debug("The traceback of that error", exc_info=error)


def _text_of(error: BaseException) -> str:
    """Return the text of an error; "" if it may quote a value."""
    if isinstance(error, IndexFailure):
        return reason_of(error)
    is_ours = type(error).__module__.startswith("dicomwire.")
    return str(error) if is_ours or isinstance(error, OSError) else ""


def _name_of(error: BaseException) -> str:
    """Return the type of an error, and the innermost line of ours that raised it, if any."""
    name = type(error).__name__
    frames = traceback.walk_tb(error.__traceback__)
    places = [(str(frame.f_globals.get("__name__")), line) for frame, line in frames]
    ours = [place for place in places if place[0].startswith("dicomwire.")] or places
    return f"{name} in {ours[-1][0]}, line {ours[-1][1]}" if ours else name
