"""What a user sends for each request, and what programs get of the responses."""

from __future__ import annotations

import pickle
from copy import copy, deepcopy

import pytest
from fake_port import EXPLICIT, keys, received
from pydicom.dataset import Dataset

from dicomwire.data.blocking import run_blocking
from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.services import results, scu
from dicomwire.sop_class import (
    CTImageStorage,
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    RepositoryQuery,
    Verification,
)

FIND = PatientRootQueryRetrieveInformationModelFind
BROKEN = b"\x10\0\x10\0\xff\xff\0\0"


def on_the_wire(message: Message) -> Message:
    return decode_command(encode_command(message))


def plain_status() -> Dataset:
    ds = Dataset()
    ds.Status = 0xB000
    return ds


def without_status(ds: Dataset) -> str:
    del ds.Status
    with pytest.raises(AttributeError):
        _ = ds.Status
    assert "Status" not in ds
    assert not hasattr(ds, "Status")
    return str(ds)


def changed(ds: Dataset) -> Dataset:
    ds.Status = 7
    ds.ErrorComment = "why"
    assert ds.Status == 7
    return ds


def with_an_attribute(ds: Dataset) -> object:
    ds.is_decompressed = True
    return ds.to_json(), ds.is_decompressed


LOOKS = {
    "in": lambda ds: ("Status" in ds, 0x00000900 in ds, "ErrorComment" in ds, (0, 0x900) in ds),
    "attribute": lambda ds: (ds.Status, hasattr(ds, "ErrorComment"), getattr(ds, "ErrorID", 3)),
    "get": lambda ds: (ds.get("Status"), ds.get("ErrorID", 5), ds.get(0x00000900)),
    "item": lambda ds: ds[0x00000900],
    "keyword": lambda ds: ds["Status"].VR,
    "elements": lambda ds: [(each.tag, each.value) for each in ds],
    "text": lambda ds: (str(ds), repr(ds), len(ds), bool(ds)),
    "keys": lambda ds: (list(ds.keys()), list(ds.values()), ds.dir()),
    "change": changed,
    "deletion": without_status,
    "own attribute": with_an_attribute,
    "copy": lambda ds: (copy(ds), deepcopy(ds), ds.copy(), pickle.loads(pickle.dumps(ds))),
    "equality": lambda ds: (ds == plain_status(), plain_status() == ds, ds == Dataset()),
    "class": lambda ds: isinstance(ds, Dataset),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_status_is_what_a_dataset_with_status_is(look):
    response = Message(Command.C_STORE_RSP, MessageIDBeingRespondedTo=1, Status=0xB000)
    for _ in range(2):  # first when it is new
        assert look(results.status_dataset(response)) == look(plain_status())
    seen = results.status_dataset(response)
    assert len(seen) == 1
    assert look(seen) == look(plain_status())


def test_the_requests():
    assert on_the_wire(scu.echo_request(3)) == Message(
        Command.C_ECHO_RQ, MessageID=3, AffectedSOPClassUID=Verification
    )
    assert on_the_wire(scu.store_request(3, CTImageStorage, "1.2", 1, "MOVER", 9)) == Message(
        Command.C_STORE_RQ,
        MessageID=3,
        AffectedSOPClassUID=CTImageStorage,
        AffectedSOPInstanceUID="1.2",
        Priority=1,
        MoveOriginatorApplicationEntityTitle="MOVER",
        MoveOriginatorMessageID=9,
        has_dataset=True,
    )
    assert on_the_wire(scu.query_request(Command.C_FIND_RQ, 3, FIND, 0)) == Message(
        Command.C_FIND_RQ, MessageID=3, AffectedSOPClassUID=FIND, Priority=0, has_dataset=True
    )
    move = on_the_wire(scu.query_request(Command.C_MOVE_RQ, 3, FIND, 2, "THERE"))
    assert move.MoveDestination == "THERE"
    assert on_the_wire(scu.cancel_request(3)) == Message(
        Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=3
    )


def test_a_service_must_not_suspend_where_the_port_blocks():
    class Suspension:
        def __await__(self):
            yield

    async def service():
        await Suspension()

    with pytest.raises(RuntimeError, match="suspended"):
        run_blocking(service())


# --- Statuses ---


def test_the_status_of_a_response():
    response = received(Command.C_ECHO_RSP, Verification).message
    assert results.status_dataset(response) == keys(Status=0)
    response = received(
        Command.C_STORE_RSP,
        CTImageStorage,
        Status=0xA900,
        ErrorComment="why",
        ErrorID=3,
        OffendingElement=[0x00100010],
    ).message
    assert results.status_dataset(response) == keys(
        Status=0xA900, ErrorComment="why", ErrorID=3, OffendingElement=0x00100010
    )
    response = received(
        Command.N_GET_RSP, ModalityPerformedProcedureStep, AttributeIdentifierList=[0x00100010] * 2
    ).message
    assert results.status_dataset(response).AttributeIdentifierList == [0x00100010] * 2


def test_the_counts_of_a_retrieval():
    response = received(
        Command.C_GET_RSP,
        "1.2.840.10008.5.1.4.1.2.1.3",
        Status=0xFF00,
        NumberOfRemainingSuboperations=4,
        NumberOfCompletedSuboperations=3,
        NumberOfFailedSuboperations=2,
        NumberOfWarningSuboperations=0,
    ).message
    assert results.status_dataset(response) == keys(
        Status=0xFF00,
        NumberOfRemainingSuboperations=4,
        NumberOfCompletedSuboperations=3,
        NumberOfFailedSuboperations=2,
        NumberOfWarningSuboperations=0,
    )


def test_a_status_belongs_to_the_program():
    response = received(Command.C_FIND_RSP, FIND, Status=0xFF00).message
    first, second = results.status_dataset(response), results.status_dataset(response)
    first.Status = 1
    first.ErrorComment = "mine"
    assert second == keys(Status=0xFF00)
    assert second.Status == 0xFF00
    assert isinstance(second.Status, int)


# --- Queries and retrievals ---


@pytest.mark.parametrize(
    ("status", "last"),
    [
        (0xFF00, False),
        (0xFF01, False),
        (0x0000, True),
        (0xFE00, True),
        (0xA700, True),
        (0xB000, True),
        (0xB001, True),
        (0x1234, True),
    ],
)
def test_which_response_is_the_last(status, last):
    request = scu.query_request(Command.C_FIND_RQ, 7, FIND, 2)
    assert scu.is_last(request, received(Command.C_FIND_RSP, FIND, Status=status).message) is last
    request = scu.query_request(Command.C_FIND_RQ, 7, RepositoryQuery, 2)
    response = received(Command.C_FIND_RSP, RepositoryQuery, Status=status).message
    assert scu.is_last(request, response) is (last and status != 0xB001)


@pytest.mark.parametrize("command", [Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ])
@pytest.mark.parametrize("status", [0xFF00, 0x0000, 0xFE00, 0xA702, 0xB000])
def test_the_result_of_a_query(command, status):
    request = scu.query_request(command, 7, FIND, 2, "THERE")
    answer = command | 0x8000
    incoming = received(answer, FIND, keys(PatientID="1"), Status=status, transfer_syntax=EXPLICIT)
    assert results.query_result(request, incoming) == (keys(Status=status), keys(PatientID="1"))
    told, identifier = results.query_result(request, received(answer, FIND, Status=status))
    assert told == keys(Status=status)
    wants_list = command is not Command.C_FIND_RQ and status in (0xA702, 0xB000)
    assert identifier == (Dataset() if wants_list else None)


def test_an_identifier_that_cannot_be_decoded(caplog):
    request = scu.query_request(Command.C_FIND_RQ, 7, FIND, 2)
    incoming = received(Command.C_FIND_RSP, FIND, BROKEN, Status=0xFF00)
    assert results.query_result(request, incoming) == (keys(Status=0xFF00), None)
    assert "cannot be decoded" in caplog.text


# --- N-services ---


def normalized(status, dataset=None, *, command=Command.N_GET_RQ, **elements):
    request = received(command, ModalityPerformedProcedureStep).message
    incoming = received(
        Command(command | 0x8000),
        ModalityPerformedProcedureStep,
        dataset,
        Status=status,
        **elements,
    )
    return results.normalized_result(request, incoming)


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0xB600])
def test_success_and_warnings_always_have_a_dataset(status):
    assert normalized(status, keys(PatientID="1")) == (keys(Status=status), keys(PatientID="1"))
    assert normalized(status) == (keys(Status=status), Dataset())


@pytest.mark.parametrize("status", [0x0110, 0xC600, 0xFE00, 0xFF00, 0x1234])
def test_anything_else_has_none(status):
    assert normalized(status) == (keys(Status=status), None)
    assert normalized(status, keys(PatientID="1")) == (keys(Status=status), None)


@pytest.mark.parametrize("status", [0x0000, 0x0107])
def test_a_dataset_that_cannot_be_decoded(status):
    assert normalized(status, BROKEN) == (keys(Status=0x0110), None)


def test_the_instance_that_was_created():
    told, _ = normalized(0, command=Command.N_CREATE_RQ, AffectedSOPInstanceUID="1.2.9")
    assert told == keys(Status=0, AffectedSOPInstanceUID="1.2.9")
    told, _ = normalized(0, command=Command.N_CREATE_RQ)
    assert told == keys(Status=0)
    request = received(
        Command.N_CREATE_RQ, ModalityPerformedProcedureStep, AffectedSOPInstanceUID="1.2.3"
    ).message
    incoming = received(
        Command.N_CREATE_RSP, ModalityPerformedProcedureStep, AffectedSOPInstanceUID="1.2.3"
    )
    assert results.normalized_result(request, incoming) == (keys(Status=0), Dataset())
