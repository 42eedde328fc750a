"""Deadlines of the threaded face, by a clock that stands still until the test moves it."""

from __future__ import annotations

from typing import Any

import pytest
from fake_peer import Acceptor, answer_to, pdus_of
from pydicom.dataset import Dataset
from simulation import FakeSocket, World

from dicomwire import AE, Association, AssociationTimeout, Settings, build_context, evt
from dicomwire.protocol.command import Command, Message, encode_command
from dicomwire.protocol.pdu import Abort, AssociateAC, PDataTF, ReleaseRP, ReleaseRQ
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from raw_peer import CT, IMPLICIT, VERIFICATION, context, message_pdu, request_pdu, store_request

ECHO = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
STORE = store_request(number=2)
MOMENT = 0.5
"""Seconds that are less than any deadline here, and more than a pool thread waits."""


@pytest.fixture
def acceptor(world: World) -> Acceptor:
    """The peer that the next association is requested of."""
    sock = FakeSocket(world)
    world.next_socket = lambda: sock
    return Acceptor(sock)


def associate(*handlers: Any, **settings: Any) -> Association:
    contexts = [build_context(VERIFICATION), build_context(CT), build_context(FIND)]
    ae = AE("SCU", Settings(**settings))
    return ae.associate("peer", 104, contexts, evt_handlers=list(handlers))


class Client:
    """A peer of our server, which says what the test wants."""

    def __init__(self, world: World, *handlers: Any, **settings: Any) -> None:
        ae = AE("SCP", Settings(**settings))
        for uid in (VERIFICATION, CT):
            ae.add_supported_context(uid)
        bound = [(evt.EVT_REQUESTED, self._requested), *handlers]
        self.world = world
        self.server = ae.start_server(("192.0.2.1", 0), block=False, evt_handlers=bound)
        self.socket = world.connect(self.server)
        world.run()

    def _requested(self, event: evt.Event) -> None:
        self.association = event.assoc

    def say(self, *data: bytes) -> None:
        self.socket.incoming += b"".join(data)
        self.world.run()

    def associate(self) -> Association:
        self.say(request_pdu(context(1, VERIFICATION), context(3, CT, IMPLICIT)).encode())
        assert isinstance(self.heard[0], AssociateAC)
        return self.association

    @property
    def heard(self) -> list[Any]:
        return pdus_of(self.socket.outgoing)[0]


def stage_of(association: Association) -> str:
    assert isinstance(association.failure, AssociationTimeout)
    return str(association.failure.stage)


# --- The network timeout ---


def test_an_association_without_messages_ends_at_its_network_timeout(world: World) -> None:
    client = Client(world, network_timeout=60)
    association = client.associate()
    world.pass_time(59)
    assert association.is_established
    world.pass_time(1)
    assert stage_of(association) == "idle"
    assert client.heard[-1] == Abort(0, 0)


def test_a_message_begins_the_network_timeout_anew(world: World) -> None:
    client = Client(world, network_timeout=60)
    association = client.associate()
    for _ in range(10):
        world.pass_time(50)
        client.say(message_pdu(1, ECHO))
    assert association.is_established
    world.pass_time(60)
    assert stage_of(association) == "idle"


def test_a_message_that_comes_with_the_deadline_is_served(world: World) -> None:
    client = Client(world, network_timeout=60)
    association = client.associate()
    world.now += 60
    client.say(message_pdu(1, ECHO))
    assert association.is_established
    assert len(client.heard) == 2


def test_a_part_of_a_message_does_not_put_the_network_timeout_off(world: World) -> None:
    client = Client(world, network_timeout=60)
    association = client.associate()
    for byte in message_pdu(3, STORE, bytes(100))[:100]:
        world.pass_time(1)
        if association.is_established:
            client.say(bytes([byte]))
    assert stage_of(association) == "idle"


