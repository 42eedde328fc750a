"""Lets what dicomwire logs appear under the name "pynetdicom", for which programs set levels.

dicomwire decides what is logged.
"""

from __future__ import annotations

import logging
from typing import Any

from pynetdicom import _config

LOGGER = logging.getLogger("pynetdicom")


class _Library(logging.Logger):
    """The logger of dicomwire, on as long as "pynetdicom" is.

    `logging.config` disables the loggers that a configuration has no name of, and nobody who
    configures "pynetdicom" names this one.
    """

    @property
    def disabled(self) -> bool:
        return LOGGER.disabled

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def filter(self, record: logging.LogRecord) -> Any:
        """Drop Identifiers where an option says so."""
        return (_config.logs_identifiers() or not hasattr(record, "patient_data")) and (
            super().filter(record)
        )


def adopt_library() -> None:
    """Make the logger of dicomwire one below "pynetdicom" and of the same name."""
    LOGGER.addHandler(logging.NullHandler())
    library = logging.getLogger("dicomwire")
    library.__class__ = _Library
    library.name = LOGGER.name
    library.parent = LOGGER


def debug_logger() -> None:
    """Log everything to standard error, in place of the other handlers of "pynetdicom"."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname).1s: %(message)s"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.DEBUG)
