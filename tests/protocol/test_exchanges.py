"""Requests and responses from a template have the bytes that the general way gives them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from strategies import u16, uids

from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.dimse import pack_command, pack_small_data
from dicomwire.protocol.exchanges import Exchanges

CT = UID("1.2.840.10008.5.1.4.1.1.2")
VERIFICATION = UID("1.2.840.10008.1.1")

sizes = st.sampled_from((0, 8, 100, 1000, 16382))
contexts = st.integers(0, 127).map(lambda number: 2 * number + 1)


def store(number: int, uid: str, priority: int = 2) -> Message:
    return Message(
        Command.C_STORE_RQ,
        MessageID=number,
        AffectedSOPClassUID=CT,
        AffectedSOPInstanceUID=UID(uid),
        Priority=priority,
        has_dataset=True,
    )


def answer(request: Message) -> Message:
    return Message(
        Command.C_STORE_RSP if request.command is Command.C_STORE_RQ else Command.C_ECHO_RSP,
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
        Status=0,
    )


@given(contexts, st.lists(st.tuples(u16, uids), min_size=1, max_size=4), st.binary(), sizes)
def test_c_store(context: int, objects: list[tuple[int, str]], data: bytes, size: int) -> None:
    exchanges = Exchanges(context, store(1, "1"), size)
    for number, uid in objects:
        request = store(number, uid)
        made = exchanges.of(number, uid)
        if made is not None:
            assert made[0] == pack_command(context, request, size)
            assert made[1] == pack_command(context, answer(request), size)
        with_dataset = exchanges.with_dataset(number, uid, data)
        packed = pack_small_data(context, data, size)
        if made is None or packed is None:
            assert with_dataset is None
        else:
            assert with_dataset == (made[0] + packed, made[1])


@given(contexts, u16)
def test_c_echo(context: int, number: int) -> None:
    request = Message(Command.C_ECHO_RQ, MessageID=number, AffectedSOPClassUID=VERIFICATION)
    made = Exchanges(context, request, 0).of(number)
    assert made == (pack_command(context, request, 0), pack_command(context, answer(request), 0))


def test_usual_requests_have_a_template() -> None:
    assert Exchanges(1, store(1, "1"), 0).of(65535, "1.2.3") is not None


def test_a_small_dataset_is_in_the_template_of_its_request() -> None:
    exchanges = Exchanges(1, store(1, "1"), 0)
    made, packed = exchanges.of(7, "1.2.3"), pack_small_data(1, b"data", 0)
    assert made is not None
    assert packed is not None
    assert exchanges.with_dataset(7, "1.2.3", b"data") == (made[0] + packed, made[1])
    assert exchanges.with_dataset(7, "no UID", b"data") is None


def test_unusual_requests_have_none() -> None:
    exchanges = Exchanges(1, store(1, "1"), 0)
    assert exchanges.of(1, "no UID") is None
    assert exchanges.of(1, "1" * 65) is None
    assert exchanges.of(1) is None
    assert Exchanges(1, store(1, "1", priority=3), 0).of(1, "1.2") is None
    assert Exchanges(1, store(1, "1"), 64).of(1, "1.2") is None