def test_a_handler_that_takes_long_is_not_idle(world: World) -> None:
    def handle(event: evt.Event) -> int:
        world.now += 600
        return 0

    client = Client(world, (evt.EVT_C_ECHO, handle), network_timeout=60)
    association = client.associate()
    client.say(message_pdu(1, ECHO))
    world.pass_time(59)
    assert association.is_established
    client.say(message_pdu(1, ECHO))
    assert len(client.heard) == 3
    world.pass_time(60)
    assert stage_of(association) == "idle"


def test_a_longer_network_timeout_counts_for_those_who_wait(world: World, acceptor: Any) -> None:
    association = associate(network_timeout=60)
    association.network_timeout = 600
    world.pass_time(599)
    assert association.is_established
    association.network_timeout = 1
    world.pass_time(1)
    assert stage_of(association) == "idle"


def test_a_network_timeout_may_release(world: World) -> None:
    def prefer_release(event: evt.Event) -> None:
        event.assoc.network_timeout_response = "A-RELEASE"

    client = Client(world, (evt.EVT_REQUESTED, prefer_release), network_timeout=60)
    association = client.associate()
    world.later.append(lambda: client.socket.incoming.extend(ReleaseRP().encode()))
    world.pass_time(60)
    assert client.heard[-1] == ReleaseRQ()
    assert association.is_released


@pytest.mark.parametrize("way", ["find", "stores"])
def test_a_program_that_works_on_results_is_not_idle(
    world: World, acceptor: Acceptor, way: str
) -> None:
    match, pending = Dataset(), b""
    match.PatientID = "1"
    association = associate(network_timeout=60)
    if way == "find":
        acceptor.is_silent = True
        results: Any = association.send_c_find(match, FIND)
        response = Message(
            Command.C_FIND_RSP,
            MessageIDBeingRespondedTo=1,
            AffectedSOPClassUID=FIND,
            Status=0xFF00,
            has_dataset=True,
        )
        pending = message_pdu(5, response, b"\x10\0\x20\0\2\0\0\0" + b"1 ")
        last = Message(
            Command.C_FIND_RSP, MessageIDBeingRespondedTo=1, AffectedSOPClassUID=FIND, Status=0
        )
        acceptor.socket.incoming += pending * 3 + message_pdu(5, last)
    else:
        results = association.send_c_stores([image(f"1.2.{each}") for each in range(4)])
    for _ in range(3):
        next(results)
        world.pass_time(50)
    assert len(list(results)) == 1
    world.pass_time(59)
    assert association.is_established
    world.pass_time(1)
    assert stage_of(association) == "idle"


def image(instance: str) -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, instance
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(IMPLICIT)
    return ds


@pytest.mark.parametrize(
    "message",
    [Message(Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=7), ECHO],
    ids=["cancel", "no role"],
)
def test_a_message_that_asks_for_nothing_does_not_put_the_network_timeout_off(
    world: World, acceptor: Acceptor, message: Message
) -> None:
    association = associate(network_timeout=60)
    for _ in range(7):
        world.now += 10
        if association.is_established:
            acceptor.socket.incoming += message_pdu(1, message)
            world.run()
    assert stage_of(association) == "idle"


# --- The response timeout ---


def test_a_response_that_does_not_come(world: World, acceptor: Acceptor) -> None:
    association = associate(dimse_timeout=30)
    acceptor.is_silent = True
    began = world.now
    assert "Status" not in association.send_c_echo()
    assert world.now == began + 30
    assert stage_of(association) == "response"
    assert pdus_of(acceptor.socket.outgoing)[0][-1] == Abort(0, 0)


def test_a_drip_does_not_put_the_response_timeout_off(world: World, acceptor: Acceptor) -> None:
    association = associate(dimse_timeout=30)
    acceptor.is_silent = True

    def drip(byte: int) -> None:
        world.now += 1
        acceptor.socket.incoming.append(byte)

    response = message_pdu(1, answer_to(ECHO))
    world.later.extend(lambda byte=byte: drip(byte) for byte in response[:-1])
    began = world.now
    assert "Status" not in association.send_c_echo()
    assert world.now == began + 30
    assert stage_of(association) == "response"


