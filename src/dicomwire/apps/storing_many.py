"""Sends for storescu with a window, over parallel associations, or with a ledger to resume from.

The files are determined in `outgoing`; the library sends files again where that helps.
"""

from __future__ import annotations

import logging
import os
import time
from argparse import Namespace

from dicomwire.apps.console import DONE, INTERRUPTED, NO_ASSOCIATION, Console, Stop
from dicomwire.apps.outgoing import FilesToSend, Outgoing
from dicomwire.apps.requesting import answer_to, connection_options, entity, explain
from dicomwire.apps.tally import ONLY_THE_REST, Tally
from dicomwire.errors import AssociationFailure
from dicomwire.logs import counted, escaped
from dicomwire.plain.bulk import LedgerError, Sent, send_many
from dicomwire.status import (
    STATUS_WARNING,
    STORAGE_SERVICE_CLASS_STATUS,
    code_to_category,
    described,
)

_FILES_PER_PROCESS = 1000
"""A process saves some 50 µs for each small object, and takes some 20 ms to start and end."""
_BEFORE_DATA = ("connect", "tls", "associate")


def send_all(
    options: Namespace, console: Console, tally: Tally, chosen: FilesToSend, logger: logging.Logger
) -> int:
    """Send the chosen files; return the outcome."""
    sender = _ManySender(options, console, tally, chosen, logger)
    code = INTERRUPTED
    try:
        code = sender.send()
    except KeyboardInterrupt:
        again = "the same command sends the rest" if options.resume else ONLY_THE_REST
        sender.give_up("interrupted", again)
    except (LedgerError, OSError) as error:
        if options.resume is None:
            raise
        raise Stop(f"{options.resume}: {error}") from None
    return code


def _processes(associations: int, files: int) -> int:
    """Return in how many processes to have the associations."""
    if not hasattr(os, "sched_getaffinity"):  # Windows and macOS: forks are not safe there
        return 1
    return max(1, min(associations, len(os.sched_getaffinity(0)), files // _FILES_PER_PROCESS))


class _ManySender:
    """Sends all files by one `send_many`, and counts the results."""

    def __init__(
        self,
        options: Namespace,
        console: Console,
        tally: Tally,
        chosen: FilesToSend,
        logger: logging.Logger,
    ) -> None:
        self._options = options
        self._console = console
        self._tally = tally
        self._logger = logger
        self._size = chosen.size
        self._count = chosen.count
        self._left = {file.path: file for group in chosen.groups for file in group.files}
        self._unreachable: AssociationFailure | None = None
        self._began = time.monotonic()

    def send(self) -> int:
        """Send all files; return the outcome."""
        if not self._left:
            return DONE
        options = self._options
        connection = connection_options(options)
        with send_many(
            entity(options),
            (options.addr, options.port),
            list(self._left),
            associations=options.parallel,
            processes=_processes(options.parallel, self._count),
            window=options.window,
            ledger=options.resume,
            transfer_syntax=options.request_syntax,
            **connection,
        ) as results:
            for sent in results:
                self._take(sent, self._left.pop(sent.item))
                self._tally.seconds = time.monotonic() - self._began
                self._tally.associations = results.associations
                self._console.follow(self._progress)
        if self._unreachable is None:
            return DONE
        explain(self._unreachable, self._logger, connection["tls_args"] is not None)
        return NO_ASSOCIATION

    def give_up(self, reason: str, advice: str) -> None:
        """Count the files without a result as failed, and log the advice."""
        for path in self._left:
            self._tally.fail(path, f"not sent: {reason}")
        text = "Not sent: %d of %s: %s; %s"
        files = counted(self._count, "file")
        self._logger.error(text, len(self._left), files, reason, advice)

    def _progress(self) -> str:
        done = self._count - len(self._left)
        return self._tally.progress(done, self._count, self._size, self._tally.seconds)

    def _take(self, sent: Sent, file: Outgoing) -> None:
        """Count a result."""
        code = sent.code
        path = escaped(file.path)
        if sent.is_resumed:
            self._tally.resumed += 1
            self._logger.info("Stored in an earlier run: %s", path)
        elif code is None:
            failure = sent.failure
            level = logging.ERROR
            if isinstance(failure, AssociationFailure) and failure.stage in _BEFORE_DATA:
                self._unreachable = failure
                level = logging.INFO  # `send` logs the cause once
            self._fail(file, escaped(str(failure)), None, level)
        elif not sent.is_stored:
            self._fail(file, answer_to(sent), code)
        else:
            self._tally.sent += 1
            self._tally.size += file.size
            if self._logger.isEnabledFor(logging.INFO):
                text = described(code, STORAGE_SERVICE_CLASS_STATUS)
                self._logger.info("Received Store Response (Status: %s): %s", text, path)
            if code and code_to_category(code) == STATUS_WARNING:
                self._tally.warned += 1
                text = answer_to(sent)
                self._logger.warning("Stored with a warning: %s: %s", path, text)

    def _fail(
        self, file: Outgoing, reason: str, code: int | None, level: int = logging.ERROR
    ) -> None:
        self._logger.log(level, "Not stored: %s: %s", escaped(file.path), reason)
        self._tally.fail(file.path, reason, code)
