"""stowrs: sends DICOM files and folders to a DICOMweb server (STOW-RS, PS3.18 Section 10.5).

The files are determined in `outgoing`, as for storescu.
"""

from __future__ import annotations

import json
import logging
import time
from argparse import ArgumentParser, Namespace

from dicomwire.apps.arguments import count, new_parser
from dicomwire.apps.console import DONE, FAILED, INTERRUPTED, NO_ASSOCIATION, Console, run
from dicomwire.apps.outgoing import FilesToSend, Outgoing
from dicomwire.apps.tally import Tally
from dicomwire.apps.web_server import EXIT_CODES, URL, add_web_server, client_of
from dicomwire.logs import counted, escaped
from dicomwire.status import STORAGE_SERVICE_CLASS_STATUS, described
from dicomwire.web import Stored, WebFailure

LOGGER = logging.getLogger("dicomwire.stowrs")

_EPILOG = f"""\
{URL}

Several files are sent in each request, unchanged but for their file meta information. Each of them
has its own result. A request is sent again only if the server has not begun to serve it. It does no
harm to send the same files again: a server answers with success for files that it has already.

Files in folders that are not DICOM files, and DICOMDIRs, are left out; these are no failures.

{EXIT_CODES}"""
_EXAMPLES = (
    "stowrs http://localhost:8042/dicom-web image.dcm",
    "stowrs https://pacs.example.org/dicom-web -r studies --token env:TOKEN",
)
_MOST_OBJECTS = 100


def _parser() -> ArgumentParser:
    purpose = "Send DICOM files to a DICOMweb server (STOW-RS)."
    parser = new_parser("stowrs", purpose, _EPILOG, _EXAMPLES)
    group = parser.add_argument_group("files")
    group.add_argument(
        "-r",
        "--recurse",
        action="store_true",
        help="send the files in folders within folders, too",
    )
    group = parser.add_argument_group("transmission")
    group.add_argument(
        "--study",
        metavar="UID",
        default="",
        help="the study of all objects: the server refuses objects of other studies",
    )
    group.add_argument(
        "--batch",
        metavar="N",
        type=count,
        default=_MOST_OBJECTS,
        help="send up to n files in a request (default: %(default)s)",
    )
    group = parser.add_argument_group("outcome")
    group.add_argument(
        "--json", action="store_true", help="write a summary to standard output, a JSON object"
    )
    add_web_server(parser)
    parser.add_argument("path", nargs="+", help="DICOM file or folder of DICOM files to send")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run stowrs and return its exit code; see ``dicomwire stowrs --help``."""
    return run(_parser().parse_args(args), _store)


def _store(options: Namespace, console: Console) -> int:
    chosen = FilesToSend(options.path, options.recurse, None, LOGGER)
    sender = _Sender(options, console, chosen)
    for path, reason in chosen.unusable:
        sender.tally.fail(path, reason)
    code = sender.send()
    if chosen.count:
        console.conclude(LOGGER, str(sender.tally))
    if options.json:
        summary = sender.tally.as_dict()
        for of_associations in ("resumed", "associations"):
            del summary[of_associations]
        print(json.dumps(summary))
    return code or (FAILED if sender.tally.failed else DONE)


class _Sender:
    """Sends the files, and counts the results."""

    def __init__(self, options: Namespace, console: Console, chosen: FilesToSend) -> None:
        self.tally = Tally(skipped=chosen.skipped)
        self._options = options
        self._console = console
        self._count, self._size = chosen.count, chosen.size
        self._left = {file.path: file for group in chosen.groups for file in group.files}
        self._unreachable: WebFailure | None = None
        self._began = time.monotonic()

    def send(self) -> int:
        """Send all files; return the exit code, if no failure of a file determines it."""
        if not self._left:
            return DONE
        options = self._options
        try:
            with client_of(options) as client:
                paths = list(self._left)
                results = client.store(paths, study=options.study, most_objects=options.batch)
                for stored in results:
                    self._take(stored, self._left.pop(stored.item))
                    self.tally.seconds = time.monotonic() - self._began
                    self._console.follow(self._progress)
        except KeyboardInterrupt:
            for path in self._left:
                self.tally.fail(path, "not sent: interrupted")
            files = counted(self._count, "file")
            LOGGER.error("Not sent: %d of %s: interrupted", len(self._left), files)
            return INTERRUPTED
        if self._unreachable is not None:
            LOGGER.error("%s", self._unreachable)
        return DONE if self._unreachable is None or self.tally.sent else NO_ASSOCIATION

    def _progress(self) -> str:
        done = self._count - len(self._left)
        return self.tally.progress(done, self._count, self._size, self.tally.seconds)

    def _take(self, stored: Stored, file: Outgoing) -> None:
        path = escaped(file.path)
        if stored.failure is not None:
            level = logging.ERROR
            if isinstance(stored.failure, WebFailure) and stored.failure.is_unreachable:
                self._unreachable = stored.failure
                level = logging.INFO  # `send` logs the cause once
            self._fail(file, escaped(str(stored.failure)), None, level)
            return
        status = stored.status
        text = "" if status is None else described(status, STORAGE_SERVICE_CLASS_STATUS)
        if not stored.is_stored:
            self._fail(file, text or "the server states no reason", status)
            return
        self.tally.sent += 1
        self.tally.size += file.size
        LOGGER.info("Stored: %s: %s", path, text)
        if status:
            self.tally.warned += 1
            LOGGER.warning("Stored with a warning: %s: %s", path, text)

    def _fail(
        self, file: Outgoing, reason: str, status: int | None, level: int = logging.ERROR
    ) -> None:
        LOGGER.log(level, "Not stored: %s: %s", escaped(file.path), reason)
        self.tally.fail(file.path, reason, status)
