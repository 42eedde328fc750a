"""What type checkers know of the public API: mypy and pyright check this file, and nothing runs it.

Each `type: ignore` stands for an error that they must report.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

from pydicom import Dataset
from pydicom.uid import UID

from dicomwire import (
    AE,
    Association,
    AssociationFailure,
    AssociationServer,
    PresentationContext,
    SupervisedServer,
    aio,
    build_context,
    evt,
)
from dicomwire.dimse_primitives import Message
from dicomwire.sop_class import CTImageStorage, Verification
from dicomwire.web import AsyncClient, Client, Retrieved, Stored

ADDRESS = ("127.0.0.1", 11112)


# --- Servers and associations -----------------------------------------------------------------


def servers(ae: AE, block: bool) -> None:
    assert_type(ae.start_server(ADDRESS, block=False), AssociationServer)
    assert_type(ae.start_server(ADDRESS, False, receive_to=Path("received")), AssociationServer)
    assert_type(ae.start_server(ADDRESS, block=False, workers=2), SupervisedServer)
    assert_type(ae.start_server(ADDRESS, block=block), AssociationServer | None)
    assert_type(ae.start_server(ADDRESS, block=block, workers=2), SupervisedServer | None)
    assert_type(ae.make_server(ADDRESS), AssociationServer)
    with ae.start_server(ADDRESS, block=False) as server:
        assert_type(server.active_associations, list[Association])


class OwnServer(AssociationServer):
    """A server of a program."""


def own_server(ae: AE) -> OwnServer:
    return ae.make_server(ADDRESS, server_class=OwnServer)


def associations(ae: AE) -> None:
    with ae.associate("127.0.0.1", 11112) as association:
        assert_type(association, Association)
        assert_type(association.failure, AssociationFailure | None)
        assert_type(association.accepted_contexts, list[PresentationContext])
        for context in association.accepted_contexts:
            sop_class: UID = context.abstract_syntax  # never None here
            ae.add_supported_context(sop_class)
            ae.add_supported_context(context.abstract_syntax, context.transfer_syntax)
        status = association.send_c_store("ct.dcm")
        assert_type(status, Dataset)
        for answer, match in association.send_c_find(Dataset(), CTImageStorage):
            assert_type(answer, Dataset)
            assert_type(match, Dataset | None)


async def awaited(ae: aio.AE) -> None:
    assert_type(await ae.associate("127.0.0.1", 11112), aio.Association)
    async with ae.associate("127.0.0.1", 11112) as association:
        assert_type(association, aio.Association)
        assert_type(await association.send_c_echo(), Dataset)
    async with ae.start_server(ADDRESS) as server:
        assert_type(server, aio.AssociationServer)


# --- Events and handlers ----------------------------------------------------------------------


def echoed(event: evt.Event) -> int:
    assert_type(event.message_id, int)
    assert_type(event.request, Message)
    return 0x0000


def stored(event: evt.Event[Association], folder: Path) -> int | Dataset:
    assert_type(event.assoc, Association)
    assert_type(event.dataset, Dataset)
    instance: UID = event.request.AffectedSOPInstanceUID  # a C-STORE request always has it
    event.dataset.save_as(folder / instance)
    return 0x0000


def found(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    yield 0xFF00, event.identifier


def moved(event: evt.Event) -> Iterator[Any]:
    assert_type(event.move_destination, str)
    yield "127.0.0.1", 11113
    yield 0


def created(event: evt.Event) -> tuple[int, Dataset | None]:
    return 0x0000, event.attribute_list


def identified(event: evt.Event) -> tuple[bool, bytes | None]:
    return event.primary_field == b"jane", None


def ended(event: evt.Event) -> None:
    assert_type(event.event, evt.EventType)


async def stored_awaited(event: evt.Event[aio.Association]) -> int:
    await event.assoc.send_c_echo()
    return 0x0000


async def found_awaited(event: evt.Event) -> AsyncIterator[tuple[int, Dataset | None]]:
    yield 0xFF00, event.identifier


def returns_text(event: evt.Event) -> str:
    return "Success"


def returns_nothing(event: evt.Event) -> None: ...


def returns_a_status(event: evt.Event) -> int:
    return 0x0000


HANDLERS: list[evt.EventHandlerType] = [
    (evt.EVT_C_ECHO, echoed),
    (evt.EVT_C_STORE, stored, [Path("received")]),
    (evt.EVT_C_STORE, stored_awaited),
    (evt.EVT_C_STORE, lambda event: 0x0000),
    (evt.EVT_C_FIND, found),
    (evt.EVT_C_FIND, found_awaited),
    (evt.EVT_C_MOVE, moved),
    (evt.EVT_N_CREATE, created),
    (evt.EVT_USER_ID, identified),
    (evt.EVT_ABORTED, ended),
    (evt.EVT_RELEASED, returns_text),  # what handlers of notifications return is not used
]

WRONG: list[evt.EventHandlerType] = [
    (evt.EVT_C_STORE, returns_nothing),  # type: ignore[list-item]
    (evt.EVT_C_ECHO, returns_text),  # type: ignore[list-item]
    (evt.EVT_C_FIND, returns_a_status),  # type: ignore[list-item]
    (evt.EVT_N_CREATE, returns_a_status),  # type: ignore[list-item]
]


def bindings(ae: AE) -> None:
    both = [(evt.EVT_C_ECHO, echoed), (evt.EVT_C_STORE, returns_a_status)]
    ae.start_server(ADDRESS, evt_handlers=both)
    ae.start_server(ADDRESS, evt_handlers=HANDLERS)
    ae.associate("127.0.0.1", 11112, [build_context(Verification)], evt_handlers=HANDLERS)


# --- DICOMweb ---------------------------------------------------------------------------------


def web_client(client: Client, path: Path) -> None:
    assert_type(client.search("studies", {"PatientID": "1"}), Iterator[Dataset])
    assert_type(client.retrieve_to(path, "1.2"), Iterator[Retrieved])
    assert_type(client.store([path, "file", Dataset(), b"file"]), Iterator[Stored])
    assert_type(client.rendered("1.2"), bytes)
    client.search("patients")  # type: ignore[arg-type]


async def awaited_web_client(client: AsyncClient, path: Path) -> None:
    async for match in client.search():
        assert_type(match, Dataset)
    async for stored in client.store([path]):
        assert_type(stored, Stored)
    assert_type(await client.rendered("1.2"), bytes)
