"""Servers: how they are made, where they listen, how many they serve, and how they end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from scenario import ABORTED, ESTABLISHED, REJECTED, RELEASED, Recorder, eventually, make_ct, state

from dicomwire import AE, build_context, evt
from dicomwire.threaded import threads
from dicomwire.threaded.server import AssociationServer
from raw_peer import CT, VERIFICATION, WAIT, RawPeer


@pytest.mark.threaded_only("make_server is its alone")
def test_a_server_of_ones_own_class(face):
    class Server(AssociationServer):
        def __init__(self, *args, colour, **kwargs):
            super().__init__(*args, **kwargs)
            self.colour = colour

    ae = face.ae("SCP", supported=[VERIFICATION])
    with ae.make_server(("127.0.0.1", 0), server_class=Server, colour="green") as server:
        assert isinstance(server, Server)
        assert server.colour == "green"
        assert server.ae is ae
        with face.associate(server) as assoc:
            assert assoc.send_c_echo().Status == 0
    with pytest.raises(TypeError, match="colour"):
        ae.make_server(("127.0.0.1", 0), colour="green")


@pytest.mark.threaded_only("make_server is its alone")
def test_make_server_takes_connections(face):
    ae = face.ae("SCP", supported=[VERIFICATION])
    server = ae.make_server(("127.0.0.1", 0), ae_title="OTHER", contexts=[build_context(CT)])
    assert type(server) is AssociationServer
    with face.associate(server, contexts=[CT, VERIFICATION]) as assoc:
        assert [each.abstract_syntax for each in assoc.accepted_contexts] == [CT]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.shutdown()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_a_title_of_its_own(face):
    ae = face.ae("SCP", supported=[VERIFICATION])
    ae.require_called_aet = True
    server = ae.start_server(("127.0.0.1", 0), block=False, ae_title="SECOND")
    assert state(face.associate(server, ae_title="SCP")) == REJECTED
    assert state(face.associate(server, ae_title="SECOND")) == ESTABLISHED


def test_contexts_of_its_own(face):
    ae = face.ae("SCP")
    server = ae.start_server(("127.0.0.1", 0), block=False, contexts=[build_context(CT)])
    assert not ae.supported_contexts
    with face.associate(server) as assoc:
        assert [each.abstract_syntax for each in assoc.accepted_contexts] == [CT]


def test_a_free_port(face):
    one, two = face.serve(address=("127.0.0.1", 0)), face.serve(address=("", 0))
    assert one.server_address[0] == "127.0.0.1"
    assert one.server_address[1] > 0
    assert two.server_address[0] == "0.0.0.0"
    assert one.server_address[1] != two.server_address[1]
    assert one.socket.getsockname() == one.server_address
    for server in (one, two):
        assert state(face.associate(server)) == ESTABLISHED


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("::1", 0, 0, 0)], ids=["IPv4", "IPv6"])
def test_the_address_of_a_server_has_names_for_its_parts(face, address):
    server = face.serve(address=address)
    info = server.address_info
    assert (info.address, info.port) == server.server_address[:2]
    assert info.as_tuple == server.server_address
    assert (info.is_ipv4, info.is_ipv6) == (len(address) == 2, len(address) == 4)


def test_an_address_that_is_taken(face):
    server = face.serve()
    with pytest.raises(OSError, match="in use"):
        face.serve(address=server.server_address)
    with pytest.raises(OSError, match=r"resolution|known|assign"):
        face.serve(address=("host.invalid", 0))


def test_an_address_is_free_after_shutdown(face):
    server = face.serve()
    address = server.server_address
    assoc = face.associate(server)
    server.ae.shutdown()
    again = face.serve(address=address)
    assert again.server_address == address
    assert state(face.associate(again)) == ESTABLISHED
    assoc.join(WAIT)
    assert state(assoc) == ABORTED


def test_ipv6(face):
    log = Recorder(evt.EVT_CONN_OPEN)
    for address in (("::1", 0, 0, 0), ("::1", 0)):
        try:
            server = face.serve(log.handlers, address=address)
        except OSError:
            pytest.skip("no IPv6 here")
        for host in ("::1", ("::1", 0, 0)):
            with face.associate(server, log.handlers, host=host) as assoc:
                assert assoc.send_c_echo().Status == 0
                assert assoc.acceptor.address == "::1"
                assert assoc.acceptor.address_info.is_ipv6
                assert assoc.acceptor.port == server.server_address[1]
    assert all(each.address[0] == "::1" and len(each.address) == 4 for each in log.events)


def test_a_name_for_an_address(face):
    with face.associate(face.serve(), host="localhost") as assoc:
        assert assoc.send_c_echo().Status == 0
        assert assoc.acceptor.address == "127.0.0.1"


def test_the_program_closes_the_listening_socket_itself(face):
    server = face.serve()
    with face.associate(server) as assoc:
        server.socket.close()
        for _ in range(3):
            with face.associate(face.serve()) as other:
                assert other.send_c_echo().Status == 0
        assert state(face.associate(server)) == ABORTED
        assert assoc.send_c_echo().Status == 0
    server.shutdown()


@pytest.mark.threaded_only("the event loop's descriptors are not ours to watch")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are listed on Linux")
def test_whichever_descriptor_a_program_closes_others_are_served(face):
    program = Path(__file__).with_name("closed_descriptors.py")
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300)
    lines = ran.stdout.splitlines()
    assert {line.partition(" ")[0] for line in lines} == {"listener", "selector", "connection"}
    assert [line for line in lines if not line.endswith("[0, 0, 0]")] == []
    assert "Traceback" not in ran.stderr


# --- Blocking ---


def blocking_server(ae, address=("127.0.0.1", 0)):
    """Start a server that blocks, in a thread, and return both."""
    servers = []
    started = threading.Event()
    make_server = ae.make_server

    def watch(*args, **kwargs):
        servers.append(make_server(*args, **kwargs))
        started.set()
        return servers[0]

    ae.make_server = watch
    thread = threading.Thread(target=ae.start_server, args=(address,), kwargs={"block": True})
    thread.start()
    assert started.wait(WAIT)
    return thread, servers[0]


@pytest.mark.threaded_only("servers that block are its alone")
def test_a_blocking_server_is_shut_down_by_another_thread(face):
    ae = face.ae("SCP", supported=[VERIFICATION])
    thread, server = blocking_server(ae)
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
        server.shutdown()
        thread.join(WAIT)
        assert not thread.is_alive()
        assert assoc.send_c_echo().Status == 0
    thread, server = blocking_server(face.ae("SCP", supported=[VERIFICATION]))
    server.ae.shutdown()
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.threaded_only("servers that block are its alone")
def test_a_blocking_server_is_shut_down_by_a_handler(face):
    ae = face.ae("SCP", supported=[VERIFICATION])
    thread, server = blocking_server(ae)

    def stop(event):
        server.shutdown()
        return 0

    server.bind(evt.EVT_C_ECHO, stop)
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.threaded_only("servers that block are its alone")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals for a thread")
def test_a_blocking_server_ends_with_an_interrupt(face):
    """KeyboardInterrupt in the thread that blocks ends the server, and is not passed on."""
    ae = face.ae("SCP", supported=[VERIFICATION])

    def interrupt(event):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return 0

    ports = []

    class Server(AssociationServer):
        def serve_forever(self):
            ports.append(self.server_address[1])
            client.start()
            super().serve_forever()

    def use():
        with face.associate(ports[0]) as assoc:
            assoc.send_c_echo()

    client = threading.Thread(target=use)
    ae.make_server = partial(ae.make_server, server_class=Server)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        returned = ae.start_server(
            ("127.0.0.1", 0), block=True, evt_handlers=[(evt.EVT_C_ECHO, interrupt)]
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert returned is None
    client.join(WAIT)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", ports[0])):
        pass


@pytest.mark.threaded_only("an event loop needs no threads")
def test_who_asks_while_the_system_has_no_thread_is_answered_when_it_has(face, monkeypatch, caplog):
    server = face.serve()
    monkeypatch.setattr(threads, "_pool", threads.ThreadPool())
    start, failures = threading.Thread.start, iter(range(2))

    def start_or_fail(thread):
        if thread.name.startswith("dicomwire-pool") and next(failures, None) is not None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
    assert caplog.text.count("No thread can be started") == 2


# --- How many ---


def test_slots_are_used_again(face):
    server = face.serve(maximum_associations=2)
    for _ in range(10):
        one, two = face.associate(server), face.associate(server)
        assert state(one) == state(two) == ESTABLISHED
        assert state(face.associate(server)) == REJECTED
        one.release()
        two.release()
    assert not server.active_associations


@pytest.mark.parametrize("same", ["address", "title"])
def test_nobody_alone_keeps_others_out(face, caplog, same):
    """One address, or one AE title, has three quarters of the slots at most."""
    server = face.serve(maximum_associations=4)

    def associate(number):
        address = "127.0.0.2" if same == "address" else f"127.0.0.{number + 3}"
        title = "SCU" if same == "title" else f"SCU{number}"
        return face.associate(server, ae=face.ae(title), bind_address=(address, 0))

    assert [state(associate(number)) for number in range(3)] == [ESTABLISHED] * 3
    refused = associate(3)
    assert state(refused) == REJECTED
    failure = refused.failure
    assert (failure.result, failure.source, failure.diagnostic) == (2, 3, 2)
    assert "has 3 of the 3 for one" in caplog.text
    other = face.associate(server, ae=face.ae("OTHER"))
    assert other.send_c_echo().Status == 0
    other.release()


def test_shares_that_were_set(face):
    server = face.serve(
        maximum_associations=4, associations_per_address=4, associations_per_title=1
    )
    associations = [face.associate(server, ae=face.ae(f"SCU{number}")) for number in range(4)]
    assert [state(assoc) for assoc in associations] == [ESTABLISHED] * 4
    associations[0].release()
    assert state(face.associate(server, ae=face.ae("SCU1"))) == REJECTED


def test_connections_that_ask_for_nothing_take_no_slot(face):
    server = face.serve(maximum_associations=1)
    silent = [RawPeer.connect(server.server_address[1]) for _ in range(20)]
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
    for each in silent:
        each.close()
    assert face.is_quiet(server)


def test_requestors_take_no_slot(face):
    """The limit counts what the AE accepts, not what it asks for itself."""
    ae = face.ae("BOTH", supported=[VERIFICATION], maximum_associations=1)
    server, other = face.serve(ae=ae), face.serve()
    with (
        face.associate(other, ae=ae),
        face.associate(other, ae=ae),
        face.associate(server) as assoc,
    ):
        assert assoc.send_c_echo().Status == 0
        assert len(ae.active_associations) == 3
        assert len(server.active_associations) == 1


def test_a_hundred_associations_at_once(face):
    count = 100
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], maximum_associations=2 * count)
    ae = face.ae()
    outcomes = []
    everybody = threading.Barrier(count)

    def use():
        with face.associate(server, ae=ae) as assoc:
            everybody.wait(3 * WAIT)
            assert len(server.active_associations) == count
            everybody.wait(3 * WAIT)
            outcomes.append(assoc.send_c_echo().Status)
            outcomes.append(assoc.send_c_store(make_ct(10_000)).Status)

    threads = [threading.Thread(target=use) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT)
    assert outcomes == [0] * (2 * count)
    assert not ae.active_associations
    assert not server.active_associations


def test_an_ae_without_a_server_shuts_down(face):
    ae = AE()
    ae.shutdown()
    ae.shutdown()


def test_an_ae_that_is_shut_down_serves_again(face):
    ae = face.ae("SCP", supported=[VERIFICATION])
    for _ in range(3):
        server = face.serve(ae=ae)
        with face.associate(server) as assoc:
            assert assoc.send_c_echo().Status == 0
        assert state(assoc) == RELEASED
        ae.shutdown()


def test_shutting_down_while_handlers_run(face):
    inside, go_on = threading.Semaphore(0), threading.Event()

    def handle(event):
        inside.release()
        assert go_on.wait(WAIT)
        return 0

    server = face.serve([(evt.EVT_C_ECHO, handle)], close_timeout=0.1)
    associations = [face.associate(server) for _ in range(5)]
    threads = [threading.Thread(target=each.send_c_echo) for each in associations]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=WAIT)
    server.ae.shutdown()
    for thread in threads:
        thread.join(WAIT)  # the peers know at once
    assert [state(each) for each in associations] == [ABORTED] * 5
    go_on.set()
    assert eventually(lambda: not server.ae.active_associations)


def test_shutting_down_in_a_handler(face):
    def handle(event):
        event.assoc.ae.shutdown()
        return 0

    server = face.serve([(evt.EVT_C_ECHO, handle)])
    assoc = face.associate(server)
    assert "Status" not in assoc.send_c_echo()
    assert state(assoc) == ABORTED
    assert eventually(lambda: not server.ae.active_associations)
