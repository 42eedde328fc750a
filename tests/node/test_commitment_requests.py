"""Storage commitment as SCU: what is asked, and what each way of reporting leads to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from committing import COMMITMENT, INSTANCE, Committer, request_for
from node_processes import eventually
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from running_node import LOCALHOST, running

from dicomwire import AE, build_context, build_role
from dicomwire.node.commitment import requesting
from dicomwire.node.commitment.requesting import REPORT, REQUEST, WANTED, Wanted
from dicomwire.node.configuration import Destination
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import NewTask, State, listed
from dicomwire.protocol.command import Command, Message
from raw_peer import EXPLICIT, RawPeer, context, request_pdu

ONE, TWO = "1.2.3.1.1", "1.2.3.1.2"
KINDS = (WANTED, REQUEST, REPORT)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requesting, "_GATHER", 0.05)
    monkeypatch.setattr(requesting, "_SOON", 0.05)


@contextmanager
def asking(folder: Path, port: int, timeout: float = 3600.0, **keys: Any) -> Iterator[Node]:
    """Run a node with the destination BIG."""
    destination = Destination(LOCALHOST, port, report_timeout=timeout)
    with running(folder, destinations={"BIG": destination}, **keys) as node:
        yield node


def want(node: Node, *uids: str, destination: str = "BIG") -> None:
    """Have the node ask for commitment; "sent" and "again" are tasks that nobody runs."""
    wanted = [
        Wanted(
            destination,
            CTImageStorage,
            uid,
            [NewTask("sent", {"uid": uid})],
            NewTask("again", {"uid": uid}, delay=5.0),
        )
        for uid in uids
    ]
    with node.archive.index.writing() as writer:
        node.archive.commitments.want(writer, wanted)


def outcome(node: Node) -> dict[str, list[str]]:
    """Return the UIDs of the tasks that have been added, when no other is left."""
    assert eventually(lambda: not any(each.kind in KINDS for each in listed(node.archive.index)))
    found: dict[str, list[str]] = {"sent": [], "again": []}
    for task in listed(node.archive.index):
        found[task.kind].append(task.payload["uid"])
    return found


def open_requests(node: Node) -> list[Any]:
    return list(listed(node.archive.index, REQUEST))


@pytest.mark.parametrize("where", ["same", "new"])
def test_what_is_committed_counts_and_what_failed_is_sent_again(tmp_path: Path, where: str) -> None:
    big = Committer(where)
    big.missing = {TWO}
    with big.listening() as port, asking(tmp_path, port) as node:
        big.node = node.address
        want(node, ONE, TWO)
        _, uids = big.request()
        assert sorted(uids) == [ONE, TWO]
        assert outcome(node) == {"sent": [ONE], "again": [TWO]}


def test_requests_are_made_on_each_pair(tmp_path: Path, backend: Backend) -> None:
    big = Committer()
    with big.listening() as port, asking(tmp_path, port, index=backend.index) as node:
        want(node, ONE)
        assert outcome(node) == {"sent": [ONE], "again": []}


def test_an_object_that_two_routes_have_sent_is_asked_for_once(tmp_path: Path) -> None:
    big = Committer()
    with big.listening() as port, asking(tmp_path, port) as node:
        want(node, ONE, ONE)
        assert big.request()[1] == [ONE]
        assert outcome(node) == {"sent": [ONE, ONE], "again": []}


def test_without_a_report_it_is_asked_again_in_another_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requesting, "_PATIENCE", 0.05)
    big = Committer("never")
    with big.listening() as port, asking(tmp_path, port, timeout=0.1) as node:
        want(node, ONE)
        first, _ = big.request()
        big.where = "same"
        second, _ = big.request()
        assert first != second
        assert outcome(node)["sent"] == [ONE]


def test_a_report_that_comes_late_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes on a new association, after the node has stopped and started."""
    monkeypatch.setattr(requesting, "_PATIENCE", 0.05)
    big = Committer("never")
    with big.listening() as port:
        with asking(tmp_path, port) as node:
            want(node, ONE)
            transaction, _ = big.request()
            assert eventually(lambda: open_requests(node)[0].state is State.WAITING)
        with asking(tmp_path, port) as node:
            assert len(open_requests(node)) == 1
            big.node = node.address
            event_type, report = big.report_of(request_for(transaction, ONE))
            assert big.report_on_new_association(event_type, report) == 0x0000
            assert outcome(node)["sent"] == [ONE]
            # It may be repeated, since the peer may not have got the answer.
            assert big.report_on_new_association(event_type, report) == 0x0000
            assert outcome(node)["sent"] == [ONE]


def test_objects_that_a_report_does_not_have_are_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = Committer("never")
    with big.listening() as port, asking(tmp_path, port) as node:
        big.node = node.address
        want(node, ONE, TWO)
        transaction, _ = big.request()
        _, report = big.report_of(request_for(transaction, ONE, "1.2.3.9"))
        assert big.report_on_new_association(1, report) == 0x0000
        assert outcome(node) == {"sent": [ONE], "again": [TWO]}


def test_a_request_that_is_refused_is_repeated_later(tmp_path: Path) -> None:
    big = Committer()
    big.status = 0x0213
    with big.listening() as port, asking(tmp_path, port) as node:
        want(node, ONE)
        assert eventually(lambda: any(each.error for each in open_requests(node)))
        assert open_requests(node)[0].error == "BIG answers the request with 0x0213"
        big.status = 0x0000
        node.archive.queue.retry(REQUEST)
        node.archive.queue.on_added({REQUEST})
        assert outcome(node)["sent"] == [ONE]


