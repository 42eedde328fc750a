"""Connections that ask for nothing, or take their time, or are far too many."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostile import (
    ASSOCIATE_RQ,
    HOST,
    PATIENT,
    QUICK,
    RELEASE_RQ,
    SOON,
    Attacker,
    TLSArguments,
    Victim,
    besieged,
    eventually,
    pdu,
    requestor,
)
from scenario import Face, in_background

from certificates import Certificates
from dicomwire import AE, evt
from dicomwire.sop_class import Verification
from dicomwire.threaded import server as server_module
from dicomwire.threaded.watcher import Watched, watcher
from dicomwire.tls import server_context
from forked_programs import Forker

pytestmark = pytest.mark.usefixtures("face")

ARTIM = 3
LATEST = 3 * ARTIM
"""Seconds after which all are gone even on a busy machine. Dripping goes on for ever."""
MANY = int(os.environ.get("TEST_CONNECTIONS", "500"))


class Remote:
    """A server in a process of its own, and what it costs."""

    def __init__(
        self, forker: Forker, log: Path, face: str, files: int = 0, **settings: object
    ) -> None:
        self._log = log
        program = Path(__file__).with_name("besieged_server.py")
        with log.open("wb") as stderr:
            self._process = forker.start(
                program, face, files, repr(settings), stdin=True, stderr=stderr
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("\n", timeout=20)
        assert self._process.returncode == 0
        assert "Traceback" not in self.log

    def command(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, self.log
        return answer

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    @property
    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/task"))

    @property
    def cpu(self) -> float:
        """Seconds of processor time used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def serve(tmp_path: Path, face: Face, forker: Forker) -> Iterator[Callable[..., Remote]]:
    log = tmp_path / "server.log"
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Remote(forker, log, face.name, **options))


