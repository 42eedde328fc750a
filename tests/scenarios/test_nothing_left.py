"""What an association leaves behind: nothing. And what it takes while nothing happens: no time."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest
from scenario import eventually, make_ct

from dicomwire import evt
from raw_peer import (
    CT,
    VERIFICATION,
    WAIT,
    RawPeer,
    context,
    message_pdu,
    request_pdu,
    store_request,
)

FDS = "/proc/self/fd"

pytestmark = pytest.mark.skipif(not os.path.isdir(FDS), reason="no way to count open files")


def open_files():
    """Return how many file descriptors are open, beside the one that looks."""
    return len(os.listdir(FDS)) - 1


def are_forgotten(references):
    """Return whether nothing refers to them any more, soon: a thread may be on its way out."""

    def are_gone():
        gc.collect()
        return all(each() is None for each in references)

    return eventually(are_gone)


@pytest.fixture(autouse=True)
def _short_rest(monkeypatch):
    monkeypatch.setattr("dicomwire.threaded.threads.IDLE_TIME", 0.05)


@pytest.fixture
def server(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)])
    with face.associate(server) as assoc:  # so that all that stays for good is there
        assoc.send_c_echo()
    assert face.is_quiet(server)
    assert face.leftovers(server) == []
    return server


def released(face, server):
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
        assert assoc.send_c_store(make_ct(5000)).Status == 0


def released_by_the_acceptor(face, server):
    face.associate(server)
    server.active_associations[0].release()


def aborted(face, server):
    assoc = face.associate(server)
    assert assoc.send_c_echo().Status == 0
    assoc.abort()


def aborted_by_the_acceptor(face, server):
    assoc = face.associate(server)
    server.active_associations[0].abort()
    assoc.join(WAIT)


def rejected(face, server):
    server.ae.require_called_aet = True
    assert face.associate(server).is_rejected
    server.ae.require_called_aet = False


def without_contexts(face, server):
    assert face.associate(server, contexts=["1.2.840.10008.5.1.4.1.1.4"]).is_aborted


def half_open(face, server):
    for data in (b"", b"\x01", request_pdu().encode()[:50]):
        with RawPeer.connect(server.server_address[1]) as peer:
            peer.send(data)


def vanished(face, server):
    store = store_request()
    peer = RawPeer.connect(server.server_address[1])
    peer.associate(context(1, CT))
    peer.send(message_pdu(1, store, bytes(5000))[:-7])
    peer.reset()


def noisy(face, server):
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        peer.receive()


def refused(face, server):
    assert face.associate(1).is_aborted


WAYS = [
    *[released, released_by_the_acceptor, aborted, aborted_by_the_acceptor, rejected],
    *[without_contexts, half_open, vanished, noisy, refused],
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_files_threads_and_slots(face, server, way):
    files = open_files()
    for _ in range(10):
        way(face, server)
    assert face.is_quiet(server)
    assert eventually(lambda: not server.ae.active_associations)
    assert face.leftovers(server) == []
    assert eventually(lambda: not server._new_connections._of_address)
    assert server._new_connections._bytes == 0
    assert eventually(lambda: open_files() <= files), os.listdir(FDS)


def test_many_at_once(face, server):
    """Eighty associations on many threads, each ending in its own way."""
    server.ae.maximum_associations = 300
    files = open_files()

    def run(number):
        for each in range(10):
            [released, aborted, half_open, vanished][(number + each) % 4](face, server)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT)
    assert face.is_quiet(server)
    assert eventually(lambda: not server.ae.active_associations)
    assert face.leftovers(server) == []
    assert eventually(lambda: open_files() <= files), os.listdir(FDS)


def test_associations_are_forgotten(face, server):
    references = []
    server.bind(evt.EVT_REQUESTED, lambda event: references.append(weakref.ref(event.assoc)))
    ae = face.ae()
    for _ in range(10):
        with face.associate(server, ae=ae) as assoc:
            assert assoc.send_c_echo().Status == 0
        references.append(weakref.ref(assoc))
        del assoc
    assert face.is_quiet(server)
    assert face.leftovers(server) == []
    assert are_forgotten(references)


def test_a_server_is_forgotten(face, server):
    files = open_files()
    ae = face.ae("SCP", supported=[VERIFICATION])

    def serve_for_a_moment():
        temporary = face.serve(ae=ae)
        with face.associate(temporary) as assoc:
            assert assoc.send_c_echo().Status == 0
        temporary.shutdown()
        assert eventually(lambda: not temporary._connections)
        return weakref.ref(temporary)

    references = [serve_for_a_moment() for _ in range(10)]
    assert are_forgotten(references)
    assert eventually(lambda: open_files() <= files), os.listdir(FDS)


def wake_ups(face):
    """Return how often each thread of the face began to run after it had waited."""
    counts = {}
    for thread in face.threads():
        with open(f"/proc/self/task/{thread.native_id}/status") as status:
            (line,) = [each for each in status if each.startswith("voluntary_ctxt_switches")]
        counts[thread.name] = int(line.split()[1])
    return counts


def test_idle_associations_wake_nobody(face, server):
    server.ae.maximum_associations = 40
    associations = [face.associate(server) for _ in range(30)]
    for assoc in associations:
        assert assoc.send_c_echo().Status == 0
    silent = [RawPeer.connect(server.server_address[1]) for _ in range(30)]
    assert eventually(lambda: server._connections == 60)
    assert face.leftovers(server, silent=30) == []

    def sleeps_for_a_second():
        before = wake_ups(face)
        threading.Event().wait(1)
        return wake_ups(face) == before

    assert eventually(sleeps_for_a_second)  # once what came before is over
    assert len(face.threads()) == 1
    for peer in silent:
        peer.close()
    for assoc in associations:
        assert assoc.send_c_echo().Status == 0  # and all of them are awake at once


def test_nobody_attends_an_idle_association(face, server):
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
        face.leftovers(server)
        assert len(face.threads()) == 1
        assert assoc.send_c_echo().Status == 0
