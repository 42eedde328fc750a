"""What a peer may send over an established association that is no message, or an evil one."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import (
    ASSOCIATE_RQ,
    COMMAND,
    DATASET,
    ECHO,
    LAST,
    LENGTHS,
    PATIENT,
    RELEASE_RQ,
    SOON,
    VERIFICATION,
    Attacker,
    Victim,
    besieged,
    command_set,
    data_pdu,
    element,
    item,
    pdu,
    pdv,
    store,
    store_command,
    us,
)
from pydicom.dataset import Dataset
from scenario import Face, soon_full

from dicomwire import Settings, build_context, evt
from dicomwire.protocol.command import CARRIED, ELEMENTS, Command
from dicomwire.protocol.limits import Limits
from dicomwire.sop_class import (
    CTImageStorage,
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    Printer,
    StorageCommitmentPushModel,
    Verification,
)

pytestmark = pytest.mark.usefixtures("face")

RELEASED = pdu(6, bytes(4))


def is_abort(answer: bytes) -> bool:
    """Whether `answer` is one A-ABORT, of either source."""
    return len(answer) == 10 and answer[:8] == b"\7\0\0\0\0\4\0\0"


@pytest.fixture
def victim() -> Iterator[Victim]:
    with besieged() as victim:
        yield victim


@pytest.fixture(params=[logging.INFO, logging.DEBUG], ids=["info", "debug"])
def watched(request: pytest.FixtureRequest) -> Iterator[Victim]:
    """A victim, and the same with all of its PDUs observed, which takes other ways."""
    with besieged(level=request.param) as victim:
        yield victim


# --- PDUs and presentation data values ----------------------------------------------------------

COMMAND_PDV = pdv(1, COMMAND | LAST, ECHO[12:])
OUT_OF_PLACE = {
    "request": ASSOCIATE_RQ,
    "answer": pdu(2, ASSOCIATE_RQ[6:]),
    "rejection": pdu(3, bytes(4)),
    "release answer": RELEASED,
    "unknown pdu": pdu(0x2A, b"what?"),
    "unknown pdu of 4 GiB": pdu(0, b"", 2**32 - 1),
    "release of 4 GiB": pdu(5, b"", 2**32 - 1),
    "release of no bytes": pdu(5, b""),
    "release of five bytes": pdu(5, bytes(5)),
    "http": b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
    "empty p-data": pdu(4, b""),
    "p-data of five bytes": pdu(4, bytes(5)),
    "unknown context": data_pdu(pdv(5, COMMAND | LAST, ECHO[12:])),
    "context 0": data_pdu(pdv(0, COMMAND | LAST, ECHO[12:])),
    "dataset before its command": data_pdu(pdv(3, LAST, DATASET)),
    "dataset before its command, not ended": data_pdu(pdv(3, 0, DATASET)),
    "dataset after a message without one": ECHO + data_pdu(pdv(1, LAST, DATASET)),
    "dataset on another context": store()[: -len(DATASET) - 2] + bytes((1, LAST)) + DATASET,
    "command on two contexts": data_pdu(
        pdv(1, COMMAND, ECHO[12:20]), pdv(3, COMMAND | LAST, ECHO[20:])
    ),
    "command inside a dataset": data_pdu(pdv(3, COMMAND | LAST, store_command()))
    + data_pdu(pdv(3, 0, DATASET))
    + ECHO,
    "command instead of a dataset": data_pdu(pdv(3, COMMAND | LAST, store_command())) + ECHO,
    "release inside a command": data_pdu(pdv(1, COMMAND, ECHO[12:20])) + RELEASE_RQ,
    "release before the dataset": data_pdu(pdv(3, COMMAND | LAST, store_command())) + RELEASE_RQ,
    "zero-length command": data_pdu(pdv(1, COMMAND | LAST, b"")),
    "command of zeros": data_pdu(pdv(1, COMMAND | LAST, bytes(100))),
    "command of noise": data_pdu(pdv(1, COMMAND | LAST, b"\xa5" * 101)),
}


@pytest.mark.parametrize("data", OUT_OF_PLACE.values(), ids=OUT_OF_PLACE.keys())
def test_what_is_out_of_place_is_answered_with_an_abort(victim: Victim, data: bytes) -> None:
    with victim.attacked(), victim.attacker() as attacker:
        assert is_abort(attacker.associate().send(data).rest()[-10:])


@pytest.mark.parametrize("name", ["http", "unknown context", "dataset on another context"])
def test_what_is_out_of_place_is_answered_when_all_is_observed(name: str) -> None:
    with (
        besieged(level=logging.DEBUG) as victim,
        victim.attacked(),
        victim.attacker() as attacker,
    ):
        assert is_abort(attacker.associate().send(OUT_OF_PLACE[name]).rest()[-10:])


def test_nothing_of_hundreds_of_attacks_adds_up(victim: Victim) -> None:
    attacks = [*OUT_OF_PLACE.values()] * 12
    with victim.attacked(lines=len(attacks), kept=500 * len(attacks)):
        for data in attacks:
            with victim.attacker() as attacker:
                attacker.associate().send(data).rest()


def test_data_after_release(watched: Victim) -> None:
    """It comes too late to matter, and is not served."""
    with watched.attacked(lines=0), watched.attacker() as attacker:
        attacker.associate().send(RELEASE_RQ + store() + ECHO)
        assert attacker.rest().startswith(RELEASED)
    assert not watched.stored


def test_an_abort_ends_it(watched: Victim) -> None:
    with watched.attacked(), watched.attacker() as attacker:
        assert attacker.associate().send(pdu(7, bytes(4)) + store()).rest() == b""
    assert not watched.stored


@pytest.mark.parametrize("length", [*LENGTHS, len(ECHO) - 7, len(ECHO) - 5])
def test_the_length_of_a_data_pdu(watched: Victim, length: int) -> None:
    """One that is too long for what follows is one that the rest has yet to come of."""
    with watched.attacked(), watched.attacker() as attacker:
        attacker.associate().send(ECHO[:2] + struct.pack(">I", length) + ECHO[6:])
        if length > len(ECHO):
            attacker.send(ECHO * 3)  # taken for presentation data values: noise
        assert is_abort(attacker.rest()[-10:])


@pytest.mark.parametrize("length", [*LENGTHS, len(ECHO) - 11, len(ECHO) - 9])
def test_the_length_of_a_presentation_data_value(watched: Victim, length: int) -> None:
    with watched.attacked(), watched.attacker() as attacker:
        attacker.associate().send(ECHO[:6] + struct.pack(">I", length) + ECHO[10:])
        assert is_abort(attacker.rest())


@pytest.mark.parametrize("length", [2**31, 2**32 - 1])
def test_a_data_pdu_and_value_that_agree_on_gigabytes(watched: Victim, length: int) -> None:
    """Of a command it is noticed when it has become too long, of a dataset it may be true."""
    with watched.attacked(), watched.attacker() as attacker:
        head = struct.pack(">BxIIBB", 4, length, length - 4, 1, COMMAND)
        attacker.associate().send(head + bytes(300_000))
        assert is_abort(attacker.rest())
    with watched.attacked(), watched.attacker() as attacker:
        command = data_pdu(pdv(3, COMMAND | LAST, store_command()))
        head = struct.pack(">BxIIBB", 4, length, length - 4, 3, LAST)
        attacker.associate().send(command + head + bytes(300_000))
        attacker.reset()
    assert not watched.stored


def test_zero_length_values_between_others(watched: Victim) -> None:
    """They say nothing, and are passed over."""
    empty_command, empty_data = pdv(3, COMMAND, b""), pdv(3, 0, b"")
    command = store_command()
    with watched.attacked(lines=0), watched.attacker() as attacker:
        attacker.associate().send(
            data_pdu(*[empty_command] * 1000, pdv(3, COMMAND, command[:30]), empty_command),
            data_pdu(pdv(3, COMMAND, command[30:]), pdv(3, COMMAND | LAST, b"")),
            data_pdu(*[empty_data] * 1000, pdv(3, 0, DATASET)),
            data_pdu(pdv(3, LAST, b"")),
            RELEASE_RQ,
        )
        assert attacker.rest().endswith(RELEASED)
    assert watched.stored == ["1.2.3.4.5"]


def test_a_message_of_single_bytes_in_single_values(watched: Victim) -> None:
    with watched.attacked(lines=0), watched.attacker() as attacker:
        command = [pdv(3, COMMAND, bytes((each,))) for each in store_command()]
        dataset = [pdv(3, 0, bytes((each,))) for each in DATASET]
        attacker.associate().send(data_pdu(*command, pdv(3, COMMAND | LAST, b"")))
        attacker.send(data_pdu(*dataset, pdv(3, LAST, b"")), RELEASE_RQ)
        assert attacker.rest().endswith(RELEASED)
    assert watched.stored == ["1.2.3.4.5"]


# --- What never ends ----------------------------------------------------------------------------


def pour(attacker: Attacker, data: bytes, limit: float = float("inf")) -> bool:
    """Send `data` again and again, `limit` bytes at most; true if the server puts an end to it."""
    sent = 0
    began = time.monotonic()
    try:
        while sent < limit:
            attacker.socket.sendall(data)
            sent += len(data)
            if time.monotonic() > began + 40:
                return False
    except ConnectionError:
        return True
    return False


LIMITED = Settings(
    acse_timeout=2.0,
    network_timeout=5.0,
    close_timeout=0.1,  # in which all is read that is still poured
    limits=Limits(command_set=1 << 16, identifier=1 << 16),
    spool_threshold=1 << 18,
    store_ceiling=2 << 20,
)


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG], ids=["info", "debug"])
def test_a_command_set_without_end(level: int) -> None:
    with besieged(settings=LIMITED, level=level) as victim:
        for size in (2, 16000):
            piece = data_pdu(*[pdv(1, COMMAND, b"\0" * size)] * max(1, 16000 // size))
            with victim.attacked(peak=3 << 20), victim.attacker() as attacker:
                assert pour(attacker.associate(), piece)


def test_a_command_set_of_one_endless_value(watched: Victim) -> None:
    with watched.attacked(), watched.attacker() as attacker:
        attacker.associate().send(struct.pack(">BxIIBB", 4, 2**32 - 1, 2**32 - 5, 1, COMMAND))
        assert pour(attacker, bytes(100_000))


def test_an_identifier_without_end() -> None:
    find = command_set(
        element(0x0002, VERIFICATION + b"\0"),
        us(0x0100, Command.C_FIND_RQ),
        us(0x0110, 1),
        us(0x0700, 0),
        us(0x0800, 1),
    )
    with besieged(settings=LIMITED) as victim:
        for size in (2, 16000):  # of many small pieces no more is kept than of large ones
            piece = data_pdu(*[pdv(1, 0, b"x" * size)] * max(1, 16000 // size))
            with victim.attacked(lines=2, peak=9 << 20), victim.attacker() as attacker:
                attacker.associate().send(data_pdu(pdv(1, COMMAND | LAST, find)))
                assert pour(attacker, piece)


def test_a_dataset_above_the_ceiling(tmp_path: Path) -> None:
    """It is refused with 0xA700, and nothing of it stays on the disk."""
    for receive_to in (None, tmp_path):
        with besieged(settings=LIMITED, receive_to=receive_to) as victim:
            piece = data_pdu(pdv(3, 0, bytes(16000)))
            with victim.attacked(), victim.attacker() as attacker:
                attacker.associate().send(data_pdu(pdv(3, COMMAND | LAST, store_command())))
                assert not pour(attacker, piece, 4 << 20)
                attacker.send(data_pdu(pdv(3, LAST, b"")), RELEASE_RQ)
                answer = attacker.rest()
                assert us(0x0900, 0xA700) in answer
                assert answer.endswith(RELEASED)
        assert not list(tmp_path.iterdir())


def test_many_small_pieces_take_no_more_memory_than_what_is_in_them(victim: Victim) -> None:
    """Each byte alone in its value: seven bytes on the wire, and not fifty in memory."""
    size = 1 << 17
    piece = data_pdu(*[pdv(3, 0, b"x")] * 4096)
    with victim.attacked(lines=0, peak=9 << 20), victim.attacker() as attacker:
        attacker.associate().send(data_pdu(pdv(3, COMMAND | LAST, store_command())))
        assert not pour(attacker, piece, len(piece) * (size // 4096))
        attacker.send(data_pdu(pdv(3, LAST, b"")), RELEASE_RQ)
        assert attacker.rest().endswith(RELEASED)
    assert victim.stored == ["1.2.3.4.5"]


def test_a_peer_that_never_reads_its_responses() -> None:
    """The server does not read more of its requests either, and gives it up."""
    with (
        besieged(settings=Settings(write_timeout=0.3, close_timeout=0.2)) as victim,
        victim.attacked(),
    ):
        soon_full(victim.server)
        with victim.attacker() as attacker:
            attacker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            assert pour(attacker.associate(), ECHO * 1000)
        assert "nothing could be sent" in victim.told()[0]


@pytest.mark.threaded_only("the other reads no more instead")
@pytest.mark.parametrize("size", [0, 1 << 20])
def test_requests_that_come_while_a_handler_looks_for_a_cancel(size: int) -> None:
    """What is read ahead is bounded, in number and in bytes."""

    def on_store(event: evt.Event) -> int:
        while not event.peer_gone:
            pass
        return 0x0000

    with (
        besieged([(evt.EVT_C_STORE, on_store)]) as victim,
        victim.attacked(peak=90 << 20),
        victim.attacker() as attacker,
    ):
        attacker.associate().send(store())
        assert pour(attacker, store(dataset=bytes(size)) if size else ECHO)
        assert "too many requests" in victim.told()[0]


@pytest.mark.parametrize("sent", ["command", "half a command", "half a dataset", "half a header"])
@pytest.mark.parametrize("drips", [False, True], ids=["stalls", "drips"])
def test_a_message_that_is_never_finished(tmp_path: Path, sent: str, drips: bool) -> None:
    """The network timeout ends it; a byte now and then does not put that off."""
    whole = store(dataset=bytes(1000))
    command = len(data_pdu(pdv(3, COMMAND | LAST, store_command())))
    end = {
        "command": command,
        "half a command": command // 2,
        "half a dataset": command + 100,
        "half a header": command + 3,
    }[sent]
    with (
        besieged(receive_to=tmp_path) as victim,
        victim.attacked(),
        victim.attacker() as attacker,
    ):
        attacker.associate().send(whole[:end])
        victim.ae.network_timeout = 0.4
        began = time.monotonic()
        attacker.socket.settimeout(0.1)
        while time.monotonic() < began + SOON:
            try:
                answer = attacker.socket.recv(100)
                break
            except TimeoutError:
                if drips:
                    attacker.send(whole[end : end + 1])
                    end += 1
        else:
            pytest.fail("the association is not ended")
        assert is_abort(answer)
        victim.ae.network_timeout = PATIENT.network_timeout  # good clients are spared
    assert not list(tmp_path.iterdir())


# --- Command sets -------------------------------------------------------------------------------

GOOD = {"US": struct.pack("<H", 1), "UI": b"1.2.3\0", "AE": b"EVIL", "LO": b"none", "AT": bytes(4)}
BAD = {
    "empty": b"",
    "one byte": b"\1",
    "three bytes": b"\1\2\3",
    "number": struct.pack("<H", 0xFFFF),
    "text": b"some text here",
    "many values": b"1.2\\3.4\\5.6\\",
    "zeros": bytes(8),
    "spaces": b"  ",
    "path": b"../../x\0",
    "controls": b"\x1b[2J\r\n I: forged",
    "not ascii": b"\xff\xfe\xfd\xfc",
    "ten thousand": b"1" * 10_000,
    "ten thousand numbers": bytes(20_000),
}
SERVED = {
    Command.C_STORE_RQ: CTImageStorage,
    Command.C_FIND_RQ: PatientRootQueryRetrieveInformationModelFind,
    Command.C_GET_RQ: PatientRootQueryRetrieveInformationModelGet,
    Command.C_MOVE_RQ: PatientRootQueryRetrieveInformationModelMove,
    Command.C_CANCEL_RQ: PatientRootQueryRetrieveInformationModelFind,
    Command.N_CREATE_RQ: ModalityPerformedProcedureStep,
    Command.N_SET_RQ: ModalityPerformedProcedureStep,
    Command.N_GET_RQ: Printer,
    Command.N_ACTION_RQ: StorageCommitmentPushModel,
    Command.N_EVENT_REPORT_RQ: StorageCommitmentPushModel,
    Command.N_DELETE_RQ: ModalityPerformedProcedureStep,
}
CONTEXTS = [*dict.fromkeys(SERVED.values()), Verification]


def everything_requested() -> bytes:
    """A request for the contexts 1, 3, 5... of `CONTEXTS`."""
    contexts = [
        item(
            0x20,
            bytes((2 * number + 1, 0, 0, 0))
            + item(0x30, str(uid).encode())
            + item(0x40, b"1.2.840.10008.1.2"),
        )
        for number, uid in enumerate(CONTEXTS)
    ]
    maximum = item(0x50, item(0x51, struct.pack(">I", 16382)))
    return pdu(1, ASSOCIATE_RQ[6:99] + b"".join(contexts) + maximum)


def message(command: Command, changes: dict[str, bytes | None]) -> bytes:
    """A message with all of its elements, but for those that are changed or left out (None)."""
    carried = CARRIED[command]
    keywords = {"CommandField", "CommandDataSetType", *carried.required, *carried.optional}
    values = {keyword: GOOD[ELEMENTS[keyword].vr] for keyword in keywords}
    sop_class = str(SERVED.get(command, CTImageStorage))
    for keyword in ("AffectedSOPClassUID", "RequestedSOPClassUID"):
        if keyword in values:
            values[keyword] = sop_class.encode() + b"\0" * (len(sop_class) % 2)
    values["CommandField"] = struct.pack("<H", command)
    changed = {**values, **changes}
    elements = [
        element(ELEMENTS[keyword].number, value)
        for keyword, value in sorted(changed.items(), key=lambda each: ELEMENTS[each[0]].number)
        if value is not None
    ]
    context_id = 2 * CONTEXTS.index(SERVED.get(command, CTImageStorage)) + 1
    packed = data_pdu(pdv(context_id, COMMAND | LAST, command_set(*elements)))
    return packed + data_pdu(pdv(context_id, LAST, DATASET))


def answer_nothing(event: evt.Event) -> Any:
    """A handler for whatever: it answers with success and without a dataset."""
    kind = event.request.command
    if kind in (Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ):
        return iter(())
    return 0x0000 if kind in (Command.C_STORE_RQ, Command.N_DELETE_RQ) else (0x0000, Dataset())


HANDLERS = [
    (getattr(evt, f"EVT_{command.name.removesuffix('_RQ')}"), answer_nothing)
    for command in SERVED
    if command is not Command.C_CANCEL_RQ
]


ECHO_LAST = data_pdu(pdv(2 * CONTEXTS.index(Verification) + 1, COMMAND | LAST, ECHO[12:]))
"""What is answered after the message before it, if the association goes on."""


def variations(command: Command) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    carried = CARRIED[command]
    for keyword in ("CommandField", "CommandDataSetType", *carried.required, *carried.optional):
        yield f"{keyword}: absent", {keyword: None}
        for how, value in BAD.items():
            yield f"{keyword}: {how}", {keyword: value}
    yield "all absent", dict.fromkeys(ELEMENTS)
    yield "all empty", dict.fromkeys(ELEMENTS, b"")
    yield "all there are", {keyword: GOOD[each.vr] for keyword, each in ELEMENTS.items()}


@pytest.mark.parametrize("command", Command, ids=lambda command: command.name)
def test_elements_of_a_command_set_missing_empty_mistyped(command: Command, face: Face) -> None:
    """Each is served, refused or ends the association, and the log has a line at most for it.

    Both faces decode commands with the same function: each gets one half of the variations.
    """
    half = list(variations(command))[face.name == "threaded" :: 2]
    contexts = [build_context(uid) for uid in CONTEXTS]
    association = everything_requested()
    with (
        besieged(HANDLERS, contexts=contexts) as v,
        v.attacked(lines=None),
    ):
        attacker = v.attacker().associate(association)
        echoed = attacker.send(ECHO_LAST).receive_pdu()
        for what, changes in half:
            before = len(v.told())
            answer = attacker.send(message(command, changes), ECHO_LAST).receive_until(echoed)
            assert answer.endswith(echoed) or is_abort(answer[-10:]), (what, answer)
            assert len(v.told()) <= before + 2, (what, v.told())
            if not answer.endswith(echoed):
                attacker.socket.close()
                attacker = v.attacker().associate(association)
        attacker.socket.close()


def test_a_command_set_with_thousands_of_elements_takes_little_time(victim: Victim) -> None:
    commands = {
        "unknown": command_set(*[element(0x5000 + n % 4096, b"") for n in range(30_000)]),
        "repeated": command_set(*[us(0x0110, n % 65536) for n in range(25_000)]),
        "tags": command_set(us(0x0100, Command.N_GET_RQ), element(0x1005, bytes(200_000))),
    }
    for command in commands.values():
        pieces = [command[start : start + 16000] for start in range(0, len(command), 16000)]
        values = [data_pdu(pdv(1, COMMAND, piece)) for piece in pieces]
        with victim.attacked(peak=30 << 20), victim.attacker() as attacker:
            began = time.process_time()
            attacker.associate().send(*values, data_pdu(pdv(1, COMMAND | LAST, b"")))
            assert is_abort(attacker.rest())
            assert time.process_time() - began < 3


# --- Services without a handler -----------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [each for each in SERVED if each != Command.C_CANCEL_RQ], ids=lambda each: each.name
)
def test_a_service_that_nobody_handles(command: Command) -> None:
    contexts = [build_context(uid) for uid in CONTEXTS]
    with (
        besieged([], contexts=contexts) as victim,
        victim.attacked(),
        victim.attacker() as attacker,
    ):
        attacker.associate(everything_requested())
        attacker.send(message(command, {}), RELEASE_RQ)
        answer = attacker.rest()
        assert answer.endswith(RELEASED), answer
        assert us(0x0900, 0x0000) not in answer
