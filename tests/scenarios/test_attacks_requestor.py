"""Servers that are no friends of their clients."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hostile import (
    ACCEPT,
    ASSOCIATE_RQ,
    COMMAND,
    DATASET,
    ECHO,
    LAST,
    LENGTHS,
    PATIENT,
    QUICK,
    SOON,
    Attacker,
    HostileSCP,
    Log,
    an_ae,
    command_set,
    ct_image,
    data_pdu,
    item,
    pdu,
    pdv,
    requestor,
    store,
    unharmed_client,
    us,
)
from pydicom.dataset import Dataset

from dicomwire import Association, Settings
from dicomwire.protocol.command import Command
from dicomwire.protocol.limits import Limits
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind, Verification

pytestmark = pytest.mark.usefixtures("face")

HASTY = replace(PATIENT, acse_timeout=0.4)
HASTY_FOR_RESPONSES = replace(PATIENT, dimse_timeout=0.4)
HEAD = ACCEPT[6:99]
MAXIMUM = item(0x50, item(0x51, struct.pack(">I", 16382)))


@pytest.fixture
def unharmed() -> Iterator[Log]:
    with unharmed_client() as log:
        yield log


def answering(*data: bytes) -> Callable[[Attacker], None]:
    """What answers an association request with `data`, and waits for the end."""

    def answer(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(*data).rest()

    return answer


def accepting(*data: bytes) -> Callable[[Attacker], None]:
    """What accepts an association, answers the first message with `data`, and waits."""

    def answer(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT).receive_pdu()
        peer.send(*data).rest()

    return answer


def response(command: int = 0x8030, message_id: int = 1, *more: bytes, context: int = 1) -> bytes:
    """A response without a dataset; to a C-ECHO-RQ with the Message ID 1 if not said otherwise."""
    elements = command_set(
        us(0x0100, command),
        us(0x0120, message_id),
        us(0x0800, 0x0101),
        *(more or (us(0x0900, 0x0000),)),
    )
    return data_pdu(pdv(context, COMMAND | LAST, elements))


# --- The answer to the association request ------------------------------------------------------


def answer(*items: bytes) -> bytes:
    return pdu(2, HEAD + b"".join(items) + MAXIMUM)


def accepted(context_id: int, syntax: bytes = b"1.2.840.10008.1.2", result: int = 0) -> bytes:
    return item(0x21, bytes((context_id, 0, result, 0)) + item(0x40, syntax))


USELESS = {
    "nothing accepted": answer(accepted(1, result=3), accepted(3, result=4)),
    "no contexts": answer(),
    "contexts that were not proposed": answer(accepted(5), accepted(255)),
    "even context": answer(accepted(2)),
    "context 0": answer(accepted(0)),
    "a transfer syntax that was not proposed": answer(accepted(1, b"1.2.840.10008.1.2.4.50")),
    "a result that is none": answer(accepted(1, result=9), accepted(3, result=255)),
    "no transfer syntax": answer(item(0x21, bytes((1, 0, 0, 0)))),
    "two hundred contexts": answer(*[accepted(2 * n % 256 + 1) for n in range(200)]),
    "empty": pdu(2, b""),
    "cut short": pdu(2, ACCEPT[6:-1]),
    "half an item": pdu(2, HEAD + b"\x21\0"),
    "4 GiB": pdu(2, HEAD, 2**32 - 1),
    "a mebibyte of items": pdu(2, HEAD + item(0x11, bytes(100)) * 10_000),
    "request": ASSOCIATE_RQ,
    "release": pdu(5, bytes(4)),
    "release answer": pdu(6, bytes(4)),
    "data": ECHO,
    "data of 4 GiB": pdu(4, b"", 2**32 - 1),
    "abort": pdu(7, bytes((0, 0, 9, 9))),
    "unknown": pdu(0x99, b"?"),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("data", USELESS.values(), ids=USELESS.keys())
def test_an_answer_that_is_no_acceptance(unharmed: Log, data: bytes) -> None:
    """The association is over at once, and says why."""
    began = time.monotonic()
    with HostileSCP(answering(data)) as scp:
        assoc = requestor(scp.port)
        assert not assoc.is_established
        assert assoc.is_aborted
        assert assoc.failure is not None
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("length", [*LENGTHS, len(ACCEPT) - 7, len(ACCEPT) - 5])
def test_the_length_of_the_answer(unharmed: Log, length: int) -> None:
    with HostileSCP(answering(ACCEPT[:2] + struct.pack(">I", length) + ACCEPT[6:])) as scp:
        assoc = requestor(scp.port, HASTY)
        assert assoc.is_aborted
        assert assoc.failure is not None


def test_a_rejection_with_values_that_are_none(unharmed: Log) -> None:
    with HostileSCP(answering(pdu(3, bytes((0, 77, 88, 99))))) as scp:
        assoc = requestor(scp.port)
    assert assoc.is_rejected
    assert not assoc.is_aborted
    assert "77" in str(assoc.failure)


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
def test_an_answer_that_never_comes(unharmed: Log, drips: bool) -> None:
    """The deadline is absolute: bytes that drip do not put it off."""

    def stall(peer: Attacker) -> None:
        peer.socket.settimeout(0.2)  # so that they go on for longer than SOON
        for byte in ACCEPT:
            try:
                while peer.socket.recv(65536):
                    pass
                return
            except TimeoutError:
                if drips:
                    peer.send(bytes((byte,)))

    with HostileSCP(stall) as scp:
        began = time.monotonic()
        assoc = requestor(scp.port, HASTY)
        assert 0.3 < time.monotonic() - began < SOON
    assert assoc.is_aborted
    assert assoc.failure is not None
    assert assoc.failure.stage == "associate"


AFTER_ACCEPTANCE = {
    "garbage": bytes(range(255, 0, -1)) * 40,
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
    "another acceptance": ACCEPT,
    "unknown pdu of 4 GiB": pdu(0x55, b"", 2**32 - 1),
    "a response nobody asked for": response(),
    "a pending response": response(0x8020, 1, us(0x0900, 0xFF00)),
    "release answer": pdu(6, bytes(4)),
    "half a message, and a release": data_pdu(pdv(1, COMMAND, b"half")) + pdu(5, bytes(4)),
}


@pytest.mark.parametrize("data", AFTER_ACCEPTANCE.values(), ids=AFTER_ACCEPTANCE.keys())
def test_what_comes_after_the_acceptance(unharmed: Log, data: bytes) -> None:
    with HostileSCP(answering(ACCEPT + data)) as scp:
        assoc = requestor(scp.port)
        if assoc.is_established:
            assert not assoc.send_c_echo()
        assert assoc.is_aborted
        assert assoc.failure is not None


@pytest.mark.parametrize("maximum", [0, 1, 6, 7, 8, 9, 2**31, 2**32 - 1])
def test_a_maximum_length_that_makes_no_sense(unharmed: Log, maximum: int) -> None:
    """Whatever it is, an object is sent, in pieces that are neither empty nor endless."""
    received = []

    def serve(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT[:-4] + struct.pack(">I", maximum))
        control = 0
        while control != LAST:
            received.append(peer.receive_pdu())
            assert len(received[-1]) <= 300_000
            control = received[-1][11]
        peer.send(response(0x8001, context=3)).receive_pdu()
        peer.send(pdu(6, bytes(4)))

    with HostileSCP(serve) as scp, requestor(scp.port) as assoc:
        assert assoc.send_c_store(ct_image()).Status == 0
    assert max(map(len, received)) - 6 <= max(maximum or 2**32, 8)


# --- Responses ----------------------------------------------------------------------------------

NO_RESPONSE = {
    "wrong message id": response(message_id=2),
    "message id 0": response(message_id=0),
    "response to another service": response(0x8001),
    "response on a context that was not accepted": response(context=9),
    "response without a status": response(0x8030, 1, us(0x0002, 1)),
    "response without a message id": data_pdu(
        pdv(1, 3, command_set(us(0x0100, 0x8030), us(0x0800, 0x0101), us(0x0900, 0)))
    ),
    "noise": data_pdu(pdv(1, COMMAND | LAST, b"\xa5" * 100)),
    "empty": data_pdu(pdv(1, COMMAND | LAST, b"")),
    "dataset alone": data_pdu(pdv(1, LAST, DATASET)),
    "request pdu": ASSOCIATE_RQ,
    "acceptance": ACCEPT,
    "rejection": pdu(3, bytes((0, 1, 1, 1))),
    "release answer": pdu(6, bytes(4)),
    "release": pdu(5, bytes(4)),
    "abort": pdu(7, bytes(4)),
    "unknown pdu": pdu(0x33, bytes(4)),
    "abort of 4 GiB": pdu(7, b"", 2**32 - 1),
    "empty p-data": pdu(4, b""),
    "value longer than its pdu": pdu(4, struct.pack(">IBB", 2**32 - 1, 1, 3) + bytes(10)),
    "command of 4 GiB": struct.pack(">BxIIBB", 4, 2**32 - 1, 2**32 - 5, 1, 1) + bytes(300_000),
    "command set without end": data_pdu(pdv(1, COMMAND, bytes(10_000))) * 40,
    "cancel": data_pdu(
        pdv(1, 3, command_set(us(0x0100, 0x0FFF), us(0x0120, 1), us(0x0800, 0x0101)))
    )
    + pdu(7, bytes(4)),
}


@pytest.mark.parametrize("data", NO_RESPONSE.values(), ids=NO_RESPONSE.keys())
def test_what_is_no_response(unharmed: Log, data: bytes) -> None:
    """An empty status, an association that has ended, and a reason."""
    began = time.monotonic()
    with HostileSCP(accepting(data)) as scp:
        assoc = requestor(scp.port)
        assert not assoc.send_c_echo()
        assert assoc.is_aborted or assoc.is_released
        assert assoc.failure is not None or assoc.is_released
        with pytest.raises(RuntimeError):
            assoc.send_c_echo()
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("length", [*LENGTHS, len(response()) - 7, len(response()) - 5])
@pytest.mark.parametrize("field", [2, 6], ids=["pdu", "pdv"])
def test_the_lengths_in_a_response(unharmed: Log, field: int, length: int) -> None:
    data = response()
    data = data[:field] + struct.pack(">I", length) + data[field + 4 :]
    # In a PDU that is to be longer a message can be whole; what follows has yet to come.
    is_whole = field == 2 and length >= len(data)
    with HostileSCP(accepting(data)) as scp:
        assoc = requestor(scp.port, PATIENT if is_whole else HASTY_FOR_RESPONSES)
        status = assoc.send_c_echo()
        assert bool(status) == is_whole
        assert assoc.is_aborted or status
        assoc.abort()


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
def test_a_response_that_never_comes(unharmed: Log, drips: bool) -> None:
    def stall(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT).socket.settimeout(0.2)
        for byte in response():
            try:
                while peer.socket.recv(65536):
                    pass
                return
            except TimeoutError:
                if drips:
                    peer.send(bytes((byte,)))

    with HostileSCP(stall) as scp:
        assoc = requestor(scp.port, HASTY_FOR_RESPONSES)
        began = time.monotonic()
        assert not assoc.send_c_echo()
        assert 0.3 < time.monotonic() - began < SOON
    assert assoc.is_aborted
    assert assoc.failure is not None
    assert assoc.failure.stage == "response"


def test_a_peer_that_reads_nothing() -> None:
    """What is sent goes nowhere: the deadline for writing ends it."""
    ended = threading.Event()

    def stall(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT)
        ended.wait(5)

    with unharmed_client(peak=100 << 20), HostileSCP(stall) as scp:
        assoc = requestor(scp.port, replace(QUICK, write_timeout=0.3))
        assert not assoc.send_c_store(ct_image(20_000_000))
        ended.set()
    assert assoc.failure is not None
    assert assoc.failure.stage == "write"


def test_a_flood_of_responses() -> None:
    with unharmed_client() as log:
        with HostileSCP(accepting(response() * 100_000)) as scp:
            assoc = requestor(scp.port)
            assert assoc.send_c_echo().Status == 0  # the first is what was asked for
            assoc.join(SOON)
            assert assoc.is_aborted
        assert len([entry for entry in log.entries if entry.level > 20]) == 1


# --- Requests to a requestor --------------------------------------------------------------------


def test_requests_to_a_requestor(unharmed: Log) -> None:
    """It is no SCP here: they are refused, and its own go on."""
    replies = []
    served = threading.Event()

    def serve(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT).receive_pdu()
        peer.send(ECHO, store(), response())
        replies.append(peer.receive_pdu())
        replies.append(peer.receive_pdu())
        served.set()
        peer.receive_pdu()
        peer.send(pdu(6, bytes(4)))

    with HostileSCP(serve) as scp, requestor(scp.port) as assoc:
        assert assoc.send_c_echo().Status == 0
        assert served.wait(SOON)
    assert us(0x0900, 0x0122) in replies[0]
    assert us(0x0900, 0x0122) in replies[1]


@pytest.mark.parametrize("request_there", [ECHO, store()], ids=["C-ECHO", "C-STORE"])
def test_requests_without_end_do_not_put_off_the_deadline(request_there: bytes) -> None:
    """They are refused, and what was asked for does not come for all of them."""

    def flood(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT).receive_pdu()
        peer.socket.settimeout(0.005)
        while True:
            try:
                peer.send(request_there)
                if not peer.socket.recv(65536):
                    return
            except TimeoutError:
                pass
            except ConnectionError:
                return

    with unharmed_client(), HostileSCP(flood) as scp:
        began = time.monotonic()
        assoc = requestor(scp.port, HASTY_FOR_RESPONSES)
        assert not assoc.send_c_echo()
        assert assoc.failure is not None
        assert assoc.failure.stage == "response"
        assert time.monotonic() - began < SOON


def test_a_flood_of_requests_to_a_requestor() -> None:
    flood = ECHO * 2000
    with unharmed_client(peak=24 << 20), HostileSCP(accepting(flood, flood)) as scp:
        assoc = requestor(scp.port, HASTY_FOR_RESPONSES)
        assert not assoc.send_c_echo()
        assert assoc.is_aborted


def test_a_flood_of_objects_to_a_requestor() -> None:
    """What waits to be served is bounded in bytes, too."""
    large = store(dataset=bytes(1 << 20))

    def flood(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT).receive_pdu()
        for _ in range(100):
            peer.send(large)
        peer.rest()

    with unharmed_client(peak=90 << 20), HostileSCP(flood) as scp:
        assoc = requestor(scp.port, HASTY_FOR_RESPONSES)
        assert not assoc.send_c_echo()
        assert assoc.is_aborted


# --- Datasets in responses ----------------------------------------------------------------------


def finder(port: int, settings: Settings = QUICK) -> Association:
    ae = an_ae(settings)
    ae.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", port)


def match(data: bytes, status: int = 0xFF00) -> bytes:
    command = command_set(
        us(0x0100, Command.C_FIND_RSP), us(0x0120, 1), us(0x0800, 1), us(0x0900, status)
    )
    return data_pdu(pdv(1, COMMAND | LAST, command)) + data_pdu(pdv(1, LAST, data))


QUERY = Dataset()
QUERY.QueryRetrieveLevel = "PATIENT"


def test_matches_that_cannot_be_decoded(unharmed: Log) -> None:
    deep = b"\x08\0\x15\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    last = response(Command.C_FIND_RSP)
    matches = match(b"\xa5" * 101) + match(deep) + match(DATASET[:-1]) + match(DATASET) + last
    with HostileSCP(accepting(matches)) as scp:
        assoc = finder(scp.port)
        found = list(assoc.send_c_find(QUERY, PatientRootQueryRetrieveInformationModelFind))
        assoc.abort()
    assert [status.Status for status, _ in found] == [0xFF00, 0xFF00, 0xFF00, 0xFF00, 0]
    assert [identifier is None for _, identifier in found] == [True, True, True, False, True]


def test_matches_without_end_take_no_memory() -> None:
    def flood(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT).receive_pdu()
        peer.send(*[match(DATASET * 100)] * 5000)

    with unharmed_client(), HostileSCP(flood) as scp:
        assoc = finder(scp.port)
        responses = assoc.send_c_find(QUERY, PatientRootQueryRetrieveInformationModelFind)
        for _ in range(200):
            status, _ = next(responses)
            assert status.Status == 0xFF00
        assoc.abort()


def test_an_identifier_without_end_from_a_server() -> None:
    """What is held in memory has a ceiling; the association ends there."""
    command = command_set(
        us(0x0100, Command.C_FIND_RSP), us(0x0120, 1), us(0x0800, 1), us(0x0900, 0xFF00)
    )
    piece = data_pdu(pdv(1, 0, bytes(16_000)))
    flood = accepting(data_pdu(pdv(1, COMMAND | LAST, command)), *[piece] * 1000)
    settings = replace(QUICK, limits=Limits(identifier=1 << 20))
    with unharmed_client(), HostileSCP(flood) as scp:
        assoc = finder(scp.port, settings)
        found = list(assoc.send_c_find(QUERY, PatientRootQueryRetrieveInformationModelFind))
        assert [bool(status) for status, _ in found] == [False]
        assert assoc.is_aborted
        assert assoc.failure is not None


def test_an_association_that_is_dropped_in_mid_find(unharmed: Log) -> None:
    with HostileSCP(answering(ACCEPT, match(DATASET) * 3)) as scp:
        assoc = finder(scp.port)
        if assoc.is_established:
            list(assoc.send_c_find(QUERY, PatientRootQueryRetrieveInformationModelFind))
        assert assoc.is_aborted


# --- The end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"\6", pdu(5, bytes(4)), ECHO, response(), pdu(6, b"", 2**32 - 1), bytes(100)],
    ids=["nothing", "a byte", "release", "request", "response", "4 GiB", "zeros"],
)
def test_a_release_that_is_not_answered(unharmed: Log, data: bytes) -> None:
    with HostileSCP(accepting(data)) as scp:
        assoc = requestor(scp.port)
        assoc.acse_timeout = 0.4
        began = time.monotonic()
        assoc.release()
        assert time.monotonic() - began < SOON
        assert assoc.is_released or assoc.is_aborted
        assert not assoc.is_established
