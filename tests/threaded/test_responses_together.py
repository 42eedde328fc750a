"""A server sends the responses to requests that arrived together at once, but none too late."""

from __future__ import annotations

from typing import Any

import pytest
from fake_peer import pdus_of
from simulation import FakeSocket, World

from dicomwire import AE, evt
from dicomwire.protocol.command import Command, Message, decode_command
from dicomwire.protocol.pdu import AssociateAC, PDataTF, ReleaseRP, ReleaseRQ
from raw_peer import CT, IMPLICIT, VERIFICATION, context, message_pdu, request_pdu, store_request


def connected(world: World, *handlers: Any, **options: Any) -> FakeSocket:
    """A peer with an association with our server."""
    ae = AE("SCP")
    for uid in (VERIFICATION, CT):
        ae.add_supported_context(uid)
    server = ae.start_server(("192.0.2.1", 0), block=False, evt_handlers=list(handlers), **options)
    sock = world.connect(server)
    sock.arrive(request_pdu(context(1, VERIFICATION), context(3, CT, IMPLICIT)).encode())
    world.run()
    assert [type(pdu) for pdu in pdus_of(sock.outgoing)[0]] == [AssociateAC]
    world.steps.clear()
    return sock


def echo(number: int) -> bytes:
    request = Message(Command.C_ECHO_RQ, MessageID=number, AffectedSOPClassUID=VERIFICATION)
    return message_pdu(1, request)


def store(number: int) -> bytes:
    request = store_request(f"1.2.{number}", number)
    return message_pdu(3, request, bytes(100))


def answered(sock: FakeSocket) -> list[int | None]:
    """Return the message IDs that have been responded to with success."""
    responses = [
        decode_command(pdu.values[0][2])
        for pdu in pdus_of(sock.outgoing)[0]
        if isinstance(pdu, PDataTF)
    ]
    assert all(each.Status == 0x0000 for each in responses)
    return [each.MessageIDBeingRespondedTo for each in responses]


def test_requests_that_arrived_together_are_answered_with_one_send(world, tmp_path):
    sock = connected(world, receive_to=tmp_path)
    sock.arrive(echo(1) + store(2) + store(3) + echo(4))
    world.run()
    assert answered(sock) == [1, 2, 3, 4]
    assert world.steps.count("send") == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_response_does_not_wait_for_the_handler_of_the_next_request(world):
    sent_before = []
    sock = connected(world, (evt.EVT_C_ECHO, lambda event: sent_before.append(answered(sock)) or 0))
    sock.arrive(echo(1) + echo(2) + echo(3))
    world.run()
    assert sent_before == [[], [1], [1, 2]]
    assert answered(sock) == [1, 2, 3]


@pytest.mark.parametrize("rest", [store(2)[:50], store(2)[:-50]])
def test_a_response_does_not_wait_for_the_rest_of_the_next_request(world, rest):
    sock = connected(world, (evt.EVT_C_STORE, lambda event: 0))
    sock.arrive(echo(1) + rest)
    world.later.append(lambda: sock.arrive(store(2)[len(rest) :]))
    world.run()
    assert answered(sock) == [1, 2]
    assert world.steps.index("send") < world.steps.index("wait")


def test_responses_are_sent_before_the_answer_to_the_release(world):
    sock = connected(world)
    sock.arrive(echo(1) + echo(2) + ReleaseRQ().encode())
    world.run()
    assert answered(sock) == [1, 2]
    assert isinstance(pdus_of(sock.outgoing)[0][-1], ReleaseRP)


def test_a_dataset_that_has_arrived_after_its_command_is_read_without_waiting(world, tmp_path):
    message = store(1)
    end = 6 + int.from_bytes(message[2:6], "big")  # of the PDU with the command

    def place(request: Message) -> str:
        sock.arrive(message[end:])
        return f"{tmp_path}/{request.AffectedSOPInstanceUID}"

    sock = connected(world, receive_to=place)
    sock.arrive(message[:end])
    world.run()
    assert answered(sock) == [1]
    assert "wait" not in world.steps[: world.steps.index("send")]
