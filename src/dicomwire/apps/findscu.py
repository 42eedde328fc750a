"""findscu: asks a peer what it has (C-FIND; PS3.4 Annexes C, K and CC), and shows the matches.

How the association comes about is in `requesting`, how matches look in `matches`.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import closing
from functools import partial

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomwire import (
    UID,
    UID_PREFIX,
    build_context,
)
from dicomwire.apps.arguments import EXIT_CODES, LEVELS, add_peer, new_parser
from dicomwire.apps.console import DONE, FAILED, NO_ASSOCIATION, Console, Stop, run
from dicomwire.apps.identifier import PATHS, add_identifier, build_identifier, check_identifier
from dicomwire.apps.matches import Display, JsonArray, Lines, Table
from dicomwire.apps.querying import (
    MESSAGE_ID,
    Operation,
    add_models,
    add_negotiation,
    add_outcome,
    negotiation,
)
from dicomwire.apps.receiving import add_folder, writable_folder
from dicomwire.apps.requesting import associate, exit_code
from dicomwire.data.codec import DatasetError, encode_dataset
from dicomwire.data.file_meta import file_head
from dicomwire.logs import escaped
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation
from dicomwire.sop_class import (
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    UnifiedProcedureStepPull,
)
from dicomwire.status import QR_FIND_SERVICE_CLASS_STATUS

LOGGER = logging.getLogger("dicomwire.findscu")

_EPILOG = f"""\
{PATHS}

Matches are written to standard output: on a terminal as a table if that is not too wide, else
each element on a line of its own; with -q only as JSON. The log goes to standard error.

{EXIT_CODES}"""


_EXAMPLES = (
    'findscu localhost 11112 -k QueryRetrieveLevel=PATIENT -k "PatientName=Doe*" -k PatientID',
    "findscu localhost 11112 -S -k QueryRetrieveLevel=STUDY -k StudyDate=20260101- -k PatientName",
    "findscu localhost 11112 -W -k ScheduledProcedureStepSequence[0].Modality=CT -k PatientName",
)


def _parser() -> ArgumentParser:
    parser = new_parser("findscu", "Query a peer (C-FIND).", _EPILOG, _EXAMPLES)
    add_identifier(parser)
    models = {
        "-P": PatientRootQueryRetrieveInformationModelFind,
        "-S": StudyRootQueryRetrieveInformationModelFind,
        "-O": PatientStudyOnlyQueryRetrieveInformationModelFind,
        "-W": ModalityWorklistInformationFind,
        "-U": UnifiedProcedureStepPull,
    }
    add_models(parser, models)
    flags = {
        "--relational-query": "relational queries",
        "--dt-matching": "combined matching of dates and times",
        "--fuzzy-names": "fuzzy semantic matching of person names",
        "--timezone-adj": "timezone query adjustment",
        "--enhanced-conversion": "enhanced multi-frame image conversion",
    }
    add_negotiation(parser, flags)
    group = parser.add_argument_group("files")
    group.add_argument(
        "-w",
        "--write",
        action="store_true",
        help="write the matches into files rsp000001.dcm, rsp000002.dcm and so on",
    )
    add_folder(group)
    add_outcome(
        parser,
        json="show the matches in the DICOM JSON Model, as one array",
    )
    add_peer(parser, "FINDSCU", verbose=True, levels=(*LEVELS, "fatal", "trace"))
    return parser


def main(args: list[str] | None = None) -> int:
    """Run findscu and return its exit code; see ``dicomwire findscu --help``."""
    parser = _parser()
    options = parser.parse_args(args)
    check_identifier(parser, options)
    return run(options, _find)


def _find(options: Namespace, console: Console) -> int:
    identifier = build_identifier(options)
    folder = writable_folder(options) if options.write else None
    wanted = _negotiation(options)
    contexts = [build_context(options.model)]
    with associate(options, contexts, LOGGER, ext_neg=wanted) as association:
        statuses = QR_FIND_SERVICE_CLASS_STATUS
        operation = Operation(options, association, LOGGER, "Find", statuses)
        context = operation.context()
        if context is None:
            return exit_code(options, NO_ASSOCIATION)
        code = DONE
        responses = association.send_c_find(identifier, options.model, MESSAGE_ID)
        matches = 0
        with closing(_display(options, console)) as display:
            for _, match in operation.pending(responses):
                if match is None or operation.is_cancelled:
                    continue
                matches += 1
                display.add(match)
                if folder is not None:
                    path = os.path.join(folder, f"rsp{matches:06}.dcm")
                    if not _write(path, match, options.model, context.transfer_syntax[0]):
                        code = FAILED
                console.follow(partial("matches: {}".format, matches))
    return exit_code(options, code if operation.succeeded else FAILED)


def _negotiation(options: Namespace) -> list[SOPClassExtendedNegotiation]:
    fuzzy, timezone = options.fuzzy_names, options.timezone_adj
    if options.model == ModalityWorklistInformationFind:  # PS3.4 Section K.5.1
        return negotiation(
            options.model, [True, True, fuzzy, timezone] if fuzzy or timezone else []
        )
    relational, combined = options.relational_query, options.dt_matching
    enhanced = options.enhanced_conversion
    return negotiation(options.model, [relational, combined, fuzzy, timezone, enhanced])


def _display(options: Namespace, console: Console) -> Display:
    if options.json:
        return JsonArray(console)
    if options.quiet:
        return Display(console)
    return Table(console) if sys.stdout.isatty() else Lines(console)


def _write(path: str, match: Dataset, sop_class: UID, syntax: UID) -> bool:
    """Write a match into a DICOM file of its own; return whether that could be done."""
    try:
        data = encode_dataset(match, syntax)
    except DatasetError as error:  # it was understood so far only as was needed
        LOGGER.error("Cannot write %s: %s", escaped(path), escaped(str(error)))
        return False
    try:
        with open(path, "wb") as file:
            file.write(file_head(sop_class, generate_uid(prefix=UID_PREFIX), syntax))
            file.write(data)
    except OSError as error:
        raise Stop(f"Cannot write {path}: {error.strerror}") from None
    return True
