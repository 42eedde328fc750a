"""A node that forwards what it receives, to destinations of this library."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, configuration_of
from node_processes import eventually
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from running_node import LOCALHOST, Receiver, make_object, running, store

from dicomwire import build_context, evt
from dicomwire.node.conditions import conditions_of
from dicomwire.node.configuration import Destination, Route, Then, When
from dicomwire.node.forwarding import sending
from dicomwire.node.routing import FORWARDED
from dicomwire.node.server import Node
from dicomwire.node.tasks import process
from dicomwire.node.tasks.queue import listed
from dicomwire.node.uploads import BEGUN


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for further objects."""
    monkeypatch.setattr(sending, "GATHER", 0.01)
    monkeypatch.setattr(sending, "LINGER", 0.05)


class Peer(Receiver):
    """A destination.

    Attributes
    ----------
    associations : int
        How many were requested.
    """

    def __init__(self) -> None:
        super().__init__()
        self.associations = 0
        self.answer: Callable[[evt.Event], int | None] = lambda event: None

    @property
    def handlers(self) -> list[Any]:
        return [(evt.EVT_C_STORE, self._answer), (evt.EVT_ACCEPTED, self._accepted)]

    def _accepted(self, event: evt.Event) -> None:
        self.associations += 1

    def _answer(self, event: evt.Event) -> int:
        status = self.answer(event)
        return self._take(event) if status is None else status

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _, _ in self.objects]

    def has(self, number: int) -> bool:
        """Wait until it has so many objects."""
        return eventually(lambda: len(self.objects) >= number)


def is_empty(node: Node) -> bool:
    """Wait until no tasks are left, but those that a node with a bucket keeps while it lives."""
    return eventually(lambda: {task.kind for task in listed(node.archive.index)} <= {BEGUN})


@contextmanager
def forwarding(folder: Path, backend: Backend, *peers: Peer, **keys: Any) -> Iterator[Node]:
    """Run a node with a route to peers, WS0, WS1, …"""
    with ExitStack() as opened:
        destinations = {}
        for number, peer in enumerate(peers):
            port = opened.enter_context(peer.listening(CTImageStorage))
            destinations[f"WS{number}"] = Destination(LOCALHOST, port)
        route = Route(tuple(destinations))
        keys = {"routes": (route,), "destinations": destinations, **keys}
        yield opened.enter_context(running(folder, index=backend.index, **keys))


def test_an_object_goes_to_all_destinations(tmp_path: Path, backend: Backend) -> None:
    first, second = Peer(), Peer()
    with forwarding(tmp_path, backend, first, second) as node:
        sent = [make_object(number) for number in range(1, 4)]
        assert store(node, *sent) == [0, 0, 0]
        assert first.has(3)
        assert second.has(3)
        assert is_empty(node)
    assert first.uids == second.uids == [ds.SOPInstanceUID for ds in sent]


def test_one_association_serves_many_objects(tmp_path: Path, backend: Backend) -> None:
    peer = Peer()
    with forwarding(tmp_path, backend, peer) as node:
        store(node, *(make_object(number) for number in range(1, 41)))
        assert peer.has(40)
        assert is_empty(node)
    assert peer.associations <= 3


def test_parallel_associations_keep_the_order_of_a_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "GATHER", 0.3)  # so that both series are sent together
    peer = Peer()
    with peer.listening(CTImageStorage) as port:
        destination = Destination(LOCALHOST, port, associations=3, window=4)
        keys = {"routes": (Route(("WS",)),), "destinations": {"WS": destination}}
        with running(tmp_path, **keys) as node:
            objects = [
                make_object(number, SeriesInstanceUID=f"1.2.3.{number % 3}")
                for number in range(1, 31)
            ]
            store(node, *objects)
            assert peer.has(30)
            assert is_empty(node)
    assert peer.associations >= 2
    for series in range(3):
        numbers = [int(uid.rpartition(".")[2]) for uid in peer.uids]
        of_series = [number for number in numbers if number % 3 == series]
        assert of_series == sorted(of_series)


def test_objects_are_converted_to_what_the_destination_accepts(tmp_path: Path) -> None:
    peer = Peer()
    with peer.listening(build_context(CTImageStorage, ImplicitVRLittleEndian)) as port:
        destinations = {"WS": Destination(LOCALHOST, port)}
        with running(tmp_path, routes=(Route(("WS",)),), destinations=destinations) as node:
            store(node, make_object(1, syntax=ExplicitVRLittleEndian))
            assert peer.has(1)
    assert peer.objects[0][1] == ImplicitVRLittleEndian