@pytest.fixture
def many_files() -> Iterator[int]:
    """Let this process open as many files as the system allows; how many is the value."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def echo_time(port: int) -> float:
    """How long a client takes that associates, echoes and releases."""
    began = time.monotonic()
    ae = AE(settings=PATIENT)
    ae.add_requested_context(Verification)
    with ae.associate(HOST, port) as assoc:
        assert assoc.is_established, assoc.failure
        assert assoc.send_c_echo().Status == 0
    return time.monotonic() - began


class Crowd:
    """Connections that are silent, or send a little now and then, until the server drops them."""

    def __init__(self, port: int, count: int) -> None:
        self.lifetimes: list[float] = []
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        for number in range(count):
            sock = socket.create_connection((HOST, port), timeout=10)
            if number % 3:
                sock.send(ASSOCIATE_RQ[:1])
            self._open[sock.fileno()] = sock, time.monotonic()
            self._poll.register(sock, select.EPOLLIN)
            if number % 100 == 0:
                self.watch(0)

    def __len__(self) -> int:
        return len(self._open)

    def drip(self) -> None:
        """Send one more byte on one of three of them."""
        for sock, _ in list(self._open.values())[::3]:
            with contextlib.suppress(OSError):
                sock.send(b"\0")

    def watch(self, seconds: float) -> None:
        """Note which are dropped within the next `seconds`."""
        for number, _ in self._poll.poll(seconds):
            sock, since = self._open.pop(number)
            self.lifetimes.append(time.monotonic() - since)
            self._poll.unregister(number)
            sock.close()

    def close(self) -> None:
        for sock, _ in self._open.values():
            sock.close()
        self._poll.close()


@contextlib.contextmanager
def flooded(port: int) -> Iterator[None]:
    """Ask for up to a thousand associations a second from another address, and keep them all."""
    over = threading.Event()

    def flood() -> None:
        asking: deque[socket.socket] = deque()
        while not over.wait(0.001):  # not made up for later, so that a busy machine has no more
            sock = socket.socket()
            asking.append(sock)
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.2", 0))
                sock.connect_ex((HOST, port))
            with contextlib.suppress(OSError):
                asking[-min(len(asking), 20)].send(ASSOCIATE_RQ)  # which is connected by now
            if len(asking) > 500:
                asking.popleft().close()
        for sock in asking:
            sock.close()

    with in_background(flood) as flooding:
        try:
            yield
        finally:
            over.set()
        flooding.result()


def test_a_thousand_requests_a_second_from_one_address_keep_no_other_out(
    serve: Callable[..., Remote],
) -> None:
    remote = serve()
    with flooded(remote.port):
        assert eventually(lambda: "for one address" in remote.log)
        for _ in range(5):
            echo_time(remote.port)


def test_many_connections_that_are_silent_or_drip(
    serve: Callable[..., Remote],
    many_files: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They cost a socket each until ARTIM, which no dripping puts off, and keep nobody out."""
    count = min(MANY, many_files - 500)
    if count < MANY:
        with capsys.disabled():
            print(  # noqa: T201
                f"\n{count} connections instead of {MANY}: no more files may be opened"
            )
    remote = serve(acse_timeout=ARTIM)
    echo_time(remote.port)
    files, threads, memory = remote.files, remote.threads, remote.memory
    blocks = []
    for _ in range(2):  # the second time shows what is lost, and not only kept for reuse
        crowd = Crowd(remote.port, count)
        times = []
        highest = remote.memory
        assert remote.threads <= threads + 4
        deadline = time.monotonic() + LATEST
        drip_at = 0.0
        while len(crowd) and time.monotonic() < deadline:
            times.append(echo_time(remote.port))
            highest = max(highest, remote.memory)
            if time.monotonic() > drip_at:
                crowd.drip()
                drip_at = time.monotonic() + 1
            crowd.watch(0.05)
        left = len(crowd)
        crowd.close()
        assert not left, f"{left} connections are open {LATEST} s after the last was made"
        assert len(crowd.lifetimes) == count
        assert max(crowd.lifetimes) < LATEST
        # Good clients do not wait for the end of the others, however busy the machine is.
        assert max(times) < ARTIM or len(times) > 3, times
        assert eventually(lambda: remote.files <= files)
        assert highest - memory < (20 << 20) + 8192 * count
        blocks.append(int(remote.command("blocks")))
        with capsys.disabled():
            print(  # noqa: T201
                f"\n{count} connections: lived up to {max(crowd.lifetimes):.2f} s; "
                f"{(highest - memory) >> 20} MiB at most, "
                f"{(remote.memory - memory) >> 20} MiB and {blocks[-1]} blocks after; "
                f"{len(times)} echoes meanwhile, {max(times):.3f} s at most"
            )
    # Resident memory is the allocator's affair; a leak is something for each connection.
    assert blocks[1] - blocks[0] < count // 2
    assert remote.threads <= threads + 1
    assert remote.log.count("is closed: ") == 2 * count
    # At the most there is room for as many as there are, so that a good client takes one's place.
    assert remote.log.count("no association request") >= 2 * count - len(times)


