"""The responses to a service class user as datasets for programs (PS3.7 Sections 9 and 10).

`scu` makes the requests.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicomwire.data.codec import DatasetError, decode_message
from dicomwire.data.scanner import new_dataset
from dicomwire.logs import LOGGER, log_identifier
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.limits import Limits
from dicomwire.services.port import Incoming
from dicomwire.status import (
    STATUS_FAILURE,
    STATUS_SUCCESS,
    STATUS_WARNING,
    code_to_category,
)

PROCESSING_FAILURE = 0x0110

_DEFAULT_LIMITS = Limits()
_STATUS_KEYWORDS = (
    "ErrorComment",
    "OffendingElement",
    "ErrorID",
    "AttributeIdentifierList",
    "NumberOfRemainingSuboperations",
    "NumberOfCompletedSuboperations",
    "NumberOfFailedSuboperations",
    "NumberOfWarningSuboperations",
)
_STATUS = BaseTag(0x00000900)
_COMMENT = BaseTag(0x00000902)
_status_values = attrgetter(*_STATUS_KEYWORDS)
_NO_VALUES = (None,) * len(_STATUS_KEYWORDS)


class _Status(Dataset):
    """The status elements of a response, which are made when more than Status is looked at.

    Most programs look at Status alone, of each response. To make a Dataset of it, and to find it
    there by its keyword, takes ten times as long.
    """

    def __getattr__(self, name: str) -> Any:
        """Make the elements if they are missing: every use of a Dataset reads an attribute."""
        state = vars(self)
        response = state.get("_response")
        if response is None:
            return super().__getattr__(name)
        for key, value in vars(_made_dataset(response)).items():
            state.setdefault(key, value)  # another thread may do the same
        state.pop("_response", None)
        return getattr(self, name)

    def __contains__(self, name: Any) -> bool:
        return (name == "Status" and "_response" in vars(self)) or super().__contains__(name)

    @property
    def Status(self) -> Any:
        response = vars(self).get("_response")
        if response is not None:
            return response.Status
        if _STATUS not in self._dict:
            raise AttributeError("the program has deleted Status")
        return self[_STATUS].value


def status_dataset(response: Message | None) -> Dataset:
    """Return the status elements of a response as a dataset for programs (PS3.7 Annex C).

    It is empty if there was no response.
    """
    if response is None:
        return Dataset()
    status = _Status.__new__(_Status)
    vars(status)["_response"] = response
    return status


def _made_dataset(response: Message) -> Dataset:
    element = DataElement(_STATUS, "US", response.Status, already_converted=True)
    status = new_dataset({_STATUS: element})
    values = _status_values(response)
    if values == _NO_VALUES:  # nearly always
        return status
    for keyword, value in zip(_STATUS_KEYWORDS, values, strict=True):
        if keyword == "ErrorComment" and value is not None:
            # Not converted: pydicom would split the text at each backslash.
            status[_COMMENT] = DataElement(_COMMENT, "LO", value, already_converted=True)
        elif value is not None:
            setattr(status, keyword, value)
    return status


def query_result(
    request: Message, incoming: Incoming, limits: Limits = _DEFAULT_LIMITS
) -> tuple[Dataset, Dataset | None]:
    """Return the status and Identifier of a response to C-FIND, C-GET or C-MOVE."""
    response = incoming.message
    identifier: Dataset | None = None
    try:
        identifier = _decoded(incoming, limits)
    except DatasetError as error:
        LOGGER.error("The Identifier of a %s cannot be decoded: %s", response.name, error)
    if identifier is not None:
        log_identifier(response, identifier)
    elif request.command is not Command.C_FIND_RQ and code_to_category(response.Status or 0) in (
        STATUS_WARNING,
        STATUS_FAILURE,
    ):
        identifier = Dataset()
    return status_dataset(response), identifier


def normalized_result(
    request: Message, incoming: Incoming, limits: Limits = _DEFAULT_LIMITS
) -> tuple[Dataset, Dataset | None]:
    """Return the status and the dataset of an N-response; for success and warnings always both.

    If the peer chose the UID of an N-CREATE, the status has it as AffectedSOPInstanceUID.
    """
    response = incoming.message
    status = status_dataset(response)
    created = response.AffectedSOPInstanceUID
    if request.command is Command.N_CREATE_RQ and created not in (
        None,
        request.AffectedSOPInstanceUID,
    ):
        status.AffectedSOPInstanceUID = created
    category = code_to_category(response.Status or 0)
    try:
        reply = _decoded(incoming, limits)
    except DatasetError as error:
        LOGGER.error("The dataset of %s cannot be decoded: %s", response.name, error)
        status.Status = PROCESSING_FAILURE
        return status, None
    if category not in (STATUS_SUCCESS, STATUS_WARNING):
        return status, None
    return status, Dataset() if reply is None else reply


def _decoded(incoming: Incoming, limits: Limits) -> Dataset | None:
    payload: Any = incoming.payload
    if payload is None:
        return None
    try:
        return decode_message(payload, incoming.context.transfer_syntax[0], limits)
    finally:
        payload.discard()
