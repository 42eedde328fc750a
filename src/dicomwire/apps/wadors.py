"""wadors: retrieves from a DICOMweb server (WADO-RS, PS3.18 Section 10.4): objects into files.

It can also show metadata, and write frames and images.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from functools import partial

from dicomwire.apps.arguments import new_parser
from dicomwire.apps.console import DONE, INTERRUPTED, Console, Misuse, run
from dicomwire.apps.files import file_name, safe_uid
from dicomwire.apps.matches import JsonArray
from dicomwire.apps.receiving import add_folder, warn_of_overwriting, writable_folder
from dicomwire.apps.web_server import EXIT_CODES, URL, add_web_server, client_of, exit_code_of
from dicomwire.datasets import FileHead
from dicomwire.leftovers import remove_leftovers
from dicomwire.logs import escaped
from dicomwire.web import Client, WebFailure

LOGGER = logging.getLogger("dicomwire.wadors")

_EPILOG = f"""\
{URL}

The name of a file is <prefix>.<SOP Instance UID>, as that of getscu. It replaces a file of the same
name. Until it is complete, its name is .<32 hex digits>.part.

{EXIT_CODES}"""
_EXAMPLES = (
    "wadors http://localhost:8042/dicom-web 1.2.3 -od received",
    "wadors http://localhost:8042/dicom-web 1.2.3 1.2.3.4 --metadata",
    "wadors http://localhost:8042/dicom-web 1.2.3 1.2.3.4 1.2.3.4.5 --rendered --window 40,400",
)
_MB = 1_000_000
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif"}


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(each) for each in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise ArgumentTypeError(f"{text!r} are no numbers of frames, such as 1,2,5")
    return numbers


def _parser() -> ArgumentParser:
    purpose = "Retrieve from a DICOMweb server (WADO-RS)."
    parser = new_parser("wadors", purpose, _EPILOG, _EXAMPLES)
    group = parser.add_argument_group("retrieve something else than objects")
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--metadata",
        action="store_true",
        help="write the datasets to standard output, an array in the DICOM JSON Model, without "
        "large values",
    )
    one.add_argument(
        "--frames",
        metavar="NUMBERS",
        type=_numbers,
        help="write these frames of an instance into files, uncompressed; such as 1,2,5",
    )
    one.add_argument("--rendered", action="store_true", help="write an image for display")
    one.add_argument("--thumbnail", action="store_true", help="write a small image")
    group = parser.add_argument_group("files")
    add_folder(group)
    group.add_argument(
        "--transfer-syntax",
        metavar="UID",
        action="append",
        default=[],
        help="ask for objects in this transfer syntax; may be repeated (default: as the server "
        "has them)",
    )
    group = parser.add_argument_group("images")
    group.add_argument(
        "--type",
        choices=tuple(_EXTENSIONS),
        default="image/jpeg",
        help="media type (default: %(default)s)",
    )
    group.add_argument("--window", metavar="C,W", help="center and width of the window")
    group.add_argument("--viewport", metavar="W,H", help="width and height in pixels")
    group.add_argument("--quality", metavar="N", help="quality of JPEG, 1 to 100")
    group = parser.add_argument_group("summary")
    group.add_argument(
        "--json", action="store_true", help="write a summary to standard output, a JSON object"
    )
    add_web_server(parser)
    parser.add_argument("study", metavar="STUDY", help="Study Instance UID")
    parser.add_argument("series", metavar="SERIES", nargs="?", default="", help="of a series")
    parser.add_argument("instance", metavar="INSTANCE", nargs="?", default="", help="of an object")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run wadors and return its exit code; see ``dicomwire wadors --help``."""
    return run(_parser().parse_args(args), _retrieve)


def _retrieve(options: Namespace, console: Console) -> int:
    if options.frames and not options.instance:
        raise Misuse("--frames needs the UIDs of study, series and instance; see --help")
    uids = options.study, options.series, options.instance
    with client_of(options) as client:
        try:
            if options.metadata:
                display = JsonArray(console)
                for dataset in client.metadata(*uids):
                    display.add(dataset)
                display.close()
                return DONE
            return _write(options, console, _files(options, client, uids))
        except ValueError as error:
            raise Misuse(str(error)) from None
        except WebFailure as failure:
            return exit_code_of(failure, LOGGER)


def _files(options: Namespace, client: Client, uids: tuple[str, str, str]) -> Iterator[int]:
    """Write files, and yield the size of each."""
    folder = writable_folder(options)
    if options.rendered or options.thumbnail:
        image = client.rendered if options.rendered else client.thumbnail
        parameters = _parameters(options)
        data = image(*uids, media_type=options.type, parameters=parameters)
        name = f"{safe_uid([uid for uid in uids if uid][-1])}.{_EXTENSIONS[options.type]}"
        yield _write_file(folder, name, data)
    elif options.frames:
        frames = client.frames(*uids, options.frames)
        for number, frame in zip(options.frames, frames, strict=False):
            yield _write_file(folder, f"{safe_uid(options.instance)}.{number}.raw", frame.data)
    else:
        remove_leftovers(folder)
        LOGGER.info("Files go to %s", escaped(folder))
        syntaxes = options.transfer_syntax or "*"
        name_of = partial(_name, folder)
        for found in client.retrieve_to(folder, *uids, transfer_syntax=syntaxes, name=name_of):
            LOGGER.info("Received: %s", escaped(str(found.path)))
            yield found.size


def _parameters(options: Namespace) -> dict[str, str]:
    window = None if options.window is None else f"{options.window},linear"
    given = {"window": window, "viewport": options.viewport, "quality": options.quality}
    return {name: value for name, value in given.items() if value is not None}


def _name(folder: str, head: FileHead) -> str:
    name = file_name(head.sop_class_uid, head.sop_instance_uid)
    warn_of_overwriting(os.path.join(folder, name), LOGGER)
    return name


def _write_file(folder: str, name: str, data: bytes) -> int:
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    LOGGER.info("Received: %s", escaped(os.path.join(folder, name)))
    return len(data)


def _write(options: Namespace, console: Console, files: Iterator[int]) -> int:
    """Write and count the files; return the exit code."""
    began = time.monotonic()
    received = size = 0
    try:
        for each in files:
            received, size = received + 1, size + each
            console.follow(partial("{} received, {:.1f} MB".format, received, size / _MB))
    except KeyboardInterrupt:
        LOGGER.error("Interrupted: %d received; the same command asks for all again", received)
        return INTERRUPTED
    finally:
        seconds = time.monotonic() - began
        if options.json:
            summary = {"received": received, "bytes": size, "seconds": round(seconds, 6)}
            sys.stdout.write(f"{json.dumps(summary)}\n")
    console.conclude(LOGGER, f"{received} received, {size / _MB:.1f} MB")
    return DONE
