"""Whatever happens at whichever step of an association: it ends as it has to, and nothing is left.

Each test lives through a whole association once to count the calls to the system, and then again
for each of them, with the same thing happening just before that call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from fake_peer import Acceptor, pdus_of
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from simulation import FakeSocket, World

from dicomwire import AE, Association, Settings, build_context, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, ReleaseRQ
from dicomwire.threaded import link
from raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    context,
    message_pdu,
    request_pdu,
    store_request,
)

SETTINGS = Settings(network_timeout=60, dimse_timeout=30, acse_timeout=30, close_timeout=2)
NOTICES = [each for each in vars(evt).values() if isinstance(each, evt.NotificationEvent)]
TAKEN_AT_ONCE = 30_000
"""Bytes that the system takes before sending blocks."""
LONG = 10_000.0
"""Seconds after which every deadline has passed."""


def image(size: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, "1.2.3"
    ds.add_new("PixelData", "OW", bytes(size))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return ds


def names_of(log: list[evt.Event]) -> list[str]:
    return [each.event.name.removeprefix("EVT_") for each in log]


# --- Two lives ---


class Requestor:
    """Requests an association, echoes, stores a small and a large object, and releases."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log: list[evt.Event] = []
        self.ae = AE("SCU", SETTINGS)
        self.socket = FakeSocket(world)
        self.socket.room = world.takes = TAKEN_AT_ONCE
        self.peer = Acceptor(self.socket)
        self.association: Association | None = None
        world.next_socket = lambda: self.socket
        self._handlers: list[Any] = [(event, self.log.append) for event in NOTICES]

    def live(self) -> None:
        contexts = [build_context(VERIFICATION), build_context(CT, EXPLICIT)]
        self.association = self.ae.associate("peer", 104, contexts, evt_handlers=self._handlers)
        for send in (
            self.association.send_c_echo,
            lambda: self.association.send_c_store(image(1000)),
            lambda: self.association.send_c_store(image(100_000)),
        ):
            with suppress(RuntimeError):  # the association is over
                status = send()
                assert status.get("Status", 0) == 0
            self.world.run()
        self.association.release()

    def abort(self) -> None:
        for association in self.ae.active_associations:
            association.abort(block=False)

    @property
    def ended(self) -> list[Association]:
        return [] if self.association is None else [self.association]


class Hurried(Requestor):
    """The same, while watching pauses from the first response on."""


