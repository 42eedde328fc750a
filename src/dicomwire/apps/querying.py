"""The options, the request and the responses that findscu, getscu and movescu share."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset

from dicomwire import UID, Association
from dicomwire.apps.arguments import add_exit_code, count
from dicomwire.apps.requesting import answered, explain_no_response
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation
from dicomwire.presentation import PresentationContext
from dicomwire.status import (
    STATUS_CANCEL,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_WARNING,
    StatusTable,
    code_to_category,
)

MESSAGE_ID = 1

Responses = Iterator[tuple[Dataset, Dataset | None]]

_MODELS = {
    "-P": ("--patient", "patient root information model (default)"),
    "-S": ("--study", "study root information model"),
    "-O": ("--psonly", "patient/study only information model, which is retired"),
    "-W": ("--worklist", "modality worklist information model"),
    "-U": ("--ups", "unified procedure step information model"),
}


# --- Options ----------------------------------------------------------------------------------


def add_models(parser: ArgumentParser, models: Mapping[str, UID]) -> None:
    """Add the options for the information model: `model`, by default the first of `models`."""
    group = parser.add_argument_group("information model").add_mutually_exclusive_group()
    for short, model in models.items():
        long, meaning = _MODELS[short]
        group.add_argument(
            short, long, dest="model", action="store_const", const=model, help=meaning
        )
    parser.set_defaults(model=next(iter(models.values())))


def add_negotiation(parser: ArgumentParser, flags: Mapping[str, str]) -> None:
    """Add the flags for extended negotiation; see `negotiation`."""
    group = parser.add_argument_group("extended negotiation: ask the peer to support")
    for flag, meaning in flags.items():
        group.add_argument(flag, action="store_true", help=meaning)


def negotiation(model: UID, flags: list[bool]) -> list[SOPClassExtendedNegotiation]:
    """Return the extended negotiation of `model`: none unless a flag is set (PS3.4 C.5)."""
    if not any(flags):
        return []
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = model
    item.service_class_application_information = bytes(flags)
    return [item]


def add_outcome(parser: ArgumentParser) -> None:
    """Add the options for the end of the operation and the exit code."""
    group = parser.add_argument_group("outcome")
    group.add_argument(
        "--cancel-after",
        metavar="N",
        type=count,
        help="ask the peer to stop after n pending responses",
    )
    add_exit_code(group)


# --- Operations -------------------------------------------------------------------------------


class Operation:
    """One C-FIND, C-GET or C-MOVE on an association, which it logs.

    Parameters
    ----------
    name : str
        "Find", "Get" or "Move".
    statuses : StatusTable
        The meanings of its statuses.

    Attributes
    ----------
    is_cancelled : bool
        Whether a C-CANCEL request was sent.
    status : Dataset
        The status of the last response; empty if there was none.
    reply : Dataset or None
        The Identifier of the last response.
    """

    def __init__(
        self,
        options: Namespace,
        association: Association,
        logger: logging.Logger,
        name: str,
        statuses: StatusTable,
    ) -> None:
        self.is_cancelled = False
        self.status = Dataset()
        self.reply: Dataset | None = None
        self._model: UID = options.model
        self._last_wanted: int | None = options.cancel_after
        self._association = association
        self._logger = logger
        self._name = name
        self._statuses = statuses

    def context(self) -> PresentationContext | None:
        """Return the presentation context for the request; None if the peer accepted none."""
        for context in self._association.accepted_contexts:
            if context.abstract_syntax == self._model:
                return context
        if self._association.rejected_contexts:
            self._logger.error("The peer does not accept %s: try another model", self._model.name)
        return None

    def pending(self, responses: Responses) -> Iterator[tuple[Dataset, Dataset | None]]:
        """Yield the pending responses; store the last response in `status` and `reply`."""
        self._logger.info(
            "Sending %s Request: MsgID %d, %s", self._name, MESSAGE_ID, self._model.name
        )
        for number, (status, identifier) in enumerate(responses, 1):
            if self._category(status) != STATUS_PENDING:
                self._conclude(status, identifier)
                continue
            if self._logger.isEnabledFor(logging.INFO):
                text = answered(status.Status, status.get("ErrorComment"), self._statuses)
                self._logger.info("%s SCP Result: %d - %s", self._name, number, text)
            yield status, identifier
            if number == self._last_wanted:
                self.cancel()

    def cancel(self) -> None:
        """Ask the peer to stop, if it still can be asked."""
        if self._association.is_established:
            self._logger.info("Sending Cancel Request: MsgID %d", MESSAGE_ID)
            self._association.send_c_cancel(MESSAGE_ID, query_model=self._model)
            self.is_cancelled = True

    def _category(self, status: Dataset) -> str:
        return code_to_category(status.Status) if "Status" in status else ""

    def _conclude(self, status: Dataset, reply: Dataset | None) -> None:
        self.status, self.reply = status, reply
        category = self._category(status)
        if not category:
            explain_no_response(self._association, self._logger)
            return
        level = logging.WARNING if self.is_warned else logging.INFO
        if not self.succeeded:
            level = logging.ERROR
        text = answered(status.Status, status.get("ErrorComment"), self._statuses)
        self._logger.log(level, "%s SCP Result: %s", self._name, text)

    @property
    def is_warned(self) -> bool:
        """Whether the peer ended the operation with a warning."""
        return self._category(self.status) == STATUS_WARNING

    @property
    def succeeded(self) -> bool:
        """Whether the operation ended with success, a warning, or the cancellation asked for."""
        category = self._category(self.status)
        if category == STATUS_CANCEL:
            return self.is_cancelled
        return category in (STATUS_SUCCESS, STATUS_WARNING)
