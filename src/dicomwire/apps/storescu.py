"""storescu: sends DICOM files and folders by C-STORE (PS3.4 Annex B).

The files and the associations that they need are determined in `outgoing`.
"""

from __future__ import annotations

import logging
import math
import time
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from dicomwire.apps.arguments import (
    EXIT_CODES,
    add_exit_code,
    add_peer,
    add_requested_syntax,
    count,
    new_parser,
    window,
)
from dicomwire.apps.console import DONE, FAILED, INTERRUPTED, NO_ASSOCIATION, Console, run
from dicomwire.apps.files import short_name
from dicomwire.apps.outgoing import AssociationFiles, ContextKey, FilesToSend, Outgoing
from dicomwire.apps.requesting import answer_to, associate, exit_code, message_id
from dicomwire.apps.tally import ONLY_THE_REST, Tally
from dicomwire.data.encodings import is_uncompressed
from dicomwire.errors import AssociationFailure
from dicomwire.logs import counted, escaped
from dicomwire.plain import Association
from dicomwire.registry.uids import looked_up
from dicomwire.status import (
    STATUS_SUCCESS,
    STATUS_WARNING,
    STORAGE_SERVICE_CLASS_STATUS,
    code_to_category,
    described,
)

if TYPE_CHECKING:
    from dicomwire.plain.bulk import Sent

LOGGER = logging.getLogger("dicomwire.storescu")

_EPILOG = f"""\
storescu proposes a presentation context for each SOP class and transfer syntax of the files. For
more than 128 it uses several associations, one after the other. Files are sent unchanged. With
-xe, -xb or -xi it proposes only that transfer syntax, and converts files between Implicit and
Explicit VR Little Endian; other files fail. For a peer that accepts only Implicit VR Little Endian,
give -xi.

With --window, --parallel or --resume it sends a file again if the peer is out of resources or an
association is lost. A window or parallel associations help on a slow network, where each response
takes long. They do not help on a fast network with few files. On Linux, --parallel sends thousands
of files from several processes, at most one for each processor. If one dies, the others send its
files.

Files in folders that are not DICOM files, and DICOMDIRs, are left out; these are no failures.

{EXIT_CODES}"""
_EXAMPLES = (
    "storescu localhost 11112 image.dcm",
    "storescu pacs.example.org 104 -aec ARCHIVE -r studies",
    "storescu pacs.example.org 104 -r studies --window 8 --resume sent.txt",
)

_PROGRESS_EVERY = 0.1
_TRANSFER_SYNTAXES_NOT_SUPPORTED = 4  # result of a presentation context (PS3.8 Table 9-18)


def _parser() -> ArgumentParser:
    parser = new_parser("storescu", "Send DICOM files to a peer (C-STORE).", _EPILOG, _EXAMPLES)
    group = parser.add_argument_group("files")
    group.add_argument(
        "-r",
        "--recurse",
        "--recursive",
        action="store_true",
        help="send the files in folders within folders, too",
    )
    group.add_argument(
        "-cx",
        "--required-contexts",
        action="store_true",
        help="propose only what the files need, as dicomwire storescu always does",
    )
    add_requested_syntax(parser)
    group = parser.add_argument_group("transmission")
    group.add_argument(
        "--window",
        metavar="N",
        type=window,
        default=1,
        help="wait for up to n responses at a time, if the peer agrees (default: 1)",
    )
    group.add_argument(
        "--parallel",
        metavar="N",
        type=count,
        default=1,
        help="use up to n associations at a time (default: 1)",
    )
    group.add_argument(
        "--resume",
        metavar="FILE",
        help="record in this file what was stored, and do not send that again",
    )
    group = parser.add_argument_group("outcome")
    add_exit_code(group)
    group.add_argument(
        "--json", action="store_true", help="write a summary to standard output, a JSON object"
    )
    add_peer(parser, "STORESCU")
    parser.add_argument("path", nargs="+", help="DICOM file or folder of DICOM files to send")
    return parser