class Served:
    """Serves a peer that requests an association, echoes, stores and releases, in pieces."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log: list[evt.Event] = []
        self.ae = AE("SCP", SETTINGS)
        self.ended: list[Association] = []
        for uid in (VERIFICATION, CT):
            self.ae.add_supported_context(uid)
        handlers: list[Any] = [(event, self.log.append) for event in NOTICES]
        handlers += [(evt.EVT_C_STORE, self._store), (evt.EVT_REQUESTED, self._requested)]
        self.server = self.ae.start_server(("192.0.2.1", 0), block=False, evt_handlers=handlers)
        world.takes = 50
        self.socket = world.connect(self.server)
        self.socket.room = 50  # even the answer to the request blocks on its way

    def _store(self, event: evt.Event) -> int:
        self.world.step("handler")
        return 0

    def _requested(self, event: evt.Event) -> None:
        self.ended.append(event.assoc)

    def live(self) -> None:
        echo = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
        store = store_request(number=2)
        request = request_pdu(context(1, VERIFICATION), context(3, CT, IMPLICIT)).encode()
        stored = message_pdu(3, store, bytes(2000))
        pieces = [request[:50], request[50:], message_pdu(1, echo), stored[:9], stored[9:200]]
        pieces += [stored[200:], message_pdu(1, echo) * 2 + ReleaseRQ().encode()]
        self.world.run()
        for piece in pieces:
            if not (self.socket.has_ended or self.socket.was_reset):
                self.socket.incoming += piece
            self.world.run()
        if any(each.is_released for each in self.ended):
            self.socket.has_ended = True
            self.world.run()

    def abort(self) -> None:
        for association in self.ae.active_associations:
            association.abort(block=False)


Life = Requestor | Served


# --- What happens to them ---


def aborted_elsewhere(life: Life) -> None:
    life.world.elsewhere(life.abort)


def closed_by_peer(life: Life) -> None:
    life.socket.has_ended = True


def closed_by_peer_unread(life: Life) -> None:
    """What had arrived is lost, as after the crash of a machine."""
    life.socket.incoming.clear()
    life.socket.has_ended = True


def reset_by_peer(life: Life) -> None:
    life.socket.was_reset = True


def aborted_by_peer(life: Life) -> None:
    if not life.socket.has_ended:
        life.socket.incoming += Abort(0, 0).encode()
        life.socket.has_ended = True


def aborted_by_peer_which_reads_no_more(life: Life) -> None:
    """Sending fails, and the reason can still be read."""
    aborted_by_peer(life)
    life.socket.takes_nothing = True


def time_passes(life: Life) -> None:
    life.world.now += LONG


def silence(life: Life) -> None:
    """The peer neither answers nor reads any more."""
    if isinstance(life, Requestor):
        life.peer.is_silent = True
    life.socket.room, life.world.takes = 0, None


def aborted_in_silence(life: Life) -> None:
    """Nothing else wakes whoever waits for the peer."""
    if life.ae.active_associations:
        silence(life)
        aborted_elsewhere(life)


def shut_down(life: Life) -> None:
    """The program has enough, on another thread."""
    if isinstance(life, Served):
        life.world.elsewhere(life.server.shutdown)
    life.world.elsewhere(life.abort)


PROMPT = [
    *[aborted_elsewhere, aborted_in_silence, shut_down],
    *[closed_by_peer, closed_by_peer_unread, reset_by_peer, aborted_by_peer],
    aborted_by_peer_which_reads_no_more,
]
"""What ends an association at once, but for the close timeout."""
AT_ONCE = SETTINGS.close_timeout + 1


@pytest.mark.parametrize("happens", [*PROMPT, time_passes, silence], ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", [Requestor, Hurried, Served])
def test_at_every_step(
    world: World,
    kind: type[Life],
    happens: Callable[[Life], None],
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind is Hurried:
        monkeypatch.setattr(link, "_FEW", 0)
    world.steps.clear()
    undisturbed = kind(world)
    undisturbed.live()
    count = len(world.steps)
    assert [each.is_released for each in undisturbed.ended] == [True]
    check(undisturbed, AT_ONCE)
    for number in range(1, count + 1):
        world.steps.clear()
        life = kind(world)
        world.at_step(number, lambda life=life: happens(life))
        began = world.now
        life.live()
        try:
            if happens in PROMPT:
                assert world.now < began + AT_ONCE
            check(life, AT_ONCE if happens in PROMPT else LONG)
            if happens is aborted_by_peer_which_reads_no_more and kind is not Served:
                assert all(each.is_released or each.failure.by_peer for each in life.ended)
        except AssertionError as error:
            step = world.steps[number - 1]
            raise AssertionError(f"{happens.__name__} at step {number}: {step}") from error
    assert not [each for each in caplog.messages if "internal error" in each]


def check(life: Life, after: float) -> None:
    """The association is over after so many seconds, told of once, and nothing is left of it."""
    world = life.world
    if isinstance(life, Served) and not (life.ended or life.server.is_closing):
        life.socket.has_ended = True  # it has no association, and would wait for a request
    world.run()
    world.pass_time(after)
    assert life.socket.closed == 1
    assert not life.ae.active_associations
    if isinstance(life, Served):
        assert life.server._connections == 0
        assert not life.server._new_connections
        life.server.shutdown()
    assert world.selector.owners == []
    assert not world.tasks
    names = names_of(life.log)
    assert names.count("CONN_OPEN") == names.count("CONN_CLOSE")
    for association in life.ended:
        outcome = [association.is_released, association.is_aborted, association.is_rejected]
        assert outcome.count(True) == 1, outcome
        assert not association.is_established
        assert (association.failure is None) == association.is_released
        told = [names.count("RELEASED"), names.count("ABORTED"), names.count("REJECTED")]
        assert told == [int(each) for each in outcome]
        assert association._port._depth == 0
        assert association._port._buffer is None
    sent, rest = pdus_of(life.socket.outgoing)
    assert not any(isinstance(each, Abort) for each in sent[:-1])
    # What was cut off is not followed by an A-ABORT, which would be taken for a part of it.
    assert not rest.endswith(Abort(0, 0).encode())
