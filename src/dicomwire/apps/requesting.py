"""Requests the association of an application, and logs why there is none, or no response."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dicomwire.apps.console import DONE, FAILED, NO_ASSOCIATION
from dicomwire.apps.identity import user_identity
from dicomwire.apps.security import client_tls
from dicomwire.errors import (
    AssociationAborted,
    AssociationFailure,
    AssociationRejected,
    AssociationTimeout,
    ConnectionLost,
)
from dicomwire.logs import Progress, escaped
from dicomwire.pdu_primitives import UserItem
from dicomwire.plain import AE, Association, PresentationContext
from dicomwire.settings import Settings
from dicomwire.status import (
    STORAGE_SERVICE_CLASS_STATUS,
    StatusTable,
    described,
)

if TYPE_CHECKING:
    from dicomwire.plain.bulk import Sent

LAST_MESSAGE_ID = 65535


def associate(
    options: Namespace,
    contexts: list[PresentationContext],
    logger: logging.Logger,
    ext_neg: Sequence[UserItem] = (),
    **others: Any,
) -> Association:
    """Request an association and return it; log why if it is not established.

    The caller says which presentation contexts the peer refused, if it answered with these.
    `others` are further keyword arguments of `AE.associate`.
    """
    connection = connection_options(options)
    connection["ext_neg"] = [*ext_neg, *connection["ext_neg"]]
    association = entity(options).associate(
        options.addr, options.port, contexts, **connection, **others
    )
    if not association.is_established and not association.rejected_contexts:
        explain(association.failure, logger, connection["tls_args"] is not None)
    return association


def entity(options: Namespace) -> AE:
    """Return the AE that requests associations."""
    return AE(
        options.calling_aet,
        Settings(
            connection_timeout=options.connection_timeout,
            acse_timeout=options.acse_timeout,
            dimse_timeout=options.dimse_timeout,
            network_timeout=options.network_timeout,
        ),
    )


def connection_options(options: Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `AE.associate` that the options give."""
    return {
        "ae_title": options.called_aet,
        "max_pdu": options.max_pdu,
        "tls_args": client_tls(options),
        "ext_neg": user_identity(options),
    }


def explain(
    failure: AssociationFailure | None, logger: logging.Logger, is_tls: bool = False
) -> None:
    """Log why an association was not established, in one line."""
    if failure is None or isinstance(failure, AssociationRejected):
        return  # the library logs a rejection
    if isinstance(failure, AssociationAborted) and failure.reason and not failure.by_peer:
        return  # the library logs a violation of the protocol, too
    if failure.stage in ("connect", "tls"):
        logger.error("%s: %s", Progress.CANNOT_CONNECT, escaped(str(failure)))
    elif isinstance(failure, AssociationTimeout):
        logger.error("%s (%s)", Progress.ACSE_TIMEOUT, failure.peer)
    else:
        advice = "; try --tls" if isinstance(failure, ConnectionLost) and not is_tls else ""
        logger.error("Association request failed: %s%s", escaped(str(failure)), advice)


def explain_no_response(association: Association, logger: logging.Logger) -> None:
    """Log why no response came, unless the library has logged that."""
    failure = association.failure
    if isinstance(failure, AssociationTimeout):
        return
    if isinstance(failure, AssociationAborted) and not failure.by_peer:
        return
    logger.error("No response: %s", failure)


def exit_code(options: Namespace, code: int) -> int:
    """Return `code`, or with ``--lenient`` 0 if there was an association, and 1 if not."""
    if options.lenient:
        return FAILED if code == NO_ASSOCIATION else DONE
    return code


def message_id(number: int) -> int:
    """Return the Message ID of the `number`th message, counted from 0 (PS3.7 Annex E.1)."""
    return number % LAST_MESSAGE_ID + 1


def answered(code: int, comment: str | None, table: StatusTable) -> str:
    """Return the status and the ErrorComment of a response in words."""
    text = described(code, table)
    return f"{text} ({escaped(comment)})" if comment else text


def answer_to(sent: Sent) -> str:
    """Return the answer of the peer to a C-STORE in words."""
    response = sent.response
    assert response is not None
    assert response.Status is not None
    return answered(response.Status, response.ErrorComment, STORAGE_SERVICE_CLASS_STATUS)
