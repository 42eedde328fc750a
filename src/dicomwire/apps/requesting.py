"""How an application asks for an association, and says why it did not get it.

What is sent then is up to the applications.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any

from pydicom.dataset import Dataset

from dicomwire import AE, Association, AssociationRejected, AssociationTimeout, Settings
from dicomwire.logs import News, escaped
from dicomwire.presentation import PresentationContext
from dicomwire.status import GENERAL_STATUS, StatusTable, code_to_category

LAST_MESSAGE_ID = 65535


def associate(
    options: Namespace,
    contexts: list[PresentationContext],
    logger: logging.Logger,
    **others: Any,
) -> Association:
    """Return the association, established or not: then the reason has been logged.

    The other keyword arguments are those of `AE.associate`.
    """
    ae = AE(
        options.calling_aet,
        Settings(
            acse_timeout=options.acse_timeout,
            dimse_timeout=options.dimse_timeout,
            network_timeout=options.network_timeout,
        ),
    )
    association = ae.associate(
        options.addr,
        options.port,
        contexts,
        ae_title=options.called_aet,
        max_pdu=options.max_pdu,
        **others,
    )
    if not association.is_established:
        _explain(association, logger)
    return association


def _explain(association: Association, logger: logging.Logger) -> None:
    failure = association.failure
    if failure is None or isinstance(failure, AssociationRejected):
        return  # the library has said so
    if failure.stage in ("connect", "tls"):
        logger.error(News.CANNOT_CONNECT)
        logger.error("%s: %s", News.CANNOT_OPEN, escaped(str(failure)))
    elif isinstance(failure, AssociationTimeout):
        logger.error("%s (%s)", News.ACSE_TIMEOUT, failure.peer)
    else:
        logger.error("Association request failed: %s", escaped(str(failure)))


def message_id(number: int) -> int:
    """Return the Message ID of the `number`th message, counted from 0 (PS3.7 Annex E.1)."""
    return number % LAST_MESSAGE_ID + 1


def described(code: int, table: StatusTable = GENERAL_STATUS) -> str:
    """Return a status as code, category and, where `table` has one, description."""
    _, description = table.get(code, ("", ""))
    return f"0x{code:04X} - {code_to_category(code)}" + (f": {description}" if description else "")


def answered(status: Dataset, table: StatusTable) -> str:
    """Return what the peer answered in words."""
    comment = status.get("ErrorComment")
    text = described(status.Status, table)
    return f"{text} ({escaped(comment)})" if comment else text