def test_a_part_of_a_match_does_not_put_the_response_timeout_off(
    world: World, acceptor: Acceptor
) -> None:
    association = associate(dimse_timeout=30)
    acceptor.is_silent = True
    pending = Message(
        Command.C_FIND_RSP,
        MessageIDBeingRespondedTo=1,
        AffectedSOPClassUID=FIND,
        Status=0xFF00,
        has_dataset=True,
    )
    responses = association.send_c_find(Dataset(), FIND)
    began = world.now

    def begin_match() -> None:
        world.now += 20
        acceptor.say(PDataTF([(5, 3, encode_command(pending))]))
        acceptor.say(PDataTF([(5, 0, b"1234")]))

    world.later.append(begin_match)
    assert [status.get("Status") for status, _ in responses] == [None]
    assert world.now == began + 30
    assert stage_of(association) == "response"


def test_the_network_timeout_does_not_count_while_a_response_is_awaited(
    world: World, acceptor: Acceptor
) -> None:
    association = associate(dimse_timeout=None, network_timeout=60)
    acceptor.is_silent = True

    def answer_late() -> None:
        world.now += 600
        acceptor.say(PDataTF([(1, 3, encode_command(answer_to(ECHO)))]))

    world.later.append(answer_late)
    assert association.send_c_echo().Status == 0


# --- The other deadlines ---


def test_an_answer_to_the_request_that_does_not_come(world: World, acceptor: Acceptor) -> None:
    acceptor.is_silent = True
    began = world.now
    assert stage_of(associate(acse_timeout=30)) == "associate"
    assert world.now == began + 30


def test_a_release_that_is_not_answered(world: World, acceptor: Acceptor) -> None:
    association = associate(acse_timeout=30)
    acceptor.is_silent = True
    began = world.now
    association.release()
    assert world.now == began + 30
    assert stage_of(association) == "release"


def test_a_request_that_drips_is_ended_at_its_deadline(world: World) -> None:
    client = Client(world, acse_timeout=30)
    for byte in request_pdu().encode()[:40]:
        world.pass_time(1)
        if client.socket.is_open:
            client.say(bytes([byte]))
    assert len(client.socket.incoming) == 0
    assert not client.socket.is_open
    assert client.heard == []


@pytest.mark.parametrize("taken", [0, 100])
def test_sending_that_makes_no_progress(world: World, acceptor: Acceptor, taken: int) -> None:
    association = associate(write_timeout=10)
    acceptor.socket.room = taken
    began = world.now
    assert "Status" not in association.send_c_echo() or taken
    if taken:
        assert association.is_established
        return
    assert world.now == began + 10
    assert stage_of(association) == "write"


def test_sending_that_makes_progress_may_take_any_time(world: World, acceptor: Acceptor) -> None:
    association = associate(write_timeout=10)
    acceptor.socket.room = 0

    def take_a_byte() -> None:
        world.now += 9
        acceptor.socket.room = 1

    world.later.extend([take_a_byte] * 200)
    began = world.now
    assert association.send_c_echo().Status == 0
    assert world.now > began + 9 * 50


def test_a_peer_that_never_closes(world: World) -> None:
    client = Client(world, close_timeout=2)
    association = client.associate()
    client.say(ReleaseRQ().encode())
    assert association.is_released
    world.pass_time(1)
    assert client.socket.is_open
    world.pass_time(1)
    assert not client.socket.is_open


@pytest.mark.parametrize("before", [0, MOMENT])
def test_a_peer_that_closes_after_our_answer(
    world: World, before: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(world, close_timeout=2)
    client.associate()
    client.say(ReleaseRQ().encode())
    world.pass_time(before)
    client.socket.has_ended = True
    world.run()
    assert not client.socket.is_open
    assert world.selector.owners == [client.server._listener]