def main(args: list[str] | None = None, arrange: type[FilesToSend] = FilesToSend) -> int:
    """Run storescu and return its exit code; see ``dicomwire storescu --help``.

    Without -cx, `arrange` chooses the presentation contexts to propose.
    """
    return run(_parser().parse_args(args), partial(_store, arrange))


def _store(arrange: type[FilesToSend], options: Namespace, console: Console) -> int:
    arrange = FilesToSend if options.required_contexts else arrange
    chosen = arrange(options.path, options.recurse, options.request_syntax, LOGGER)
    tally = Tally(skipped=chosen.skipped)
    for path, reason in chosen.unusable:
        tally.fail(path, reason)
    if options.window > 1 or options.parallel > 1 or options.resume is not None:
        from dicomwire.apps.storing_many import send_all

        codes = [send_all(options, console, tally, chosen, LOGGER)]
    else:
        sender = _Sender(options, console, tally, chosen)
        codes = [sender.send(group) for group in chosen.groups]
    if chosen.groups:
        console.conclude(LOGGER, str(tally))
    if options.json:
        import json

        print(json.dumps(tally.as_dict()))
    return _outcome(options, codes, tally)


def _outcome(options: Namespace, codes: list[int], tally: Tally) -> int:
    """Return the exit code, from the outcomes of the associations."""
    if INTERRUPTED in codes:
        return INTERRUPTED
    if NO_ASSOCIATION in codes and (options.lenient or not tally.associations):
        return exit_code(options, NO_ASSOCIATION)
    return exit_code(options, FAILED if tally.failed else DONE)


class _ReadAhead(Iterator[str]):
    """Paths of files; the next file is read while one is being sent.

    Not if each file is logged when it is sent, since the lines would be in another order.
    """

    may_wait = False

    def __init__(self, paths: Iterator[str]) -> None:
        self.reads_ahead = not LOGGER.isEnabledFor(logging.INFO)
        self._paths = paths

    def __next__(self) -> str:
        return next(self._paths)


