"""C-FIND as provider (PS3.7 Section 9.1.2, PS3.4 Annexes C, K, Q, T, U, V and CC).

The handler matches; this module sends its results, and ends the operation.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from pydicom.dataset import Dataset

from dicomwire.data.codec import DatasetError, decode_for, encode_dataset
from dicomwire.errors import AssociationFailure
from dicomwire.events import EVT_C_FIND
from dicomwire.logs import LOGGER, log_identifier
from dicomwire.protocol.command import Message
from dicomwire.registry.services import SOPClass
from dicomwire.registry.tables import RepositoryQuery
from dicomwire.services.answers import (
    CANCELLED,
    PENDING,
    PROGRAM_FAILED,
    SUCCESS,
    answer,
    ask,
    conclude,
    end_handler,
    log_failure,
    respond,
    set_status,
)
from dicomwire.services.port import END, Incoming, Port
from dicomwire.status import (
    STATUS_FAILURE,
    STATUS_PENDING,
    STATUS_WARNING,
    code_to_category,
)

HANDLER_FAILED = 0xC311
ENCODING_FAILED = 0xC312


async def find(
    port: Port, incoming: Incoming, sop_class: SOPClass, *, only_one: bool = False
) -> None:
    """Serve a C-FIND whose handler yields (status, identifier) pairs.

    A pending result is sent with its identifier, a Dataset or its bytes; any other ends the
    operation, and so does the first one with `only_one`. When the handler has no more results, or
    returns None, the last status is Success. If the peer cancels and the handler does not look at
    `event.is_cancelled`, or if the peer is gone, the handler is closed.

    The warning 0xB001 is the last response if no result follows it. For Repository Query, Success
    follows nevertheless, since its users wait for it (PS3.4 Section C.6.4).
    """
    response = answer(incoming.message, PENDING)
    results: Any = None
    try:
        answered = await ask(port, EVT_C_FIND, incoming)
        results = port.iterate(() if answered is None else answered)
        await _send_all(port, incoming, response, results, sop_class, only_one)
    except AssociationFailure:
        raise
    except Exception as error:
        log_failure(port, incoming, "evt.EVT_C_FIND", error)
        conclude(response, HANDLER_FAILED, PROGRAM_FAILED)
    finally:
        await end_handler(port, results)
    await respond(port, incoming, response)


async def _send_all(
    port: Port,
    incoming: Incoming,
    response: Message,
    results: Any,
    sop_class: SOPClass,
    only_one: bool,
) -> None:
    """Send the handler's results until it has no more, or the operation is ended.

    The caller sends `response`, as the last one.
    """
    message_id = incoming.message.MessageID
    assert message_id is not None
    warned = False  # `response` is a warning, not yet sent since it may be the last one
    while True:
        cancelled = port.cancel_waits(message_id)
        if port.is_over:
            return
        result = await port.next_result(results)
        if result is END:
            if not warned:
                conclude(response, SUCCESS)
            return
        if cancelled and port.cancel_waits(message_id):
            conclude(response, CANCELLED)
            return
        if warned:
            await respond(port, incoming, response)
            warned = False
        category = await _send_match(port, incoming, response, result, sop_class)
        if only_one:
            if category == STATUS_PENDING:
                conclude(response, SUCCESS)
            return
        if category == STATUS_WARNING and response.Status in sop_class.statuses:
            if sop_class == RepositoryQuery:
                await respond(port, incoming, response)
            else:
                warned = True
        elif category != STATUS_PENDING:
            return


async def _send_match(
    port: Port, incoming: Incoming, response: Message, result: Any, sop_class: SOPClass
) -> str:
    """Send a result if it is a match; return the category of its status."""
    status, identifier = result
    if not set_status(response, status, sop_class):
        return STATUS_FAILURE
    category = code_to_category(response.Status or 0)
    if category != STATUS_PENDING:
        return category
    try:
        encoded = _encoded(identifier, incoming.context.transfer_syntax[0])
    except DatasetError as error:
        LOGGER.error("A match of evt.EVT_C_FIND cannot be sent: %s", error)
        conclude(response, ENCODING_FAILED, "A match cannot be encoded")
        return STATUS_FAILURE
    await respond(port, incoming, response, encoded)
    return STATUS_PENDING


def _encoded(identifier: Any, transfer_syntax: str) -> bytes:
    """Return the identifier of a match as bytes, which the handler may have made already."""
    if isinstance(identifier, bytes):
        if LOGGER.isEnabledFor(logging.DEBUG):
            with suppress(DatasetError):  # they are sent as they are
                log_identifier("Matching Identifier", decode_for(identifier, transfer_syntax))
        return identifier
    if not isinstance(identifier, Dataset):
        raise DatasetError(f"the identifier is a {type(identifier).__name__}")
    log_identifier("Matching Identifier", identifier)
    return encode_dataset(identifier, transfer_syntax)
