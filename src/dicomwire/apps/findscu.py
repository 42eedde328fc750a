"""findscu: queries a peer (C-FIND; PS3.4 Annexes C, K and CC), and shows the matches.

The association is requested in `requesting`; the matches are shown in `matches`.
"""

from __future__ import annotations

import logging
import os
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
from dicomwire.apps.console import DONE, FAILED, INTERRUPTED, NO_ASSOCIATION, Console, Stop, run
from dicomwire.apps.identifier import (
    PATHS,
    add_identifier,
    build_identifier,
    check_identifier,
)
from dicomwire.apps.matches import add_forms, asked_for, display_for
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
from dicomwire.logs import counted, escaped
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

findscu writes the matches to standard output: on a terminal as a table of the query keys, with
texts shortened to its width; otherwise with a line for each element, in the order of arrival.

{EXIT_CODES}"""


_EXAMPLES = (
    'findscu localhost 11112 -k QueryRetrieveLevel=PATIENT -k "PatientName=Doe*" -k PatientID',
    "findscu localhost 11112 -S -k QueryRetrieveLevel=STUDY -k StudyDate=20260101- -k PatientName",
    "findscu localhost 11112 -W -k ScheduledProcedureStepSequence[0].Modality=CT -k PatientName",
)


def _parser(verbose: bool) -> ArgumentParser:
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
    group = parser.add_argument_group("files of matches")
    group.add_argument(
        "-w",
        "--write",
        action="store_true",
        help="write the matches into files rsp000001.dcm, rsp000002.dcm and so on",
    )
    add_folder(group)
    add_forms(parser)
    add_outcome(parser)
    add_peer(parser, "FINDSCU", verbose=verbose, levels=(*LEVELS, "fatal", "trace"))
    return parser


def main(args: list[str] | None = None, verbose: bool = False) -> int:
    """Run findscu and return its exit code; see ``dicomwire findscu --help``.

    `verbose` says whether it logs each step without -v.
    """
    parser = _parser(verbose)
    options = parser.parse_args(args)
    check_identifier(parser, options)
    return run(options, _find)


def _find(options: Namespace, console: Console) -> int:
    identifier = build_identifier(options)
    display = display_for(options, console, asked_for(identifier))
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
        with closing(display) as display:
            try:
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
            except KeyboardInterrupt:
                operation.cancel()
                found = counted(matches, "match", "matches")
                LOGGER.error("Interrupted: %s so far, there may be more", found)
                return INTERRUPTED
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


def _write(path: str, match: Dataset, sop_class: UID, syntax: UID) -> bool:
    """Write a match into a DICOM file; return whether its dataset could be encoded."""
    try:
        data = encode_dataset(match, syntax)
    except DatasetError as error:  # the values were not decoded before
        LOGGER.error("Cannot write %s: %s", escaped(path), escaped(str(error)))
        return False
    try:
        with open(path, "wb") as file:
            file.write(file_head(sop_class, generate_uid(prefix=UID_PREFIX), syntax))
            file.write(data)
    except OSError as error:
        raise Stop(f"Cannot write {path}: {error.strerror}") from None
    return True
