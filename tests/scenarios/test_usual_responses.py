"""A run of objects gives the same bytes and results, whether or not somebody looks at messages."""

from __future__ import annotations

import random

import pytest
from scenario import in_background, make_ct, state

from dicomwire import AssociationFailure, Sent, build_context, evt
from dicomwire.pdu_primitives import AsynchronousOperationsWindowNegotiation as Window
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.items import MaximumLengthNotification
from dicomwire.protocol.pdu import Abort, ReleaseRQ
from raw_peer import CT, EXPLICIT, RawPeer, RawServer, message_pdu

COUNT = 6
LARGE = 200_000


def success(request: Message, **changes) -> Message:
    values = {
        "MessageIDBeingRespondedTo": request.MessageID,
        "AffectedSOPClassUID": request.AffectedSOPClassUID,
        "AffectedSOPInstanceUID": request.AffectedSOPInstanceUID,
        "Status": 0,
    }
    return Message(Command.C_STORE_RSP, **(values | changes))


def in_order(requests: list[Message]) -> list[bytes]:
    return [message_pdu(1, success(request)) for request in requests]


def in_pieces(requests: list[Message]) -> list[bytes]:
    data = b"".join(in_order(requests))
    return [data[at : at + 37] for at in range(0, len(data), 37)]


def reversed_(requests: list[Message]) -> list[bytes]:
    return [b"".join(in_order(requests[::-1]))]


def without_uids(requests: list[Message]) -> list[bytes]:
    uids = {"AffectedSOPClassUID": None, "AffectedSOPInstanceUID": None}
    return [message_pdu(1, success(request, **uids)) for request in requests]


def refused(requests: list[Message]) -> list[bytes]:
    statuses = [{"Status": 0xA700, "ErrorComment": "full"}, {"Status": 0xB000}, {}]
    return [
        message_pdu(1, success(request, **statuses[request.MessageID % 3])) for request in requests
    ]


def another_request(requests: list[Message]) -> list[bytes]:
    echo = Message(Command.C_ECHO_RQ, MessageID=9, AffectedSOPClassUID="1.2.840.10008.1.1")
    return [b"".join([*in_order(requests), message_pdu(1, echo)])]


def cancelled(requests: list[Message]) -> list[bytes]:
    cancel = Message(Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=1)
    return [b"".join([message_pdu(1, cancel), *in_order(requests)])]


def answered_twice(requests: list[Message]) -> list[bytes]:
    return [b"".join(2 * in_order(requests))]


def wrong_id(requests: list[Message]) -> list[bytes]:
    return [message_pdu(1, success(requests[-1], MessageIDBeingRespondedTo=999))]


def then_abort(requests: list[Message]) -> list[bytes]:
    return [b"".join([*in_order(requests), Abort(0, 0).encode()])]


def abort(requests: list[Message]) -> list[bytes]:
    return [Abort(2, 6).encode()]


def then_release(requests: list[Message]) -> list[bytes]:
    return [b"".join([*in_order(requests), ReleaseRQ().encode()])]


def close(requests: list[Message]) -> list[bytes]:
    return [b"".join(in_order(requests)), b""]


def close_within(requests: list[Message]) -> list[bytes]:
    return [b"".join(in_order(requests))[:-1], b""]


def noise(requests: list[Message]) -> list[bytes]:
    return [random.Random(0).randbytes(300)]


ANSWERS = [
    *(in_order, in_pieces, reversed_, without_uids, refused, another_request, cancelled),
    *(answered_twice, wrong_id, then_abort, abort, then_release, close, close_within, noise),
]


class Recorded(RawPeer):
    """A raw peer that keeps all that it receives from a run."""

    def __init__(self, peer: RawPeer) -> None:
        super().__init__(peer.socket)
        self.bytes = b""

    def receive_bytes(self, size: int) -> bytes:
        data = super().receive_bytes(size)
        self.bytes += data
        return data


def next_store(peer: Recorded) -> Message:
    while (request := peer.receive_message()[0]).command is not Command.C_STORE_RQ:
        pass
    return request


def serve(peer: Recorded, window: int, answers) -> None:
    """Answer `window` requests at a time, until nothing more comes."""
    left = COUNT
    try:
        while left:
            requests = [next_store(peer) for _ in range(min(window, left))]
            left -= len(requests)
            for data in answers(requests):
                if not data:
                    # The program sends more for each response. Whether it has done so when the
                    # connection ends must not be by chance.
                    for _ in range(min(left, len(requests) - (answers is close_within))):
                        next_store(peer)
                    peer.close()
                    return
                peer.send(data)
        peer.receive()
    except (OSError, EOFError, AssertionError):
        pass  # the association has ended


def outcome(sent: Sent) -> tuple:
    failure = type(sent.failure), str(sent.failure).split(":")[0]
    return sent.item.SOPInstanceUID, sent.code, sent.is_stored, sent.response, failure


def send_singly(association, items) -> list:
    """Send by a call for each object."""
    outcomes = []
    for item in items:
        try:
            outcomes.append(association.send_c_store(item))
        except (AssociationFailure, RuntimeError) as failure:
            outcomes.append((type(failure), str(failure).split(":")[0]))
    return outcomes


def send_in_a_run(association, items) -> list:
    return [outcome(sent) for sent in association.send_c_stores(items)]


def run(face, send, window: int, answers, *handlers) -> tuple:
    items = [make_ct(LARGE if number == 3 else 64, f"1.2.3.{number}") for number in range(COUNT)]
    with RawServer() as listener:
        options = {"contexts": [build_context(CT, EXPLICIT)], "window": window}
        with in_background(lambda: face.associate(listener.port, handlers, **options)) as begun:
            taken = listener.take()
            granted = [Window(window, 1)] if window > 1 else []
            taken.accept(user_information=[MaximumLengthNotification(16382), *granted])
        peer, association = Recorded(taken), begun.result()
        with peer, in_background(lambda: serve(peer, window, answers)):
            results = send(association, items)
            ended = state(association)
            association.abort()
        return results, ended, peer.bytes


def looked_at(face, *how) -> tuple:
    return run(face, *how, (evt.EVT_DIMSE_RECV, lambda event: None))


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("answers", ANSWERS)
def test_a_run_that_nobody_looks_at(face, window, answers):
    how = send_in_a_run, window, answers
    assert run(face, *how) == looked_at(face, *how)


WITHIN_A_CALL = [in_order, in_pieces, without_uids, refused, cancelled, wrong_id, abort, noise]
"""Those after which nothing arrives between two calls, where the order would be by chance."""


@pytest.mark.parametrize("answers", WITHIN_A_CALL)
def test_calls_that_nobody_looks_at(face, answers):
    how = send_singly, 1, answers
    assert run(face, *how) == looked_at(face, *how)
