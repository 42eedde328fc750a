"""A usual message takes so many Python calls, and no more: calls are most of its time.

`python -m benchmarks.calls --list` counts the same with sockets, and names them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_peer import Acceptor, pdus_of
from pydicom.dataset import Dataset
from simulation import FakeSocket, World

from dicomwire import AE, Association, build_context, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.exchanges import success_of
from raw_peer import CT, EXPLICIT, VERIFICATION, context, message_pdu, request_pdu, store_request

sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.counting import CallCounter
from benchmarks.workload import SMALL

TESTS = Path(__file__).parents[1]
BEFORE, COUNT = 10, 20
"""Messages before the count, which make what later ones use; and those that are counted."""


class Counter(CallCounter):
    """Counts the calls of the library, without those of the test."""

    def start(self) -> None:
        self._other = sys.getprofile()
        sys.setprofile(self.note)

    def stop(self) -> None:
        sys.setprofile(self._other)

    @property
    def of_each(self) -> float:
        """The calls of each message."""
        (calls,) = self.by_thread.values()
        ours = [n for code, n in calls.items() if not code.co_filename.startswith(str(TESTS))]
        return sum(ours) / COUNT


ECHO = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)


def store(path: Path) -> Message:
    """Return the request that stores one of the `objects`."""
    return store_request(path.stem)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of 4 KB, named by their SOP Instance UIDs."""
    return sorted(SMALL.folder(tmp_path_factory.mktemp("objects"), BEFORE + COUNT).iterdir())


def dataset_of(path: Path) -> bytes:
    """Return what follows the file meta information: the elements from SOP Class UID on."""
    data = path.read_bytes()
    return data[data.index(b"\x08\x00\x16\x00UI") :]


def incoming(world: World, requests: list[bytes]) -> float:
    """Return the calls of each request, which comes while a thread waits: from wait to wait."""
    ae = AE()
    for uid in (VERIFICATION, CT):
        ae.add_supported_context(uid)
    handlers: list[Any] = [(evt.EVT_C_STORE, lambda event: 0x0000)]
    server = ae.start_server(("192.0.2.1", 0), block=False, evt_handlers=handlers)
    sock, counter = world.connect(server), Counter()
    arriving = [partial(sock.arrive, request) for request in requests]
    world.later += [*arriving[:BEFORE], counter.start, *arriving[BEFORE:], counter.stop]
    sock.arrive(request_pdu(context(1, VERIFICATION), context(3, CT, EXPLICIT)).encode())
    world.run()
    assert not world.later
    assert len(pdus_of(sock.outgoing)[0]) == 1 + BEFORE + COUNT
    server.shutdown()
    return counter.of_each


def outgoing(
    world: World, send: Callable[[Association, int], Dataset], responses: list[bytes]
) -> float:
    """Return the calls of each request, whose response is there at once."""
    sock, counter = FakeSocket(world), Counter()
    world.next_socket = lambda: sock
    Acceptor(sock)
    contexts = [build_context(VERIFICATION), build_context(CT, EXPLICIT)]
    association = AE().associate("peer", 104, contexts)
    prepared = iter(responses)
    sock.sent = lambda: sock.arrive(next(prepared))
    for number in range(BEFORE + COUNT):
        if number == BEFORE:
            counter.start()
        assert send(association, number).Status == 0x0000
    counter.stop()
    sock.sent = lambda: None
    association.abort()
    return counter.of_each


def test_an_incoming_c_echo(world: World) -> None:
    assert incoming(world, [message_pdu(1, ECHO)] * (BEFORE + COUNT)) <= 35


def test_an_outgoing_c_echo(world: World) -> None:
    responses = [message_pdu(1, success_of(ECHO))] * (BEFORE + COUNT)
    assert outgoing(world, lambda association, _: association.send_c_echo(), responses) <= 40


def test_an_incoming_c_store_with_a_handler(world: World, objects: list[Path]) -> None:
    requests = [message_pdu(3, store(each), dataset_of(each)) for each in objects]
    assert incoming(world, requests) <= 60


def test_an_outgoing_c_store_of_a_file(world: World, objects: list[Path]) -> None:
    responses = [message_pdu(3, success_of(store(each))) for each in objects]

    def send(association: Association, number: int) -> Dataset:
        return association.send_c_store(objects[number])

    assert outgoing(world, send, responses) <= 70
