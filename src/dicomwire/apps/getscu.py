"""getscu: retrieves objects over the association of the request (C-GET; PS3.4 Annex C).

The objects are written in `receiving`; the responses are counted in `retrieving`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire import Association, StoragePresentationContexts, build_context, build_role
from dicomwire.apps.arguments import add_peer
from dicomwire.apps.console import NO_ASSOCIATION, Console, run
from dicomwire.apps.identifier import build_identifier, check_identifier
from dicomwire.apps.querying import MESSAGE_ID, Operation
from dicomwire.apps.receiving import Receiver
from dicomwire.apps.requesting import associate, exit_code
from dicomwire.apps.retrieving import retrieval_negotiation, retrieval_parser, retrieve
from dicomwire.pdu_primitives import UserItem
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelGet,
    PatientStudyOnlyQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelGet,
)
from dicomwire.status import QR_GET_SERVICE_CLASS_STATUS

LOGGER = logging.getLogger("dicomwire.getscu")

_MODELS = {
    "-P": PatientRootQueryRetrieveInformationModelGet,
    "-S": StudyRootQueryRetrieveInformationModelGet,
    "-O": PatientStudyOnlyQueryRetrieveInformationModelGet,
}


_EXAMPLES = (
    "getscu localhost 11112 -k QueryRetrieveLevel=PATIENT -k PatientID=1234 -od received",
    "getscu localhost 11112 -S -k QueryRetrieveLevel=STUDY -k StudyInstanceUID=1.2.3",
)


def _parser() -> ArgumentParser:
    parser = retrieval_parser("getscu", "Retrieve objects from a peer (C-GET).", _MODELS, _EXAMPLES)
    add_peer(parser, "GETSCU", verbose=True)
    return parser


def main(args: list[str] | None = None) -> int:
    """Run getscu and return its exit code; see ``dicomwire getscu --help``."""
    parser = _parser()
    options = parser.parse_args(args)
    check_identifier(parser, options)
    return run(options, _get)


def _get(options: Namespace, console: Console) -> int:
    identifier = build_identifier(options)
    receiver = Receiver(options, LOGGER)
    storage = StoragePresentationContexts
    contexts = [build_context(options.model), *storage]
    roles = [build_role(each.abstract_syntax or "", scp_role=True) for each in storage]
    wanted: list[UserItem] = [*roles, *retrieval_negotiation(options)]
    handlers = receiver.handlers
    with associate(options, contexts, LOGGER, ext_neg=wanted, evt_handlers=handlers) as association:
        association.receive_to = receiver.receive_to
        statuses = QR_GET_SERVICE_CLASS_STATUS
        operation = Operation(options, association, LOGGER, "Get", statuses)
        if operation.context() is None:
            return exit_code(options, NO_ASSOCIATION)
        _check_roles(association)
        responses = association.send_c_get(identifier, options.model, MESSAGE_ID)
        return retrieve(options, console, LOGGER, operation, responses, receiver)


def _check_roles(association: Association) -> None:
    """Warn if nothing can be received: some peers do not support role selection."""
    if not any(context.as_scp for context in association.accepted_contexts):
        LOGGER.warning("The peer cannot send objects on this association: try movescu")