class _Sender:
    """Sends the groups of files one after the other, and counts the results."""

    def __init__(
        self, options: Namespace, console: Console, tally: Tally, chosen: FilesToSend
    ) -> None:
        self._options = options
        self._console = console
        self._tally = tally
        self._chosen = chosen
        self._count = chosen.count
        self._size = chosen.size
        self._tried = 0
        self._refused: dict[ContextKey, str] = {}
        # The file being sent, and the one after it, which may have been read ahead.
        self._drawn: deque[Outgoing] = deque()
        self._is_interrupted = False
        self._began = time.monotonic()
        self._next_progress = 0.0 if console.is_terminal else math.inf

    def send(self, group: AssociationFiles) -> int:
        """Send the files of `group` over an association; return its outcome."""
        waiting = iter(group.files)
        code, reason = INTERRUPTED, "interrupted"
        try:
            if not self._is_interrupted:
                code, reason = self._send_all(group, waiting)
        except KeyboardInterrupt:
            self._is_interrupted = True
            if self._drawn:
                self._tally.fail(self._drawn.popleft().path, "interrupted")
        unsent = [*self._drawn, *waiting]
        self._drawn.clear()
        for file in unsent:
            self._tally.fail(file.path, f"not sent: {reason}")
        if unsent and code != NO_ASSOCIATION:  # that has been logged already
            why = f": interrupted; {ONLY_THE_REST}" if code == INTERRUPTED else ""
            files = counted(self._count, "file")
            LOGGER.error("Not sent: %d of %s%s", len(unsent), files, why)
        self._tally.seconds = time.monotonic() - self._began
        return code

    def _send_all(self, group: AssociationFiles, waiting: Iterator[Outgoing]) -> tuple[int, str]:
        """Send files until all are sent or the association ends; return outcome and reason."""
        with associate(self._options, self._chosen.proposed(group), LOGGER) as association:
            self._note_refused(association, {context.abstract_syntax for context in group.contexts})
            if not association.is_established:
                return NO_ASSOCIATION, escaped(str(association.failure))
            self._tally.associations += 1
            # No window was asked for, so that one file is outstanding at a time.
            with association.send_c_stores(_ReadAhead(self._draw(waiting))) as results:
                for sent in results:
                    self._judge(sent)
            if not association.is_established:
                return DONE, escaped(str(association.failure))
        return DONE, ""

    def _note_refused(self, association: Association, needed: set[str | None]) -> None:
        """Note and log which of the `needed` SOP classes the peer does not accept."""
        taken = {context.abstract_syntax for context in association.accepted_contexts}
        for context in association.rejected_contexts:
            sop_class, syntax = context.abstract_syntax, context.transfer_syntax[0]
            if sop_class is None or sop_class in taken or sop_class not in needed:
                continue
            advice = "; try -xi" if self._may_convert(syntax, context.result) else ""
            reason = f"{_named(sop_class)} with {_named(syntax)}: {context.status}"
            self._refused[sop_class, syntax] = f"the peer refused {reason}{advice}"
            LOGGER.error("The peer refused %s%s", reason, advice)

    def _may_convert(self, syntax: str, result: int | None) -> bool:
        return (
            result == _TRANSFER_SYNTAXES_NOT_SUPPORTED
            and is_uncompressed(syntax)
            and self._options.request_syntax is None
        )

    def _draw(self, waiting: Iterator[Outgoing]) -> Iterator[str]:
        """Yield the path of each file when its turn comes, except the refused ones."""
        number = 0
        for file in waiting:
            refused = self._refused.get(file.context) if self._refused else None
            if refused is not None:
                self._tried += 1
                self._tally.fail(file.path, refused)
                LOGGER.info("Not stored: %s: %s", escaped(file.path), refused)
                continue
            if LOGGER.isEnabledFor(logging.INFO):
                name = short_name(file.context[0])
                LOGGER.info("Sending file: %s", escaped(file.path))
                LOGGER.info("Sending Store Request: MsgID %d, (%s)", message_id(number), name)
            number += 1
            self._drawn.append(file)
            yield file.path

    def _judge(self, sent: Sent) -> None:
        """Count and log the result of the file being sent."""
        file = self._drawn.popleft()
        self._tried += 1
        code = sent.code
        if code is None:
            self._fail(file, _no_response(file.path, sent.failure))
        else:
            if LOGGER.isEnabledFor(logging.INFO):
                text = described(code, STORAGE_SERVICE_CLASS_STATUS)
                LOGGER.info("Received Store Response (Status: %s)", text)
            if not code:
                self._tally.sent += 1
                self._tally.size += file.size
            else:
                self._judge_status(file, code, answer_to(sent))
        if (now := time.monotonic()) >= self._next_progress:
            self._next_progress = now + _PROGRESS_EVERY
            self._console.progress(self._progress(now))

    def _judge_status(self, file: Outgoing, code: int, text: str) -> None:
        if code_to_category(code) not in (STATUS_SUCCESS, STATUS_WARNING):
            self._fail(file, text, code)
            return
        self._tally.sent += 1
        self._tally.size += file.size
        if code_to_category(code) == STATUS_WARNING:
            self._tally.warned += 1
            LOGGER.warning("Stored with a warning: %s: %s", escaped(file.path), text)

    def _fail(self, file: Outgoing, reason: str, status: int | None = None) -> None:
        LOGGER.error("Not stored: %s: %s", escaped(file.path), reason)
        self._tally.fail(file.path, reason, status)

    def _progress(self, now: float) -> str:
        return self._tally.progress(self._tried, self._count, self._size, now - self._began)


def _no_response(path: str, failure: Exception | None) -> str:
    """Return why a file has no response: the association ended, or it cannot be sent."""
    if isinstance(failure, AssociationFailure):
        return f"no response: {failure}"
    LOGGER.debug("%s", path, exc_info=failure)
    return escaped(str(failure))


def _named(uid: str) -> str:
    """Return the name of a UID."""
    return escaped(looked_up(uid).name)