def test_what_a_destination_cannot_take_waits_and_says_why(tmp_path: Path) -> None:
    peer = Peer()
    with peer.listening(CTImageStorage) as port:
        destinations = {"WS": Destination(LOCALHOST, port)}
        with running(tmp_path, routes=(Route(("WS",)),), destinations=destinations) as node:
            secondary = "1.2.840.10008.5.1.4.1.1.7"
            store(node, make_object(1, sop_class=secondary), make_object(2))
            assert peer.has(1)
            assert eventually(
                lambda: (
                    [
                        task.error
                        for task in listed(node.archive.index)
                        if task.kind == "send:WS" and task.error
                    ]
                    == ["no context for Secondary Capture Image Storage"]
                )
            )
    assert peer.uids == ["1.2.3.1.2"]


def test_a_failure_response_is_noted_with_its_comment(tmp_path: Path, backend: Backend) -> None:
    peer = Peer()
    statuses = iter([0xA700])
    peer.answer = lambda event: next(statuses, None)
    with forwarding(tmp_path, backend, peer) as node:
        store(node, make_object(1))
        assert peer.has(1)
        assert is_empty(node)
    assert peer.uids == ["1.2.3.1.1"]


def test_a_destination_that_aborts_in_the_middle_gets_each_object_once(
    tmp_path: Path, backend: Backend
) -> None:
    peer = Peer()
    count = 0

    def abort_now_and_then(event: evt.Event) -> int | None:
        nonlocal count
        count += 1
        if count in (2, 6):
            event.assoc.abort()
            return 0xA700
        return None

    peer.answer = abort_now_and_then
    with forwarding(tmp_path, backend, peer) as node:
        objects = [make_object(number) for number in range(1, 9)]
        store(node, *objects)
        assert peer.has(8)
        assert is_empty(node)
    assert sorted(peer.uids) == sorted(ds.SOPInstanceUID for ds in objects)


def test_a_destination_that_is_down_does_not_hold_up_the_other(
    tmp_path: Path, backend: Backend
) -> None:
    peer = Peer()
    with peer.listening(CTImageStorage) as port:
        destinations = {"DEAD": Destination(LOCALHOST, 9), "WS": Destination(LOCALHOST, port)}
        route = Route(("DEAD", "WS"))
        keys = {"destinations": destinations, "routes": (route,), "index": backend.index}
        with running(tmp_path, **keys) as node:
            store(node, *(make_object(number) for number in range(1, 6)))
            assert peer.has(5)
            assert eventually(
                lambda: (
                    {task.kind for task in listed(node.archive.index)}
                    == {"send:DEAD", "destination:DEAD"}
                )
            )


def test_a_slow_destination_does_not_hold_up_the_other(tmp_path: Path, backend: Backend) -> None:
    slow, fast = Peer(), Peer()
    goes_on = threading.Event()

    def wait(event: evt.Event) -> None:
        assert goes_on.wait(30)

    slow.answer = wait
    with forwarding(tmp_path, backend, slow, fast) as node:
        store(node, *(make_object(number) for number in range(1, 6)))
        assert fast.has(5)
        assert slow.uids == []
        goes_on.set()
        assert slow.has(5)
        assert is_empty(node)


def test_what_waits_is_sent_after_a_restart(tmp_path: Path, backend: Backend) -> None:
    peer = Peer()
    dead = {"WS": Destination(LOCALHOST, 9)}
    keys = {"routes": (Route(("WS",)),), "index": backend.index}
    with running(tmp_path, destinations=dead, **keys) as node:
        store(node, make_object(1), make_object(2))
        assert eventually(lambda: any(task.error for task in listed(node.archive.index)))
    with peer.listening(CTImageStorage) as port:
        destinations = {"WS": Destination(LOCALHOST, port)}
        with running(tmp_path, destinations=destinations, **keys) as node:
            node.archive.queue.retry("destination:WS", ["waiting"])
            assert peer.has(2)
            assert is_empty(node)
    assert peer.uids == ["1.2.3.1.1", "1.2.3.1.2"]


def test_only_what_matches_is_sent_when_its_study_is_quiet(tmp_path: Path) -> None:
    peer = Peer()
    with peer.listening(CTImageStorage) as port:
        destinations = {"WS": Destination(LOCALHOST, port)}
        conditions = conditions_of({"network": "127.0.0.0/8", "calling_title": "TEST*"})
        route = Route(("WS",), when=When.STUDY, quiet=1.0, conditions=conditions)
        with running(tmp_path, routes=(route,), destinations=destinations) as node:
            store(node, make_object(1), make_object(2))
            store(node, make_object(3), title="OTHER")
            assert peer.has(2)
            assert is_empty(node)
    assert peer.uids == ["1.2.3.1.1", "1.2.3.1.2"]
    assert peer.associations == 1


