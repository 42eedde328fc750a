"""storescu: sends DICOM files and folders of them by C-STORE (PS3.4 Annex B).

Which files there are, and the associations that they need, is found out in `outgoing`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset

from dicomwire import Association
from dicomwire.apps.arguments import add_peer, add_requested_syntax, new_parser
from dicomwire.apps.console import INTERRUPTED, Console, run
from dicomwire.apps.files import short_name
from dicomwire.apps.outgoing import Batch, ContextKey, Outgoing, Plan
from dicomwire.apps.requesting import answered, associate, described, message_id
from dicomwire.datasets import is_uncompressed
from dicomwire.logs import escaped
from dicomwire.presentation import PresentationContext
from dicomwire.status import (
    STATUS_SUCCESS,
    STATUS_WARNING,
    STORAGE_SERVICE_CLASS_STATUS,
    code_to_category,
)

LOGGER = logging.getLogger("dicomwire.storescu")

_EPILOG = """\
One presentation context is proposed for each SOP class and transfer syntax of the files; past
128 of them there are several associations, one after the other. Files are sent as they are. With
-xe, -xb or -xi only that syntax is proposed: files in Implicit and Explicit VR Little Endian are
converted into each other, files that would need more than that fail. A peer that takes none but
Implicit VR Little Endian needs -xi.

exit codes: 0 if every association was established, or there was nothing to send; 1 if one was
not; 2 for wrong arguments. With --strict also 1 if any file was not stored: it could not be read,
the peer refused it, or the association ended before it. Files in folders that are no DICOM files,
and DICOMDIRs, do not count."""

_PROGRESS_EVERY = 0.1
_MB = 1_000_000
_TRANSFER_SYNTAXES_NOT_SUPPORTED = 4  # result of a presentation context (PS3.8 Table 9-18)


def _parser() -> ArgumentParser:
    parser = new_parser("storescu", "Send DICOM files to a peer (C-STORE).", _EPILOG)
    add_peer(parser, "STORESCU")
    parser.add_argument("path", nargs="+", help="DICOM file or folder of DICOM files to send")
    add_requested_syntax(parser)
    group = parser.add_argument_group("what is sent")
    group.add_argument(
        "-r", "--recurse", action="store_true", help="send what is in folders of folders, too"
    )
    group.add_argument(
        "-cx",
        "--required-contexts",
        action="store_true",
        help="propose only what the files need, which is always done",
    )
    group = parser.add_argument_group("outcome")
    group.add_argument(
        "--strict", action="store_true", help="exit with 1 if any file was not stored"
    )
    group.add_argument(
        "--json", action="store_true", help="write a summary to standard output, a JSON object"
    )
    return parser


def main(args: list[str] | None = None) -> int:
    """Run storescu and return its exit code; see ``dicomwire storescu --help``."""
    return run(_parser().parse_args(args), _store)


def _store(options: Namespace, console: Console) -> int:
    plan = Plan(options.path, options.recurse, options.request_syntax, LOGGER)
    tally = Tally(skipped=plan.skipped)
    for path, reason in plan.unusable:
        tally.fail(path, reason)
    if not plan.batches:
        LOGGER.warning("No suitable DICOM files found")
    sender = _Sender(options, console, tally, plan)
    codes = [sender.send(batch) for batch in plan.batches]
    if plan.batches:
        console.conclude(LOGGER, str(tally))
    if options.json:
        print(json.dumps(tally.as_dict()))
    return max(codes, default=0) or int(options.strict and tally.failed > 0)


@dataclass(slots=True)
class Tally:
    """What became of the files.

    Attributes
    ----------
    sent : int
        Files that the peer stored; `warned` of them with a warning.
    failed : int
        Files that it did not store, each of which is in `failures`.
    skipped : int
        Files in folders that are not for sending.
    """

    sent: int = 0
    warned: int = 0
    failed: int = 0
    skipped: int = 0
    size: int = 0
    seconds: float = 0.0
    associations: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, path: str, reason: str, status: int | None = None) -> None:
        """Note that a file was not stored."""
        self.failed += 1
        self.failures.append({"path": path, "reason": reason, "status": status})

    @property
    def rate(self) -> float:
        """MB (of 1,000,000 bytes) that the peer stored in each second."""
        return self.size / _MB / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for programs."""
        return {
            "sent": self.sent,
            "warned": self.warned,
            "failed": self.failed,
            "skipped": self.skipped,
            "bytes": self.size,
            "seconds": round(self.seconds, 6),
            "mb_per_second": round(self.rate, 3),
            "associations": self.associations,
            "failures": self.failures,
        }

    def __str__(self) -> str:
        return (
            f"{self.sent} sent ({self.warned} with a warning), {self.failed} failed, "
            f"{self.size / _MB:.1f} MB in {self.seconds:.2f} s: {self.rate:.1f} MB/s"
        )