def test_a_destination_without_storage_commitment_is_an_error_of_the_task(tmp_path: Path) -> None:
    ae = AE()
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server((LOCALHOST, 0), block=False)
    assert server is not None
    with asking(tmp_path, server.server_address[1]) as node:
        want(node, ONE)
        assert eventually(lambda: any(each.error for each in open_requests(node)))
        assert "association" in open_requests(node)[0].error
    ae.shutdown()


def test_a_destination_that_is_not_configured_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        want(node, ONE, destination="NOBODY")
        assert eventually(lambda: any(each.error for each in open_requests(node)))
        assert open_requests(node)[0].state is State.DEAD


def test_the_node_stops_while_it_waits_for_a_report(tmp_path: Path) -> None:
    big = Committer("never")
    with big.listening() as port:
        with asking(tmp_path, port) as node:
            want(node, ONE)
            big.request()
        with asking(tmp_path, port) as node:
            assert [each.payload["is_sent"] for each in open_requests(node)] == [True]


# --- A peer of bytes --------------------------------------------------------------------------


class RawCommitter:
    """Accepts one association by raw bytes, and does with the request what `then` does."""

    def __init__(self, then: Any) -> None:
        self._listener = socket.create_server((LOCALHOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._then = then
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with self._listener, RawPeer(connection) as peer:
            peer.accept()
            request, dataset = peer.receive_message()
            assert request.command is Command.N_ACTION_RQ
            self._then(peer, request, dataset)

    def join(self) -> None:
        self._thread.join(20)


def report_message(number: int = 1) -> Message:
    return Message(
        Command.N_EVENT_REPORT_RQ,
        MessageID=number,
        AffectedSOPClassUID=COMMITMENT,
        AffectedSOPInstanceUID=INSTANCE,
        EventTypeID=1,
        has_dataset=True,
    )


def answer_to(request: Message) -> Message:
    return Message(
        Command.N_ACTION_RSP,
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=COMMITMENT,
        AffectedSOPInstanceUID=INSTANCE,
        ActionTypeID=1,
        Status=0,
    )


def test_the_report_may_come_before_the_response_to_the_request(tmp_path: Path) -> None:
    def report_first(peer: RawPeer, request: Message, dataset: bytes) -> None:
        # The dataset of a request without other elements is that of a report of success.
        peer.send_message(report_message(), dataset)
        answer, _ = peer.receive_message()
        assert (answer.command, answer.Status) == (Command.N_EVENT_REPORT_RSP, 0x0000)
        peer.send_message(answer_to(request))
        peer.receive()  # the release

    big = RawCommitter(report_first)
    with asking(tmp_path, big.port) as node:
        want(node, ONE)
        assert outcome(node)["sent"] == [ONE]
    big.join()


def test_the_report_may_come_on_a_new_association_before_the_response(tmp_path: Path) -> None:
    def report_elsewhere(peer: RawPeer, request: Message, dataset: bytes) -> None:
        with RawPeer.connect(node.address[1]) as other:
            information = [*request_pdu().user_information, build_role(COMMITMENT, scp_role=True)]
            other.associate(context(1, COMMITMENT, EXPLICIT), user_information=information)
            other.send_message(report_message(), dataset)
            answer, _ = other.receive_message()
            assert (answer.command, answer.Status) == (Command.N_EVENT_REPORT_RSP, 0x0000)
        peer.send_message(answer_to(request))
        peer.receive()

    big = RawCommitter(report_elsewhere)
    with asking(tmp_path, big.port) as node:
        want(node, ONE)
        assert outcome(node)["sent"] == [ONE]
    big.join()


def test_the_report_counts_without_a_response_to_the_request(tmp_path: Path) -> None:
    def report_and_vanish(peer: RawPeer, request: Message, dataset: bytes) -> None:
        peer.send_message(report_message(), dataset)
        peer.receive_message()

    big = RawCommitter(report_and_vanish)
    with asking(tmp_path, big.port) as node:
        want(node, ONE)
        assert outcome(node)["sent"] == [ONE]
    big.join()


# --- Reports that are refused -----------------------------------------------------------------


def reported(node: Node, dataset: Dataset, event_type: int = 1, instance: str = INSTANCE) -> int:
    role = build_role(COMMITMENT, scp_role=True)
    with AE("BIG").associate(*node.address, [build_context(COMMITMENT)], ext_neg=[role]) as assoc:
        status, _ = assoc.send_n_event_report(dataset, event_type, COMMITMENT, instance)
        return int(status.Status)


def test_a_report_without_role_selection_is_taken(tmp_path: Path) -> None:
    """Some archives do not propose the role that they need."""
    with (
        running(tmp_path) as node,
        AE("BIG").associate(*node.address, [build_context(COMMITMENT)]) as assoc,
    ):
        report = request_for("1.2.3", ONE)
        status, _ = assoc.send_n_event_report(report, 1, COMMITMENT, INSTANCE)
        assert status.Status == 0x0000


def test_malformed_reports_are_refused(tmp_path: Path) -> None:
    good = request_for("1.2.3", ONE)
    bad = request_for("1.2.3", ONE)
    bad.FailedSOPSequence = [Dataset()]
    with running(tmp_path) as node:
        assert reported(node, good) == 0x0000  # of no open transaction
        assert reported(node, good, event_type=3) == 0x0113
        assert reported(node, good, instance="1.2.3") == 0x0112
        assert reported(node, Dataset()) == 0x0115
        assert reported(node, bad) == 0x0115
        assert [*listed(node.archive.index)] == []