def test_many_connections_that_come_and_go(serve: Callable[..., Remote]) -> None:
    """Nothing is left of what was never said, not even until its deadline would have been."""
    remote = serve(acse_timeout=60, tls_timeout=60)
    half = pdu(1, ASSOCIATE_RQ[6:] + bytes(100_000), 200_000)

    def attack(count: int) -> None:
        """Make so many connections, a hundred at a time, and wait until each hundred is closed."""
        for _ in range(count // 100):
            closed = remote.log.count("is closed") + 100
            for number in range(100):
                with Attacker(remote.port) as attacker:
                    if number % 4:
                        attacker.send(half if number % 4 == 1 else ASSOCIATE_RQ[: number % 90])
                    if number % 2:
                        attacker.reset()
            assert eventually(lambda closed=closed: remote.log.count("is closed") == closed)

    attack(200)
    files, memory = remote.files, remote.memory
    attack(400)
    assert echo_time(remote.port) < SOON
    assert eventually(lambda: remote.files <= files)
    # A hundred connections hold 2.5 MB at the same time; 10 MB went by.
    assert remote.memory - memory < 5 << 20


@pytest.mark.parametrize("kind", [0, 1, 4, 7])
def test_many_connections_that_begin_a_pdu_and_do_not_end_it(kind: int) -> None:
    """Nobody waits for the rest of it but the watcher."""
    before = threading.active_count()
    with (
        besieged() as victim,
        victim.attacked(lines=70),
        contextlib.ExitStack() as stack,
    ):
        for _ in range(70):
            stack.enter_context(victim.attacker()).send(pdu(kind, b"", 60_000))
        for _ in range(3):
            victim.good_client()
        assert threading.active_count() <= before + server_module.MOST_NEGOTIATING + 5


# --- Room for how many --------------------------------------------------------------------------


def test_when_there_is_no_room_the_connection_longest_there_goes() -> None:
    with (
        besieged(settings=replace(PATIENT, maximum_connections=20)) as victim,
        victim.attacked(lines=50),
        contextlib.ExitStack() as stack,
    ):
        assert eventually(lambda: not victim.server._connections)  # the good client's is gone
        silent = [stack.enter_context(victim.attacker()) for _ in range(50)]
        assert silent[0].rest() == silent[29].rest() == b""
        victim.good_client()
        assert silent[30].rest() == b""
        assert not select.select([each.socket for each in silent[31:]], [], [], 0)[0]


def test_when_all_room_is_taken_by_associations_others_are_refused() -> None:
    with (
        besieged(settings=replace(PATIENT, maximum_connections=3)) as victim,
        victim.attacked(),
        contextlib.ExitStack() as stack,
    ):
        taken = [stack.enter_context(victim.attacker()).associate() for _ in range(3)]
        with victim.attacker() as attacker:
            assert attacker.rest() == b""
        for each in taken:
            each.send(pdu(5, bytes(4)))
            assert each.rest() == pdu(6, bytes(4))


def test_the_connections_of_one_address_are_bounded() -> None:
    def attacker(victim: Victim, source: str) -> Attacker:
        made = Attacker.__new__(Attacker)
        made.socket = socket.create_connection((HOST, victim.port), 10, (source, 0))
        return made

    with (
        besieged(settings=replace(PATIENT, connections_per_address=5)) as victim,
        victim.attacked(lines=20),
        contextlib.ExitStack() as stack,
    ):
        quiet = stack.enter_context(attacker(victim, "127.0.0.3"))
        flood = [stack.enter_context(attacker(victim, "127.0.0.2")) for _ in range(19)]
        assert flood[0].rest() == flood[13].rest() == b""
        assert not select.select([quiet.socket, *(f.socket for f in flood[14:])], [], [], 0)[0]
        victim.good_client()
        assert not select.select([quiet.socket], [], [], 0)[0]


def test_the_memory_of_incomplete_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest of them pays for it, not the next one to come."""
    monkeypatch.setattr("dicomwire.session.admission.PENDING_BYTES", 4 << 20)
    part = pdu(1, ASSOCIATE_RQ[6:] + bytes(900_000), 1_000_000)
    with (
        besieged() as victim,
        victim.attacked(lines=20, peak=6 << 20),
        contextlib.ExitStack() as stack,
    ):
        attackers = [stack.enter_context(victim.attacker()) for _ in range(20)]
        for each in attackers:
            each.send(part)
            victim.good_client()
        assert eventually(lambda: len(victim.told()) >= 15)  # the last of it may not be read yet
        assert "too much memory" in victim.told()[0]


# --- File descriptors ---------------------------------------------------------------------------


def test_connections_do_not_take_the_last_file_descriptors(serve: Callable[..., Remote]) -> None:
    remote = serve(files=256, acse_timeout=30)
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(Attacker(remote.port))
        assert echo_time(remote.port) < SOON
        assert remote.files <= 256 - 100
    assert "No file descriptors" not in remote.log


def test_a_server_without_file_descriptors_waits_for_some(serve: Callable[..., Remote]) -> None:
    remote = serve(files=256, acse_timeout=30)
    remote.command("hog")
    before = remote.cpu
    with Attacker(remote.port) as unlucky:
        assert eventually(lambda: remote.log.count("No file descriptors") >= 2)
        assert remote.cpu - before < 0.3
        remote.command("free")
        assert unlucky.associate().send(RELEASE_RQ).rest() == pdu(6, bytes(4))


def test_a_silent_connection_gives_its_file_descriptor_to_another(
    serve: Callable[..., Remote],
) -> None:
    remote = serve(files=256, acse_timeout=30)
    files = remote.files
    with Attacker(remote.port) as silent:
        assert eventually(lambda: remote.files > files)
        remote.command("hog")
        assert echo_time(remote.port) < 2
        assert silent.rest() == b""
    assert remote.log.count("to make room for others") == 1


# --- Threads ------------------------------------------------------------------------------------


@pytest.mark.threaded_only("it breaks what is its own")
def test_a_server_that_gets_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those there are do all the work, one thing after the other."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with besieged() as victim, victim.attacked(lines=0):
        monkeypatch.setattr(threading.Thread, "start", start)
        for _ in range(3):
            victim.good_client()
        monkeypatch.undo()


@pytest.mark.threaded_only("it breaks what is its own")
@pytest.mark.parametrize("method", ["NewConnection._is_complete", "AssociationServer.accept"])
def test_an_error_of_our_own_does_not_end_the_server(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The connection may be lost by it, but neither its socket nor the listening one."""

    def fail(*_: object) -> None:
        raise ArithmeticError

    with besieged() as victim, victim.attacked(lines=None):
        monkeypatch.setattr(f"dicomwire.threaded.server.{method}", fail)
        with victim.attacker() as attacker:
            attacker.send(ASSOCIATE_RQ)
            assert eventually(lambda: any(entry.has_traceback for entry in victim.log.entries))
            monkeypatch.undo()
            assert attacker.receive(1) in (b"", b"\2")
        victim.log.entries.clear()


# --- The moment of accepting --------------------------------------------------------------------


@contextlib.contextmanager
def watcher_busy() -> Iterator[None]:
    """Keep the watcher's thread, so that what connects meanwhile is found all at once."""

    class Blocker(Watched):
        def __init__(self) -> None:
            self.sockets = socket.socketpair()
            self.reached, self.go_on = threading.Event(), threading.Event()

        def fileno(self) -> int:
            return self.sockets[0].fileno()

        def on_ready(self) -> None:
            self.reached.set()
            self.go_on.wait(10)
            watcher().remove(self)

        def on_deadline(self) -> None:
            raise AssertionError

        on_gone = on_deadline

    blocker = Blocker()
    watcher().add(blocker, None)
    blocker.sockets[1].send(b"x")
    assert blocker.reached.wait(10)
    try:
        yield
    finally:
        blocker.go_on.set()
        eventually(lambda: not blocker._is_watched)
        for sock in blocker.sockets:
            sock.close()


@pytest.mark.threaded_only("it holds the watcher up")
def test_a_crowd_that_is_accepted_at_once() -> None:
    with besieged() as victim, victim.attacked(lines=600), contextlib.ExitStack() as stack:
        with watcher_busy():
            for _ in range(600):
                stack.enter_context(victim.attacker())
        victim.good_client()


@pytest.mark.threaded_only("it holds the watcher up")
def test_the_lobby_does_not_wait_for_itself() -> None:
    """However often its own thread has to tell it of a deadline or a call."""
    told = threading.Semaphore(0)

    class Caller(Watched):
        sockets = socket.socketpair()

        def fileno(self) -> int:
            return self.sockets[0].fileno()

        def on_ready(self) -> None:
            watcher().remove(self)
            for _ in range(1000):
                watcher().call(told.release)

        def on_deadline(self) -> None:
            raise AssertionError

        on_gone = on_deadline

    watcher().add(Caller(), None)
    Caller.sockets[1].send(b"x")
    for _ in range(1000):
        assert told.acquire(timeout=5)
    for sock in Caller.sockets:
        sock.close()


ENDS = re.compile("A connection from .* is closed|Association Aborted|Rejecting Association")
"""The line of the log that each connection without an established association has at last."""


@pytest.mark.threaded_only("it holds the watcher up")
@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01", ASSOCIATE_RQ], ids=["", "tls", "request"])
@pytest.mark.parametrize("kind", ["plain", "tls", "announced"])
def test_a_connection_that_is_reset_before_it_is_accepted(
    certificate: ssl.SSLContext, kind: str, data: bytes
) -> None:
    handlers = [(evt.EVT_CONN_OPEN, lambda event: None)] if kind == "announced" else []
    tls = {"ssl_context": certificate, "tls_args": trusting()} if kind == "tls" else {}
    with besieged(handlers, **tls) as victim, victim.attacked(lines=None):
        with watcher_busy():
            for _ in range(20):
                with victim.attacker() as attacker:
                    attacker.send(data).reset()
        # The system keeps what was sent before a reset: a request has a slot until its answer
        # cannot be sent, and there are few slots for one address.
        assert eventually(
            lambda: sum(ENDS.match(e.text) is not None for e in victim.log.entries) >= 20
        )


def test_a_handler_of_new_connections_does_not_take_a_thread_for_each() -> None:
    before = threading.active_count()
    threads = []

    def count(event: evt.Event) -> None:
        threads.append(threading.active_count())

    handlers = [(evt.EVT_CONN_OPEN, count), (evt.EVT_CONN_CLOSE, count)]
    with besieged(handlers) as victim:
        with victim.attacked(lines=500, peak=8 << 20), contextlib.ExitStack() as stack:
            for _ in range(500):
                stack.enter_context(victim.attacker())
            assert eventually(lambda: len(threads) == 502)
        assert eventually(lambda: len(threads) == 1004)
        assert max(threads) <= before + server_module.MOST_NEGOTIATING + 5


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(certificates: Certificates) -> ssl.SSLContext:
    """A server's TLS context."""
    return server_context(*certificates.server)


def trusting() -> TLSArguments:
    """What a client needs for whom any certificate will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context, None


@pytest.fixture
def tls_victim(certificate: ssl.SSLContext) -> Iterator[Victim]:
    with besieged(ssl_context=certificate, tls_args=trusting()) as victim:
        yield victim


@pytest.fixture
def quick_tls_victim(certificate: ssl.SSLContext) -> Iterator[Victim]:
    with besieged(settings=QUICK, ssl_context=certificate, tls_args=trusting()) as victim:
        yield victim


def test_silent_tls_clients_do_not_delay_others(quick_tls_victim: Victim) -> None:
    with quick_tls_victim.attacked(lines=60), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(quick_tls_victim.attacker()) for _ in range(60)]
        for number, each in enumerate(silent):
            each.send(b"\x16\x03\x01\x02\x00"[: number % 6])
        began = time.monotonic()
        for _ in range(5):
            quick_tls_victim.good_client()
        while time.monotonic() - began < QUICK.tls_timeout / 2:  # it is absolute
            for each in silent[1::6]:
                each.send(b"\x16\x03\x01\x02\x00"[:1])
            select.select([], [], [], 0.1)
        for each in silent:
            each.rest()
        assert time.monotonic() - began < QUICK.tls_timeout + SOON


def test_a_silent_client_after_the_handshake(quick_tls_victim: Victim) -> None:
    with quick_tls_victim.attacked(), quick_tls_victim.attacker() as attacker:
        attacker.socket = trusting()[0].wrap_socket(attacker.socket)
        began = time.monotonic()
        attacker.send(ASSOCIATE_RQ[:20])
        with contextlib.suppress(ssl.SSLError):
            attacker.rest()
        assert time.monotonic() - began < QUICK.acse_timeout + SOON


TLS_NOISE = {
    "dicom": ASSOCIATE_RQ,
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "record of 64 KiB": b"\x16\x03\x01\xff\xff" + bytes(70000),
    "alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "hello cut short": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "application data": b"\x17\x03\x03\x00\x10" + bytes(16),
}


@pytest.mark.parametrize("data", TLS_NOISE.values(), ids=TLS_NOISE.keys())
def test_what_is_no_tls(tls_victim: Victim, data: bytes) -> None:
    with tls_victim.attacked(), tls_victim.attacker() as attacker:
        attacker.send(data).rest()
    assert not tls_victim.told()


def test_a_client_that_vanishes_in_the_handshake(tls_victim: Victim) -> None:
    hello = ssl.MemoryBIO()
    client = trusting()[0].wrap_bio(ssl.MemoryBIO(), hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    data = hello.read()
    for end in (0, 1, 5, 6, 100, len(data)):
        with tls_victim.attacked(), tls_victim.attacker() as attacker:
            attacker.send(data[:end])
            attacker.reset() if end % 2 else attacker.socket.close()


def test_a_requestor_gives_a_silent_tls_server_up() -> None:
    with socket.create_server((HOST, 0)) as silent:
        began = time.monotonic()
        settings = replace(QUICK, tls_timeout=0.3)
        assoc = requestor(silent.getsockname()[1], settings, tls_args=trusting())
        assert time.monotonic() - began < SOON
    assert assoc.is_aborted
    assert assoc.failure is not None
    assert assoc.failure.stage == "tls"
