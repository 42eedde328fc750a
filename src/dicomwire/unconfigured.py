"""The first handler of the library's logger, which counts if the program configures no logging."""

from __future__ import annotations

import logging


class UnconfiguredHandler(logging.Handler):
    """Handles the log as `logging.NullHandler` does, except for exceptions, such as of handlers.

    Nobody would learn of them otherwise: the library catches them, and the peer gets only a
    status. If neither the logger nor the root logger has another handler, they go to standard
    error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Pass an exception on to `logging.lastResort`, if no other handler gets it."""
        if not record.exc_info or record.levelno < logging.ERROR or logging.lastResort is None:
            return
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return
            logger = logger.parent if logger.propagate else None
        logging.lastResort.handle(record)
