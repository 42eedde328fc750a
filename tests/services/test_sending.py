"""How an association sends its messages, whatever face writes the bytes."""

from __future__ import annotations

from typing import Any

import pytest
from fake_port import context

from dicomwire.data.blocking import run_blocking
from dicomwire.data.sources import BytesSource
from dicomwire.errors import AssociationFailure, ConnectionLost
from dicomwire.events import EVT_DIMSE_SENT, Handlers
from dicomwire.protocol.association import AssociationProtocol
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.events import CommandReceived, DataReceived
from dicomwire.protocol.states import Role, State
from dicomwire.services import scu
from dicomwire.services.port import Incoming
from dicomwire.session.sending import SendingEngine
from dicomwire.settings import Settings
from dicomwire.sop_class import CTImageStorage

LARGE = bytes(range(256)) * 8192  # two pieces


class EngineAssociation:
    """The association of a sender, which may have `window` operations outstanding."""

    refuse = None

    def __init__(self, window: int, *bindings: Any) -> None:
        self.handlers = Handlers(bindings)
        self.own_window = window
        self.failures: list[AssociationFailure] = []

    def on_local_abort(self, failure: AssociationFailure) -> None:
        self.failures.append(failure)


class FakeSender(SendingEngine):
    """Keeps the bytes that it writes; `interrupt` is called before each write."""

    def __init__(self, window: int = 1, *bindings: Any) -> None:
        self.owner = EngineAssociation(window, *bindings)
        super().__init__(self.owner, Role.REQUESTOR, Settings())  # type: ignore[arg-type]
        self.protocol.state = State.ESTABLISHED
        self.written: list[bytes] = []
        self.answers: list[Any] = []
        self.interrupt: Any = lambda: None

    def write(self, data: Any) -> None:
        self.interrupt()
        self.written.append(bytes(data))

    async def _until_written(self) -> None:
        pass

    async def _until_room(self, key: Any) -> None:
        while self.must_wait(key):
            self.answer(self.answers.pop(0))

    def answer(self, message_id: int) -> None:
        response = Message(Command.C_STORE_RSP, MessageIDBeingRespondedTo=message_id, Status=0x0000)
        self._dispatch_response(Incoming(context(CTImageStorage), response))

    def received(self) -> list[Any]:
        """Return the messages that a peer gets, each with its dataset."""
        peer = AssociationProtocol(Role.ACCEPTOR)
        peer.state, peer.accepted_ids = State.ESTABLISHED, frozenset({5})
        peer.receive_data(b"".join(self.written))
        found: list[Any] = []
        while (event := peer.next_event()) is not None:
            if isinstance(event, CommandReceived):
                found.append((event.message.MessageID, b""))
                event = event.data
            if isinstance(event, DataReceived):
                number, data = found.pop()
                found.append((number, data + b"".join(event.chunks)))
        return found


# What receives, and what ends the connection, is not called.
FakeSender.__abstractmethods__ = frozenset()


def store(port: FakeSender, number: int, data: Any, **options: Any) -> Any:
    request = scu.store_request(number, CTImageStorage, f"1.2.{number}", 2, None, None)
    return run_blocking(port.request(5, request, data, **options))


def test_a_small_message_is_written_at_once():
    port = FakeSender()
    store(port, 1, b"data")
    assert len(port.written) == 1
    assert port.received() == [(1, b"data")]


def test_a_large_dataset_is_written_in_pieces():
    port = FakeSender()
    store(port, 1, LARGE)
    assert len(port.written) > 1
    assert port.received() == [(1, LARGE)]


def test_small_requests_that_others_follow_are_written_together():
    port = FakeSender(window=4)
    for number in range(1, 4):
        store(port, number, b"data", more=True)
    assert not port.written
    run_blocking(port.flushed())
    assert len(port.written) == 1
    assert port.received() == [(number, b"data") for number in range(1, 4)]


def test_what_waits_is_written_before_a_large_dataset():
    port = FakeSender(window=4)
    store(port, 1, b"data", more=True)
    store(port, 2, LARGE, more=True)
    assert port.received() == [(1, b"data"), (2, LARGE)]


def test_a_request_waits_until_the_window_has_room():
    port = FakeSender(window=2)
    store(port, 1, b"data")
    store(port, 2, b"data")
    port.answers = [1]
    store(port, 3, b"data")
    assert not port.answers


def test_a_request_waits_for_the_response_to_one_with_the_same_message_id():
    port = FakeSender(window=4)
    store(port, 1, b"first")
    port.answers = [1]
    store(port, 1, b"second")
    assert not port.answers


def test_operations_that_are_joined_have_one_queue():
    port = FakeSender(window=4)
    operation = store(port, 1, b"data")
    assert store(port, 2, b"data", join=operation) is operation
    port.answer(2)
    port.answer(1)
    assert [each.message.MessageIDBeingRespondedTo for each in operation.responses] == [2, 1]
    assert operation.is_over


class Broken(BytesSource):
    """A source whose second piece cannot be read."""

    reads = 0

    def readinto(self, buffers: list[memoryview]) -> int:
        self.reads += 1
        if self.reads > 1:
            raise OSError("the disk is gone")
        return super().readinto(buffers)


def test_a_dataset_that_breaks_off_ends_the_association():
    port = FakeSender()
    with pytest.raises(OSError, match="the disk is gone"):
        store(port, 1, Broken(LARGE))
    (failure,) = port.owner.failures
    assert "sent in part: the disk is gone" in str(failure)
    assert not port._operations


def test_a_dataset_of_which_nothing_can_be_read_leaves_the_association():
    source = Broken(LARGE)
    source.reads = 1
    port = FakeSender()
    with pytest.raises(OSError, match="the disk is gone"):
        store(port, 1, source)
    assert (port.written, port.owner.failures, port._operations) == ([], [], {})


def test_no_response_is_expected_for_a_request_that_could_not_be_sent():
    def interrupt() -> None:
        raise ConnectionLost("gone", stage="write")

    port = FakeSender()
    port.interrupt = interrupt
    with pytest.raises(ConnectionLost):
        store(port, 1, b"data")
    assert not port._operations


def test_a_response_is_expected_for_a_request_that_was_interrupted():
    """It may be on its way, and its response would end the association otherwise."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    port = FakeSender()
    port.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        store(port, 1, b"data")
    port.answer(1)


def test_nothing_is_sent_after_the_end():
    port = FakeSender()
    port.is_ended = True
    with pytest.raises(AssociationFailure):
        store(port, 1, b"data")
    assert (port.written, port._operations) == ([], {})


def test_each_message_is_reported_before_it_is_written():
    seen: list[Any] = []
    port = FakeSender(1, (EVT_DIMSE_SENT, lambda event: seen.append(event.message.MessageID)))
    port.interrupt = lambda: seen.append("written")
    store(port, 1, b"data")
    assert seen == [1, "written"]
