"""movescu: lets a peer send objects to an AE, or to this process (C-MOVE; PS3.4 Annex C).

Received objects are written in `receiving`; the responses are counted in `retrieving`.
"""

from __future__ import annotations

import logging
import ssl
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    Association,
    Settings,
    StoragePresentationContexts,
    build_context,
)
from dicomwire.apps.arguments import add_peer, ae_title, listening_port
from dicomwire.apps.console import NO_ASSOCIATION, Console, run
from dicomwire.apps.identifier import build_identifier, check_identifier
from dicomwire.apps.querying import MESSAGE_ID, Operation
from dicomwire.apps.receiving import Receiver
from dicomwire.apps.requesting import associate, exit_code
from dicomwire.apps.retrieving import retrieval_negotiation, retrieval_parser, retrieve
from dicomwire.apps.security import server_tls
from dicomwire.apps.serving import explaining, supporting
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelMove,
)
from dicomwire.status import QR_MOVE_SERVICE_CLASS_STATUS

LOGGER = logging.getLogger("dicomwire.movescu")

_MODELS = {
    "-P": PatientRootQueryRetrieveInformationModelMove,
    "-S": StudyRootQueryRetrieveInformationModelMove,
    "-O": PatientStudyOnlyQueryRetrieveInformationModelMove,
}
_DESTINATION = "STORESCP"


_EXAMPLES = (
    "movescu localhost 11112 -aem STATION -k QueryRetrieveLevel=PATIENT -k PatientID=1234",
    "movescu localhost 11112 --store -S -k QueryRetrieveLevel=STUDY -k StudyInstanceUID=1.2.3",
)


def _parser() -> ArgumentParser:
    parser = retrieval_parser(
        "movescu", "Let a peer send objects to an AE (C-MOVE).", _MODELS, _EXAMPLES
    )
    group = parser.add_argument_group("destination")
    group.add_argument(
        "-aem",
        "--move-aet",
        metavar="TITLE",
        type=ae_title,
        help="AE title of the destination, which the peer must know "
        f"(default: {_DESTINATION}, or the title of --store-aet)",
    )
    group.add_argument("--store", action="store_true", help="receive the objects in this process")
    group.add_argument(
        "--store-port",
        metavar="PORT",
        type=listening_port,
        default=11113,
        help="port to receive on; with 0 the system chooses one (default: %(default)s)",
    )
    group.add_argument(
        "--store-aet",
        metavar="TITLE",
        type=ae_title,
        default=_DESTINATION,
        help="AE title to receive as (default: %(default)s)",
    )
    group.add_argument(
        "--store-address",
        metavar="ADDRESS",
        help="address of the network interface to receive on, '' for all "
        "(default: the one that leads to the peer)",
    )
    add_peer(parser, "MOVESCU", "both", verbose=True)
    return parser


def main(args: list[str] | None = None) -> int:
    """Run movescu and return its exit code; see ``dicomwire movescu --help``."""
    parser = _parser()
    options = parser.parse_args(args)
    check_identifier(parser, options)
    return run(options, _move)


def _move(options: Namespace, console: Console) -> int:
    identifier = build_identifier(options)
    receiver = Receiver(options, LOGGER) if options.store else None
    ssl_context = server_tls(options) if options.store else None
    contexts = [build_context(options.model)]
    wanted = retrieval_negotiation(options)
    with associate(options, contexts, LOGGER, ext_neg=wanted) as association:
        statuses = QR_MOVE_SERVICE_CLASS_STATUS
        operation = Operation(options, association, LOGGER, "Move", statuses)
        if operation.context() is None:
            return exit_code(options, NO_ASSOCIATION)
        with _receiving(options, association, receiver, ssl_context):
            title = options.move_aet or (options.store_aet if receiver else _DESTINATION)
            responses = association.send_c_move(identifier, title, options.model, MESSAGE_ID)
            return retrieve(options, console, LOGGER, operation, responses, receiver)


@contextmanager
def _receiving(
    options: Namespace,
    association: Association,
    receiver: Receiver | None,
    ssl_context: ssl.SSLContext | None,
) -> Iterator[None]:
    """Run a Storage SCP during the block, if there is a receiver."""
    if receiver is None:
        yield
        return
    ae = AE(
        options.store_aet,
        Settings(
            acse_timeout=options.acse_timeout,
            dimse_timeout=options.dimse_timeout,
            network_timeout=options.network_timeout,
        ),
    )
    ae.maximum_pdu_size = options.max_pdu
    host = options.store_address
    if host is None:
        host = association.requestor.address
    storage = [*AllStoragePresentationContexts, *StoragePresentationContexts]
    with explaining(host, options.store_port, "--store-address"):
        server = ae.start_server(
            (host, options.store_port),
            block=False,
            contexts=supporting(storage, ALL_TRANSFER_SYNTAXES),
            ssl_context=ssl_context,
            evt_handlers=receiver.handlers,
            receive_to=receiver.receive_to,
        )
    assert server is not None
    try:
        host, port = server.server_address[:2]
        LOGGER.info("%s receives on %s, port %d", options.store_aet, host, port)
        yield
    finally:
        ae.shutdown()
