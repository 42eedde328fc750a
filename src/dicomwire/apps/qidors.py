"""qidors: searches a DICOMweb server (QIDO-RS, PS3.18 Section 10.6), and shows the matches.

`matches` shows the matches, as for findscu.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from contextlib import closing
from functools import partial

from pydicom.dataset import Dataset

from dicomwire.apps.arguments import count, new_parser
from dicomwire.apps.console import DONE, INTERRUPTED, Console, Misuse, run
from dicomwire.apps.identifier import PATHS, add_identifier, build_identifier
from dicomwire.apps.matches import add_forms, asked_for, display_for
from dicomwire.apps.web_server import EXIT_CODES, URL, add_web_server, client_of, exit_code_of
from dicomwire.logs import counted
from dicomwire.web import WebFailure

LOGGER = logging.getLogger("dicomwire.qidors")

_EPILOG = f"""\
{URL}

{PATHS}

qidors writes the matches to standard output: on a terminal as a table of the query keys, with texts
shortened to its width; otherwise with a line for each element, in the order of arrival.

{EXIT_CODES}"""
_EXAMPLES = (
    "qidors http://localhost:8042/dicom-web",
    'qidors http://localhost:8042/dicom-web -k "PatientName=Doe*" -k StudyDate=20260101- --csv',
    "qidors http://localhost:8042/dicom-web -L instances --study 1.2.3 --limit 10 --json",
)
_COLUMNS = {
    "studies": "StudyDate PatientID PatientName ModalitiesInStudy StudyDescription "
    "NumberOfStudyRelatedInstances StudyInstanceUID",
    "series": "Modality SeriesNumber SeriesDescription NumberOfSeriesRelatedInstances "
    "SeriesInstanceUID",
    "instances": "SOPClassUID InstanceNumber SOPInstanceUID",
}
"""The columns of a table if no keys are given."""


def _parser() -> ArgumentParser:
    parser = new_parser("qidors", "Search a DICOMweb server (QIDO-RS).", _EPILOG, _EXAMPLES)
    group = parser.add_argument_group("search")
    group.add_argument(
        "-L",
        "--level",
        choices=tuple(_COLUMNS),
        default="studies",
        help="search for these (default: %(default)s)",
    )
    group.add_argument("--study", metavar="UID", default="", help="search only in this study")
    group.add_argument("--series", metavar="UID", default="", help="search only in this series")
    group.add_argument(
        "--include",
        metavar="NAME",
        action="append",
        default=[],
        help="ask for this element, too, by keyword or tag, or for all; may be repeated",
    )
    group.add_argument("--fuzzy", action="store_true", help="let names match by their sound")
    group.add_argument("--limit", metavar="N", type=count, help="ask for n matches at the most")
    group.add_argument(
        "--offset", metavar="N", type=count, default=0, help="skip the first n matches"
    )
    add_identifier(parser)
    add_forms(parser)
    add_web_server(parser)
    return parser


def main(args: list[str] | None = None) -> int:
    """Run qidors and return its exit code; see ``dicomwire qidors --help``."""
    return run(_parser().parse_args(args), _search)


def _search(options: Namespace, console: Console) -> int:
    if options.series and not options.study:
        raise Misuse("--series needs --study; see --help")
    keys = build_identifier(options) if options.keyword or options.file else Dataset()
    columns = asked_for(keys) + [each for each in options.include if each != "all"]
    display = display_for(options, console, columns or _COLUMNS[options.level].split())
    matches = 0
    with client_of(options) as client, closing(display):
        try:
            for match in client.search(
                options.level,
                keys,
                study=options.study,
                series=options.series,
                include=options.include,
                fuzzy=options.fuzzy,
                limit=options.limit,
                offset=options.offset,
            ):
                matches += 1
                display.add(match)
                console.follow(partial("matches: {}".format, matches))
        except KeyboardInterrupt:
            found = counted(matches, "match", "matches")
            LOGGER.error("Interrupted: %s so far, there may be more", found)
            return INTERRUPTED
        except WebFailure as failure:
            return exit_code_of(failure, LOGGER)
    return DONE