class _Sender:
    """Sends batches of files, and keeps the tally."""

    def __init__(self, options: Namespace, console: Console, tally: Tally, plan: Plan) -> None:
        self._options = options
        self._console = console
        self._tally = tally
        self._count = plan.count
        self._size = plan.size
        self._tried = 0
        self._refused: dict[ContextKey, str] = {}
        self._is_interrupted = False
        self._began = time.monotonic()
        self._next_progress = 0.0 if console.is_terminal else math.inf

    def send(self, batch: Batch) -> int:
        """Send the files of `batch` over an association of its own; return the exit code."""
        waiting = iter(batch.files)
        code, reason = INTERRUPTED, "interrupted"
        try:
            if not self._is_interrupted:
                code, reason = self._send_all(batch.contexts, waiting)
        except KeyboardInterrupt:
            self._is_interrupted = True
        unsent = list(waiting)
        for file in unsent:
            self._tally.fail(file.path, f"not sent: {reason}")
        if unsent:
            LOGGER.error("%d of %d files were not sent: %s", len(unsent), self._count, reason)
        self._tally.seconds = time.monotonic() - self._began
        return code

    def _send_all(
        self, contexts: list[PresentationContext], waiting: Iterator[Outgoing]
    ) -> tuple[int, str]:
        """Send files until there are none or the association ends; return code and reason."""
        with associate(self._options, contexts, LOGGER) as association:
            self._note_refused(association)
            if not association.is_established:
                return 1, escaped(str(association.failure))
            self._tally.associations += 1
            for file in waiting:
                self._send_file(association, file)
                if not association.is_established:
                    return 0, escaped(str(association.failure))
        return 0, ""

    def _note_refused(self, association: Association) -> None:
        """Note which SOP classes the peer takes in no transfer syntax, to say so of each file."""
        level = logging.WARNING if association.is_established else logging.ERROR
        taken = {context.abstract_syntax for context in association.accepted_contexts}
        for context in association.rejected_contexts:
            sop_class, syntax = context.abstract_syntax, context.transfer_syntax[0]
            if sop_class is None or sop_class in taken:
                continue
            advice = "; try -xi" if self._may_convert(syntax, context.result) else ""
            reason = f"{escaped(sop_class.name)} with {escaped(syntax.name)}: {context.status}"
            self._refused[sop_class, syntax] = f"the peer refused {reason}{advice}"
            LOGGER.log(level, "Refused: %s%s", reason, advice)

    def _may_convert(self, syntax: str, result: int | None) -> bool:
        return (
            result == _TRANSFER_SYNTAXES_NOT_SUPPORTED
            and is_uncompressed(syntax)
            and self._options.request_syntax is None
        )

    def _send_file(self, association: Association, file: Outgoing) -> None:
        number = message_id(self._tried)
        self._tried += 1
        refused = self._refused.get(file.context) if self._refused else None
        if refused is not None:
            self._fail(file, refused)
            return
        chatty = LOGGER.isEnabledFor(logging.INFO)
        if chatty:
            LOGGER.info("Sending file: %s", escaped(file.path))
            LOGGER.info(
                "Sending Store Request: MsgID %d, (%s)", number, short_name(file.context[0])
            )
        try:
            status = association.send_c_store(file.path, number)
        except KeyboardInterrupt:
            self._tally.fail(file.path, "interrupted")
            raise
        except Exception as error:  # whatever is wrong with this file, there are others
            LOGGER.debug("%s", file.path, exc_info=error)
            self._fail(file, escaped(str(error)))
        else:
            self._judge(association, file, status, chatty)
        if (now := time.monotonic()) >= self._next_progress:
            self._next_progress = now + _PROGRESS_EVERY
            self._console.progress(self._progress(now))

    def _judge(
        self, association: Association, file: Outgoing, status: Dataset, chatty: bool
    ) -> None:
        """Take the response: `status` is empty where there was none."""
        code: int | None = status.get("Status")
        if code is None:
            self._fail(file, f"no response: {association.failure}")
            return
        if chatty:
            text = described(code, STORAGE_SERVICE_CLASS_STATUS)
            LOGGER.info("Received Store Response (Status: %s)", text)
        category = STATUS_SUCCESS if code == 0 else code_to_category(code)
        if category not in (STATUS_SUCCESS, STATUS_WARNING):
            self._fail(file, answered(status, STORAGE_SERVICE_CLASS_STATUS), code)
            return
        self._tally.sent += 1
        self._tally.size += file.size
        if category == STATUS_WARNING:
            self._tally.warned += 1
            text = answered(status, STORAGE_SERVICE_CLASS_STATUS)
            LOGGER.warning("Stored with a warning: %s: %s", escaped(file.path), text)

    def _fail(self, file: Outgoing, reason: str, status: int | None = None) -> None:
        LOGGER.error("Not stored: %s: %s", escaped(file.path), reason)
        self._tally.fail(file.path, reason, status)

    def _progress(self, now: float) -> str:
        size, seconds = self._tally.size, now - self._began
        share = size * 100 // self._size if self._size else 100
        rate = size / _MB / seconds if seconds else 0.0
        return (
            f"{self._tried} of {self._count} files, {share} % "
            f"of {self._size / _MB:.1f} MB, {rate:.1f} MB/s"
        )