@pytest.mark.only_with("folder", "with a bucket, the nodes of tests have no such process")
def test_a_process_that_is_killed_while_it_sends_is_replaced(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_APART", 0.0)
    peer = Peer()

    def kill_the_sender_once(event: evt.Event) -> None:
        if len(peer.objects) == 3:
            peer.answer = lambda event: None
            assert node.task_process is not None
            os.kill(node.task_process, signal.SIGKILL)

    peer.answer = kill_the_sender_once
    with forwarding(tmp_path, backend, peer) as node:
        objects = [make_object(number) for number in range(1, 11)]
        store(node, *objects)
        assert eventually(lambda: {ds.SOPInstanceUID for ds in objects} <= set(peer.uids))
        assert is_empty(node)


def test_a_node_that_stops_does_not_wait_for_a_slow_destination(tmp_path: Path) -> None:
    slow, fast = Peer(), Peer()
    has_begun, goes_on = threading.Event(), threading.Event()

    def wait(event: evt.Event) -> int:
        has_begun.set()
        assert goes_on.wait(30)
        return 0xA700

    slow.answer = wait
    objects = [make_object(number) for number in range(1, 4)]
    backend = Backend()
    with forwarding(tmp_path, backend, slow, stop_timeout=0.1) as node:
        store(node, *objects)
        assert has_begun.wait(30)
    goes_on.set()
    with forwarding(tmp_path, backend, fast) as node:
        assert fast.has(3)
        assert is_empty(node)
    assert sorted(fast.uids) == [ds.SOPInstanceUID for ds in objects]


def test_destinations_change_while_the_node_serves(tmp_path: Path) -> None:
    peer = Peer()
    with peer.listening(CTImageStorage) as port:
        dead, alive = ({"WS": Destination(LOCALHOST, number)} for number in (9, port))
        configuration = configuration_of(
            port=0, folder=tmp_path, routes=(Route(("WS",)),), destinations=dead
        )
        changed = dataclasses.replace(configuration, destinations=alive)
        has_changed = tmp_path / "changed"  # a file, for all processes of the node
        with Node(
            configuration, lambda: changed if has_changed.exists() else configuration
        ) as node:
            store(node, make_object(1))
            assert eventually(lambda: any(task.error for task in listed(node.archive.index)))
            has_changed.touch()
            node.reload()
            node.archive.queue.retry("destination:WS", ["waiting"])
            assert peer.has(1)


# --- Commitment and deletion ------------------------------------------------------------------


@contextmanager
def committing(folder: Path, *names: str, **route: Any) -> Iterator[tuple[Node, list[Node]]]:
    """Run a node that sends to others, which commit."""
    with ExitStack() as opened:
        others = [opened.enter_context(running(folder / name, ae_title=name)) for name in names]
        destinations = {
            name: Destination(*other.address) for name, other in zip(names, others, strict=True)
        }
        routes = (Route(names, commit=True, **route),)
        keys = {"routes": routes, "destinations": destinations}
        yield opened.enter_context(running(folder / "node", **keys)), others


def instances(node: Node) -> list[str]:
    return [stored.sop_instance_uid for stored in node.archive.index.stored()]


def test_an_object_is_deleted_when_all_destinations_have_committed(tmp_path: Path) -> None:
    with committing(tmp_path, "B", "C", then=Then.DELETE) as (node, others):
        store(node, make_object(1), make_object(2))
        assert eventually(lambda: not instances(node))
        for other in others:
            assert len(instances(other)) == 2
        assert eventually(lambda: {task.kind for task in listed(node.archive.index)} <= {"delete"})


def test_an_object_that_one_destination_does_not_have_is_not_deleted(tmp_path: Path) -> None:
    with committing(tmp_path, "B", then=Then.DELETE) as (node, (other,)):
        dead = Destination(LOCALHOST, 9)
        destinations = {**node.configuration.destinations, "DEAD": dead}
        routes = (*node.configuration.routes, Route(("DEAD",)))
        configuration = dataclasses.replace(
            node.configuration, destinations=destinations, routes=routes
        )
        node.archive.routing.reload(configuration)
        store(node, make_object(1))
        assert eventually(lambda: instances(other))

        def left() -> set[str]:
            (note,) = [t for t in listed(node.archive.index) if t.kind == FORWARDED]
            return set(note.payload["to"])

        assert eventually(lambda: left() == {"DEAD"})
        assert instances(node) == ["1.2.3.1.1"]


def test_what_a_destination_does_not_commit_to_is_sent_again(tmp_path: Path) -> None:
    with committing(tmp_path, "B") as (node, (other,)):
        verify = other.archive.commitment_provider
        assert verify is not None
        times = 0
        peer_store = other.archive.committer.store_all

        def lose_the_first(objects: Any, *respond: Any) -> Any:
            nonlocal times
            times += 1
            return [0] * len(objects) if times == 1 else peer_store(objects, *respond)

        other.archive.committer.store_all = lose_the_first  # type: ignore[method-assign]
        store(node, make_object(1))
        assert eventually(lambda: instances(other) == ["1.2.3.1.1"])
        assert is_empty(node)
    assert times == 2
