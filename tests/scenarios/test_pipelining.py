"""Several operations outstanding at a time: what is negotiated, sent, answered, and lost."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from scenario import ABORTED, RELEASED, Outstanding, Recorder, in_background, make_ct, state

from dicomwire import (
    AssociationAborted,
    AssociationFailure,
    ConnectionLost,
    Sent,
    build_context,
    evt,
)
from dicomwire.bulk import pipeline
from dicomwire.pdu_primitives import AsynchronousOperationsWindowNegotiation as Window
from dicomwire.protocol.command import Command, Message, encode_command
from dicomwire.protocol.items import MaximumLengthNotification
from dicomwire.protocol.pdu import Abort, PDataTF, ReleaseRP, ReleaseRQ
from raw_peer import (
    CT,
    EXPLICIT,
    VERIFICATION,
    WAIT,
    RawPeer,
    RawServer,
    context,
    message_pdu,
    store_request,
)

CONTEXTS = [build_context(CT, EXPLICIT)]


def objects(count: int, size: int = 64):
    return [make_ct(size, f"1.2.3.{number}") for number in range(count)]


def answer(request: Message, status: int = 0) -> Message:
    return Message(
        Command.C_STORE_RSP,
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
        Status=status,
    )


@contextmanager
def answered(face, *window: int, **options):
    """Give an association and the raw peer that answered with `window`."""
    items = [MaximumLengthNotification(131072), Window(*window)]
    with RawServer() as listener:
        with in_background(
            lambda: face.associate(listener.port, contexts=CONTEXTS, **options)
        ) as begun:
            peer = listener.take()
            peer.accept(user_information=items)
        with peer:
            yield begun.result(), peer


def granting(face, window: int, **options):
    """Give an association and the raw peer that granted it `window`."""
    return answered(face, window, 1, window=window, **options)


def uids(sent: list[Sent]) -> list[str]:
    return [each.sop_instance_uid for each in sent]


# --- What is negotiated ---


@pytest.mark.parametrize(
    ("asked", "allowed", "granted"),
    [(1, 1, 1), (1, 32, 1), (8, 1, 1), (8, 32, 8), (32, 8, 8), (65535, 65535, 65535)],
)
def test_the_window(face, asked, allowed, granted):
    server = face.serve(operations_window=allowed)
    with face.associate(server, window=asked) as assoc:
        assert assoc.operations_window == granted
        assert [each.operations_window for each in server.active_associations] == [granted]
        assert bool(assoc.requestor.extended_negotiation) is (asked > 1)
        assert bool(assoc.acceptor.extended_negotiation) is (granted > 1)
        assert assoc.requestor.asynchronous_operations == (asked, 1)


def test_a_window_that_is_asked_for_item_by_item(face):
    server = face.serve(operations_window=7)
    for item, granted in ((Window(5, 6), 5), (Window(0, 0), 7), (Window(1, 9), 1)):
        with face.associate(server, ext_neg=[item]) as assoc:
            assert assoc.operations_window == granted


def test_a_handler_does_not_change_what_is_granted(face):
    asked = []

    def handle(event):
        asked.append((event.nr_invoked, event.nr_performed))
        return 3, 3

    server = face.serve([(evt.EVT_ASYNC_OPS, handle)], operations_window=7)
    with face.associate(server, window=5) as assoc:
        assert assoc.operations_window == 5
    assert asked == [(5, 1)]


@pytest.mark.parametrize(("answer", "window"), [((0, 0), 5), ((9, 9), 5), ((1, 1), 1)])
def test_peers_that_answer_what_was_not_asked_for(face, answer, window):
    with answered(face, *answer, window=5) as (assoc, _):
        assert assoc.operations_window == window
        assoc.abort()


def test_any_number_where_both_ends_say_so(face):
    with answered(face, 0, 0, ext_neg=[Window(0, 0)]) as (assoc, _):
        assert assoc.operations_window == 0
        assoc.abort()


@pytest.mark.parametrize("window", [0, -1, 65536])
def test_windows_that_there_are_not(face, window):
    with pytest.raises(ValueError, match="window"):
        face.associate(1, window=window)


# --- What is sent, and what comes of it ---


@pytest.mark.parametrize("window", [1, 2, 32])
def test_objects_are_stored_in_their_order(face, tmp_path, window):
    seen = []
    server = face.serve(
        [(evt.EVT_C_STORE, lambda e: seen.append(e.request.AffectedSOPInstanceUID) or 0)],
        operations_window=window,
    )
    items = [*objects(50), *objects(3, 1 << 20)]
    path = tmp_path / "ct.dcm"
    make_ct(300_000, "1.2.4").save_as(path, enforce_file_format=True)
    items += [path, str(path), make_ct(instance="1.2.5")]
    with face.associate(server, contexts=CONTEXTS, window=window) as assoc:
        results = list(assoc.send_c_stores(iter(items)))
        assert [item for item, status in results if status.Status == 0] == items
    assert all(each.is_stored and each.code == 0 and each.failure is None for each in results)
    assert uids(results) == seen
    assert seen[-4:] == ["1.2.3.2", "1.2.4", "1.2.4", "1.2.5"]
    assert state(assoc) == RELEASED


def test_nothing_to_send(face):
    server = face.serve()
    with face.associate(server) as assoc:
        assert list(assoc.send_c_stores([])) == []
    with pytest.raises(RuntimeError, match="not established"):
        assoc.send_c_stores([])


def test_as_many_as_granted_are_outstanding_and_no_more(face):
    drawn = []

    def draw():
        for each in objects(6):
            drawn.append(each)
            yield each

    with granting(face, 4) as (assoc, peer):
        with in_background(lambda: list(assoc.send_c_stores(draw()))) as sending:
            requests = [peer.receive_message()[0] for _ in range(4)]
            peer.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                peer.receive()
            assert len(drawn) == 4
            peer.socket.settimeout(WAIT)
            peer.send_message(answer(requests[2], 0xB000))
            requests.append(peer.receive_message()[0])
            for number in (4, 3, 1, 0):  # in the order of the peer's choice
                peer.send_message(answer(requests[number], 0xA700 + number))
            request, _ = peer.receive_message()
            peer.send_message(answer(request))
            results = sending.result(WAIT)
        assert len({each.MessageID for each in requests}) == 5
        assert uids(results) == [f"1.2.3.{number}" for number in (2, 4, 3, 1, 0, 5)]
        codes = [0xB000, 0xA704, 0xA703, 0xA701, 0xA700, 0]
        assert [each.code for each in results] == codes
        assert [each.status.Status for each in results] == codes
        assert [each.is_stored for each in results] == [True, *[False] * 4, True]
        assoc.abort()


def test_small_objects_leave_together_and_are_answered_in_bulk(face):
    log = Recorder(evt.EVT_DATA_SENT, evt.EVT_DIMSE_SENT, evt.EVT_PDU_SENT)
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=32)
    with face.associate(server, log.handlers, contexts=CONTEXTS, window=32) as assoc:
        before = len(log.of(evt.EVT_DATA_SENT))
        assert all(each.is_stored for each in assoc.send_c_stores(objects(32)))
        assert len(log.of(evt.EVT_DATA_SENT)) == before + 1
        assert len(log.of(evt.EVT_DIMSE_SENT)) == 32
        assert len(log.of(evt.EVT_PDU_SENT)) > 64


def test_a_server_answers_in_the_order_of_the_requests(face):
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: event.request.MessageID)], operations_window=8
    )
    requests = [store_request(f"1.2.{number}", number, Priority=0) for number in (7, 3, 5, 1)]
    with RawPeer.connect(server.server_address[1]) as peer:
        information = [MaximumLengthNotification(0), Window(4, 1)]
        accepted = peer.associate(context(1, CT), user_information=information)
        assert accepted.user_item(Window) == Window(4, 1)
        peer.send(b"".join(message_pdu(1, each, b"\x10\0\x10\0\2\0\0\0A ") for each in requests))
        responses = [peer.receive_message()[0] for _ in requests]
        peer.send(ReleaseRQ())
        assert isinstance(peer.receive(), ReleaseRP)
    assert [each.MessageIDBeingRespondedTo for each in responses] == [7, 3, 5, 1]
    assert [each.Status for each in responses] == [7, 3, 5, 1]


def test_what_a_peer_with_a_window_sends_ahead_is_not_read_ahead(face):
    """A handler that looks whether the peer is still there does not gather what is to come."""
    looked = []

    def handle(event):
        looked.append(event.peer_gone)
        return 0

    server = face.serve([(evt.EVT_C_STORE, handle)], operations_window=4)
    with face.associate(server, contexts=CONTEXTS, window=4) as assoc:
        results = list(assoc.send_c_stores(objects(5, 12 << 20)))
    assert all(each.is_stored for each in results)
    assert looked == [False] * 5


# --- What cannot be sent ---


def test_items_that_cannot_be_sent_keep_no_others_from_it(face, tmp_path):
    text = tmp_path / "text"
    text.write_text("no DICOM file")
    unnamed = make_ct()
    del unnamed.SOPInstanceUID
    other = make_ct(instance="1.2.9")
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    first, last = objects(2)
    items = [first, text, tmp_path / "nowhere", unnamed, other, object(), last]
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=3)
    with face.associate(server, contexts=CONTEXTS, window=3) as assoc:
        results = {id(each.item): each for each in assoc.send_c_stores(items)}
    assert state(assoc) == RELEASED
    ordered = [results[id(item)] for item in items]
    assert [each.is_stored for each in ordered] == [True, *[False] * 5, True]
    kinds = [ValueError, FileNotFoundError, AttributeError, ValueError, TypeError]
    for each, kind in zip(ordered[1:-1], kinds, strict=True):
        assert isinstance(each.failure, kind), each
        assert each.code is None
        assert "Status" not in each.status
    assert ordered[4].sop_instance_uid == "1.2.9"


def test_many_items_in_a_row_that_cannot_be_sent(face, tmp_path):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=3)
    with face.associate(server, contexts=CONTEXTS, window=3) as assoc:
        items = [*[tmp_path / str(number) for number in range(20)], make_ct()]
        results = list(assoc.send_c_stores(items))
    assert [each.is_stored for each in results] == [*[False] * 20, True]


@pytest.mark.parametrize("size", [30_000, 8 << 20])
def test_a_file_that_shrinks_while_it_waits_or_is_sent(face, tmp_path, size):
    """What has not left in part harms no others."""
    path = tmp_path / "ct.dcm"
    make_ct(size, "1.2.9").save_as(path, enforce_file_format=True)

    def shrink(event):
        if event.message.AffectedSOPInstanceUID == "1.2.9":
            with path.open("r+b") as file:
                file.truncate(size // 2)

    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=8)
    first, last = objects(2)
    with face.associate(
        server, [(evt.EVT_DIMSE_SENT, shrink)], contexts=CONTEXTS, window=8
    ) as assoc:
        results = {each.sop_instance_uid: each for each in assoc.send_c_stores([first, path, last])}
        assert isinstance(results["1.2.9"].failure, EOFError)
        if size > 1 << 20:
            before = results["1.2.3.0"]  # whose response may have come before the abort
            assert before.is_stored or isinstance(before.failure, AssociationAborted)
            assert set(results) == {"1.2.3.0", "1.2.9"}
        else:
            assert results["1.2.3.0"].is_stored
            assert results["1.2.3.1"].is_stored
    assert state(assoc) == (ABORTED if size > 1 << 20 else RELEASED)


def test_an_iterable_that_fails(face):
    def draw():
        yield from objects(3)
        raise ZeroDivisionError

    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=8)
    with face.associate(server, contexts=CONTEXTS, window=8) as assoc:
        sending = assoc.send_c_stores(draw())
        assert [next(sending).is_stored for _ in range(3)] == [True] * 3
        with pytest.raises(ZeroDivisionError):
            next(sending)
        with pytest.raises(StopIteration):
            next(sending)
        assert assoc.is_established


# --- The end comes early ---


def test_the_peer_aborts_in_the_middle(face):
    waiting = iter(objects(20))
    with granting(face, 4) as (assoc, peer):
        with in_background(lambda: list(assoc.send_c_stores(waiting))) as sending:
            requests = [peer.receive_message()[0] for _ in range(4)]
            peer.send_message(answer(requests[1]))
            peer.receive_message()
            peer.send(Abort(0, 0))
            results = sending.result(WAIT)
        assert uids(results) == [f"1.2.3.{number}" for number in (1, 0, 2, 3, 4)]
        assert results[0].is_stored
        for each in results[1:]:
            assert isinstance(each.failure, AssociationAborted)
            assert each.failure.by_peer
        assert assoc.failure is results[1].failure
        assert state(assoc) == ABORTED
        assert len(list(waiting)) == 15


@pytest.mark.parametrize("how", ["close", "reset", "release", "nonsense", "nothing"])
def test_other_ends(face, how):
    with granting(face, 3, dimse_timeout=0.1 if how == "nothing" else WAIT) as (assoc, peer):
        with in_background(lambda: list(assoc.send_c_stores(objects(9)))) as sending:
            requests = [peer.receive_message()[0] for _ in range(3)]
            if how == "release":
                peer.send(ReleaseRQ())
            elif how == "nonsense":
                requests[0].MessageID = 999
                peer.send_message(answer(requests[0]))
            elif how == "reset":
                peer.reset()
            elif how == "close":
                peer.close()
            results = sending.result(WAIT)
        assert len(results) == 3
        assert all(isinstance(each.failure, AssociationFailure) for each in results)
        assert not assoc.is_established
        if how == "nothing":
            assert results[0].failure.stage == "response"
        if how in ("close", "reset"):
            assert isinstance(assoc.failure, ConnectionLost)


def test_an_abort_by_another_thread(face):
    with granting(face, 3) as (assoc, peer):
        with in_background(lambda: list(assoc.send_c_stores(objects(9)))) as sending:
            for _ in range(3):
                peer.receive_message()
            assoc.abort()
            results = sending.result(WAIT)
        assert [type(each.failure).__name__ for each in results] == ["LocalAbort"] * 3


def test_a_handler_that_aborts(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=4)

    def handle(event):
        if event.message.MessageIDBeingRespondedTo == 2:
            event.assoc.abort()

    assoc = face.associate(server, [(evt.EVT_DIMSE_RECV, handle)], contexts=CONTEXTS, window=4)
    results = list(assoc.send_c_stores(objects(9)))
    assert results[0].is_stored
    assert not results[-1].is_stored
    assert state(assoc) == ABORTED


@pytest.mark.parametrize("how", ["close", "with", "del"])
def test_the_program_has_enough(face, how):
    stored = []
    server = face.serve(
        [(evt.EVT_C_STORE, lambda e: stored.append(e.request.MessageID) or 0)], operations_window=4
    )
    waiting = iter(objects(20))
    with face.associate(server, window=4, contexts=[*CONTEXTS, VERIFICATION]) as assoc:
        sending = assoc.send_c_stores(waiting)
        assert next(sending).is_stored
        if how == "close":
            sending.close()
            sending.close()
            assert list(sending) == []
        elif how == "with":
            with sending:
                pass
        del sending
        assert assoc.send_c_echo(2).Status == 0
        again = list(assoc.send_c_stores(objects(2)))
        assert all(each.is_stored for each in again)
    assert state(assoc) == RELEASED
    left = len(list(waiting))
    assert len(stored) == 20 - left + 2
    assert 20 - left <= 8


def test_other_requests_in_between(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=4)
    with face.associate(server, window=4, contexts=[*CONTEXTS, VERIFICATION]) as assoc:
        for each in assoc.send_c_stores(objects(20)):
            assert each.is_stored
            assert assoc.send_c_store(make_ct(), msg_id=3).Status == 0
            assert assoc.send_c_echo(3).Status == 0


def test_two_at_once_on_one_association(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=4)
    with face.associate(server, window=4, contexts=CONTEXTS) as assoc:
        pairs = zip(assoc.send_c_stores(objects(20)), assoc.send_c_stores(objects(20)), strict=True)
        assert all(one.is_stored and other.is_stored for one, other in pairs)


# --- Full buffers ---


def test_a_peer_that_answers_before_it_reads_on(face):
    """Both ends would wait for ever for each other to read, if we only wrote.

    What is answered in all is more than what the system buffers for a receiver.
    """
    count = 160
    path = "/proc/sys/net/ipv4/tcp_rmem"
    most = int(Path(path).read_text().split()[2]) if Path(path).exists() else 6 << 20
    size = min(most // 120, 250_000)

    def serve(peer):
        for _ in range(count):
            request, _ = peer.receive_message()
            command = bytearray(encode_command(answer(request)))
            command += struct.pack("<HHI", 0, 0x5199, size) + bytes(size)  # means nothing
            struct.pack_into("<I", command, 8, len(command) - 12)
            peer.send(PDataTF([(1, 3, bytes(command))]))

    with granting(face, count) as (assoc, peer):
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 << 10)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
        with in_background(lambda: serve(peer)) as serving:
            items = [make_ct(400_000)] * count
            results = list(assoc.send_c_stores(items))
            serving.result(WAIT)
        assert len(results) == count
        assert all(each.is_stored for each in results)
        assoc.abort()


@pytest.mark.parametrize("what", ["release", "abort", "echo"])
def test_what_comes_while_nothing_can_be_sent(face, what):
    """It waits for the end of the message that is being sent."""
    echo = Message(Command.C_ECHO_RQ, MessageID=5, AffectedSOPClassUID=VERIFICATION)
    with granting(face, 4) as (assoc, peer):
        blocked = threading.Event()

        def serve():
            request, _ = peer.receive_message()
            blocked.wait(WAIT)
            peer.send_message(answer(request))
            if what == "release":
                peer.send(ReleaseRQ())
                peer.receive_message()
                assert isinstance(peer.receive(), ReleaseRP)
            elif what == "abort":
                peer.send(Abort(0, 0))
                peer.close()
            else:
                peer.send_message(echo)
                second, _ = peer.receive_message()
                refused, _ = peer.receive_message()
                assert refused.command is Command.C_ECHO_RSP
                peer.send_message(answer(second))

        def tell(event):
            if event.message.MessageID == 2:
                blocked.set()

        assoc.bind(evt.EVT_DIMSE_SENT, tell)
        with in_background(serve) as serving:
            results = list(assoc.send_c_stores([make_ct(), make_ct(8 << 20, "1.2.9")]))
            serving.result(WAIT)
        if face.name == "uvloop" and what == "abort":
            return  # it may have lost what came when it finds that it cannot send
        assert results[0].is_stored
        if what == "echo":
            assert results[1].is_stored
        elif what == "abort":
            assert isinstance(results[1].failure, AssociationAborted)
            assert results[1].failure.by_peer
        else:
            assert state(assoc) == RELEASED
            assert isinstance(results[1].failure, AssociationFailure)
        assoc.abort()


def test_message_ids_of_outstanding_requests_differ(face, monkeypatch):
    """They begin anew after the last one, and pass over what has not been answered."""
    monkeypatch.setattr(pipeline, "LAST_MESSAGE_ID", 6)
    with granting(face, 3) as (assoc, peer):
        with in_background(lambda: list(assoc.send_c_stores(objects(11)))) as sending:
            first, *others = [peer.receive_message()[0] for _ in range(3)]
            ids = [each.MessageID for each in (first, *others)]
            while len(ids) < 11:
                for each in others:
                    peer.send_message(answer(each))
                others = [peer.receive_message()[0] for _ in others]
                ids += [each.MessageID for each in others]
            for each in (first, *others):
                peer.send_message(answer(each))
            assert all(each.is_stored for each in sending.result(WAIT))
        assert ids == [1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 6]
        assoc.abort()


@pytest.mark.threaded_only("what an iterable that blocks would block elsewhere is the event loop")
def test_an_object_that_is_ready_does_not_wait_for_the_next(face):
    """Objects from what may wait leave one by one, not when the window is full."""
    arrived = threading.Semaphore(0)

    def arrive(event):
        arrived.release()
        return 0

    def one_after_the_other():
        for number in range(3):
            yield make_ct(instance=f"1.2.{number}")
            assert arrived.acquire(timeout=WAIT)

    server = face.serve([(evt.EVT_C_STORE, arrive)], operations_window=8)
    with face.associate(server, window=8) as assoc:
        assert assoc.operations_window == 8
        assert [sent.is_stored for sent in assoc.send_c_stores(one_after_the_other())] == [True] * 3


class Noted(list):
    """A collection of items; the event says that its second item was taken."""

    def __init__(self, items) -> None:
        super().__init__(items)
        self.second_taken = threading.Event()

    def __iter__(self):
        for number, item in enumerate(super().__iter__()):
            if number:
                self.second_taken.set()
            yield item


@pytest.mark.parametrize("size", [64, 600_000])
def test_the_next_object_of_a_collection_is_read_while_one_is_stored(face, tmp_path, size):
    items = Noted(tmp_path / str(number) for number in range(3))
    for path, ds in zip(items, objects(3, size), strict=True):
        ds.save_as(path, enforce_file_format=True)
    received = []

    def store(event):
        assert items.second_taken.wait(WAIT)
        received.append(event.dataset)
        return 0

    server = face.serve([(evt.EVT_C_STORE, store)])
    with face.associate(server, contexts=CONTEXTS) as assoc:
        assert [sent.is_stored for sent in assoc.send_c_stores(items)] == [True] * 3
    assert received == objects(3, size)


def test_an_object_that_was_read_ahead_is_not_sent_after_the_end(face, tmp_path):
    items = Noted(tmp_path / str(number) for number in range(3))
    for path, ds in zip(items, objects(3, 600_000), strict=True):
        ds.save_as(path, enforce_file_format=True)
    with (
        answered(face, 1, 1) as (assoc, peer),
        in_background(lambda: list(assoc.send_c_stores(items))) as sending,
    ):
        peer.receive_message()
        assert items.second_taken.wait(WAIT)
        peer.send(Abort(0, 0))
        results = sending.result(WAIT)
        assert uids(results) == ["1.2.3.0"]
        assert isinstance(results[0].failure, AssociationAborted)


# --- Others on the same association ---


def test_two_pipelines_share_the_window(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=3)
    with face.associate(server, contexts=CONTEXTS, window=3) as assoc:
        outstanding = Outstanding(assoc)
        first, second = (assoc.send_c_stores(objects(10)) for _ in range(2))
        results = [each for pair in zip(first, second, strict=True) for each in pair]
        assert len(results) == 20
        assert all(each.is_stored for each in results)
        assert outstanding.most == 3


def test_few_large_objects_are_outstanding(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=8)
    with face.associate(server, contexts=CONTEXTS, window=8) as assoc:
        outstanding = Outstanding(assoc)
        assert all(each.is_stored for each in assoc.send_c_stores(objects(6, 1 << 20)))
        assert outstanding.most <= 2


def test_an_echo_waits_for_room_in_the_window(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], operations_window=2)
    with face.associate(server, window=2) as assoc:
        outstanding = Outstanding(assoc)
        with assoc.send_c_stores(objects(10)) as sending:
            for sent in sending:
                assert sent.is_stored
                assert assoc.send_c_echo(msg_id=4711).Status == 0
        assert outstanding.most == 2
