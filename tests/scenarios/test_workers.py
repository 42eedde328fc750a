"""Worker processes: who serves, what dies with them and what does not, and how all of them end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydicom import dcmread
from scenario import (
    ABORTED,
    ESTABLISHED,
    REJECTED,
    eventually,
    in_background,
    make_ct,
    state,
)

from dicomwire import AE, Settings
from dicomwire.errors import LocalProtocolError
from dicomwire.workers.server import SupervisedServer
from dicomwire.workers.worker_end import Worker
from forked_programs import Forker
from free_ports import free_port
from raw_peer import VERIFICATION, WAIT

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="processes need Linux"),
    pytest.mark.threaded_only("the clients are; the servers are programs of their own"),
]

PROGRAM = Path(__file__).with_name("working_server.py")


class Look(NamedTuple):
    workers: list[Worker]
    restarts: int


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Program:
    """A program whose server has workers."""

    def __init__(self, forker: Forker, log: Path, **options: Any) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = forker.start(PROGRAM, repr(options), stdin=True, stderr=stderr)
        self.port, self.beside, self.supervisor = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def command(self, words: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        return self._answer()

    def look(self) -> Look:
        workers, restarts = self.command("look")
        return Look([Worker(*each) for each in workers], restarts)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.look().workers]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, pattern: str, count: int = 1) -> bool:
        return eventually(lambda: len(re.findall(pattern, self.log)) >= count)

    def all_serve(self, workers: int = 2) -> bool:
        return self.says(r"Worker \d+ serves", workers)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.communicate("\n", timeout=WAIT)
            assert self.process.returncode == 0, self.log
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert "internal error" not in self.log
        assert "Traceback" not in self.log


@pytest.fixture(params=["threaded", "asyncio"])
def server_face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Drained or shut down, a server of the threaded face lets associations go on, an asyncio one ends
# them when they are at nothing.
of_the_threaded_face = pytest.mark.parametrize("server_face", ["threaded"])
of_the_asyncio_face = pytest.mark.parametrize("server_face", ["asyncio"])


@pytest.fixture
def start(tmp_path: Path, server_face: str, forker: Forker) -> Iterator[Any]:
    programs: list[Program] = []

    def start(**options: Any) -> Program:
        options["face"] = server_face
        programs.append(Program(forker, tmp_path / f"log-{len(programs)}", **options))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# --- Sharing ---


def test_associations_are_spread(start, face):
    program = start()
    assert program.all_serve()
    associations = [face.associate(program.port) for _ in range(50)]
    assert {state(assoc) for assoc in associations} == {ESTABLISHED}
    workers = program.look().workers
    assert [worker.associations for worker in workers] == [25, 25]
    assert [worker.connections for worker in workers] == [25, 25]
    for assoc in associations:
        assert assoc.send_c_echo().Status == 0
        assoc.release()
    assert eventually(lambda: not any(each.connections for each in program.look().workers))


def test_associations_that_come_at_once_are_spread(start, face):
    program = start()
    assert program.all_serve()
    with ThreadPoolExecutor(50) as pool:
        associations = list(pool.map(face.associate, [program.port] * 50))
    assert {state(assoc) for assoc in associations} == {ESTABLISHED}
    assert [worker.associations for worker in program.look().workers] == [25, 25]


def test_a_connection_that_says_nothing_counts_for_its_worker(start, face):
    program = start()
    assert program.all_serve()
    silent = [socket.create_connection(("127.0.0.1", program.port)) for _ in range(10)]
    assert eventually(lambda: [each.connections for each in program.look().workers] == [5, 5])
    for each in silent:
        each.close()
    assert eventually(lambda: [each.connections for each in program.look().workers] == [0, 0])


def test_the_maximum_is_for_all_workers_together(start, face):
    program = start(settings={"maximum_associations": 3})
    for _ in range(5):
        associations = [face.associate(program.port) for _ in range(3)]
        assert {state(assoc) for assoc in associations} == {ESTABLISHED}
        assert state(face.associate(program.port)) == REJECTED
        for assoc in associations:
            assoc.release()


def test_nobody_alone_keeps_others_out_of_all_workers(start, face):
    program = start(settings={"maximum_associations": 8})
    assert program.all_serve()
    associations = [face.associate(program.port) for _ in range(8)]
    assert [state(assoc) for assoc in associations] == [ESTABLISHED] * 6 + [REJECTED] * 2
    assert [worker.associations for worker in program.look().workers] == [3, 3]
    other = face.associate(program.port, ae=face.ae("OTHER"), bind_address=("127.0.0.2", 0))
    assert other.send_c_echo().Status == 0


def test_the_slots_of_a_worker_that_died_are_free(start, face):
    program = start(settings={"maximum_associations": 2})
    assert program.all_serve()
    one, two = face.associate(program.port), face.associate(program.port)
    kill(program.pids[0])
    assert eventually(lambda: ABORTED in (state(one), state(two)))
    assert program.all_serve(3)
    assert state(face.associate(program.port)) == ESTABLISHED
    assert state(face.associate(program.port)) == REJECTED


def test_objects_are_received_into_one_folder(start, face, tmp_path):
    folder = tmp_path / "received"
    folder.mkdir()
    program = start(folder=str(folder))
    assert program.all_serve()

    def send(sender: int) -> list[int]:
        with face.associate(program.port) as assoc:
            objects = [make_ct(5000, f"1.2.{sender}.{number}") for number in range(20)]
            return [assoc.send_c_store(each).Status for each in objects]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, range(4))) == [[0] * 20] * 4
    received = {dcmread(path).SOPInstanceUID for path in folder.iterdir()}
    assert received == {f"1.2.{sender}.{number}" for sender in range(4) for number in range(20)}
    assert len(list(folder.iterdir())) == 80


def test_a_worker_serves_within_its_context(start):
    program = start()
    assert program.all_serve()
    assert program.log.count("A worker begins") == 2
    assert "A worker ends" not in program.log
    program.end()
    assert program.log.count("A worker ends") == 2


# --- Dying ---


def test_others_go_on_when_a_worker_is_killed_under_load(start, face):
    program = start()
    assert program.all_serve()
    associations = [face.associate(program.port) for _ in range(6)]
    victim = program.look().workers[0]
    assert victim.associations == 3
    halt = threading.Event()
    sent = [0] * 6

    def send(number: int) -> None:
        assoc = associations[number]
        with contextlib.suppress(LocalProtocolError):  # it ended between two objects
            while not halt.is_set():
                if assoc.send_c_store(make_ct(50_000)):
                    sent[number] += 1

    with ThreadPoolExecutor(6) as pool:
        sending = pool.map(send, range(6))
        assert eventually(lambda: all(sent))
        before = sent[:]
        kill(victim.pid)
        assert eventually(lambda: sum(state(each) == ABORTED for each in associations) == 3)
        assert program.all_serve(3)
        with face.associate(program.port) as another:
            assert another.send_c_store(make_ct()).Status == 0
        assert eventually(lambda: sum(map(int.__lt__, before, sent)) >= 3)
        halt.set()
        list(sending)
    assert sum(state(assoc) == ESTABLISHED for assoc in associations) == 3
    assert program.says(f"Worker {victim.pid} was killed by signal 9; another is started")
    look = program.look()
    assert (look.restarts, len(look.workers)) == (1, 2)
    assert victim.pid not in program.pids
    for assoc in associations:
        if assoc.is_established:
            assert assoc.send_c_echo().Status == 0
            assoc.release()


def test_nothing_piles_up_in_workers(start, face):
    """A worker of the fourth generation has as many files open as one of the first."""
    program = start()
    assert program.all_serve()

    def use() -> list[int]:
        associations = [face.associate(program.port) for _ in range(4)]
        for assoc in associations:
            assert assoc.send_c_store(make_ct()).Status == 0
            assoc.release()
        assert eventually(lambda: not any(each.connections for each in program.look().workers))
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (*program.pids, program.supervisor)]

    before = use()
    for generation in range(3):
        for pid in program.pids:
            kill(pid)
        assert program.all_serve(4 + 2 * generation)
    assert use() == before


def test_servers_of_the_parent_are_not_held_open(start):
    program = start(beside=True)
    assert program.all_serve()
    program.command("close beside")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", program.beside))
    socket.create_connection(("127.0.0.1", program.port)).close()


# --- Ending ---


def all_gone(pids: list[int]) -> bool:
    return eventually(lambda: not any(map(is_alive, pids)))


def test_nothing_is_left_when_the_program_is_killed(start, face):
    program = start()
    assert program.all_serve()
    processes = [program.supervisor, *program.pids]
    associations = [face.associate(program.port) for _ in range(4)]
    program.process.kill()
    program.process.wait()
    assert all_gone(processes)
    assert eventually(lambda: {state(assoc) for assoc in associations} == {ABORTED})


def test_workers_end_when_their_supervisor_is_killed(start, face):
    program = start()
    assert program.all_serve()
    processes = program.pids
    assoc = face.associate(program.port)
    kill(program.supervisor)
    assert all_gone(processes)
    assert eventually(lambda: state(assoc) == ABORTED)
    assert program.says("The supervisor of the workers died")
    assert program.look() == ([], 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", program.port))


@of_the_threaded_face
def test_shutdown_lets_associations_go_on(start, face):
    program = start()
    assert program.all_serve()
    associations = [face.associate(program.port) for _ in range(2)]
    processes = [program.supervisor, *program.pids]
    program.command("shutdown")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", program.port))
    for assoc in associations:
        assert assoc.send_c_echo().Status == 0
        assoc.release()
    assert all_gone(processes)
    program.command("shutdown")


@of_the_threaded_face
def test_draining_waits_for_associations(start, face):
    program = start()
    assert program.all_serve()
    associations = [face.associate(program.port) for _ in range(2)]
    with in_background(lambda: program.command(f"drain {WAIT}")) as drained:
        for assoc in associations:
            assert assoc.send_c_store(make_ct()).Status == 0
            assoc.release()
        assert drained.result() < WAIT
    assert not program.look().workers
    assert "aborted" not in program.log


@of_the_threaded_face
def test_draining_aborts_when_its_time_is_up(start, face):
    program = start()
    assert program.all_serve()
    associations = [face.associate(program.port) for _ in range(2)]
    assert 0.2 <= program.command("drain 0.2") < WAIT
    assert eventually(lambda: {state(assoc) for assoc in associations} == {ABORTED})
    assert "Aborting associations that have not ended: 2" in program.log


@pytest.mark.parametrize("server_face", ["uvloop"])
def test_workers_on_uvloop(start, face):
    program = start(takes=0)
    assert program.all_serve()
    for _ in range(4):
        with face.associate(program.port) as assoc:
            assert assoc.send_c_store(make_ct()).Status == 0
    assert program.command("drain 0") < WAIT
    assert not program.look().workers


@of_the_asyncio_face
def test_closing_waits_for_what_is_going_on(start, face):
    program = start(takes=1)
    assert program.all_serve()
    busy, idle = (face.associate(program.port) for _ in range(2))
    with in_background(lambda: busy.send_c_store(make_ct())) as stored:
        assert program.says("is being stored")
        assert eventually(lambda: sum(each.associations for each in program.look().workers) == 2)
        assert program.command(f"drain {WAIT}") < WAIT
        assert stored.result().Status == 0
    assert eventually(lambda: {state(busy), state(idle)} == {ABORTED})
    assert not program.look().workers
    assert "not ended" not in program.log


@of_the_asyncio_face
def test_closing_cancels_what_takes_too_long(start, face):
    program = start(takes=3600)
    assert program.all_serve()
    assoc = face.associate(program.port)
    with in_background(lambda: assoc.send_c_store(make_ct())) as stored:
        assert program.says("is being stored")
        assert 0.2 <= program.command("drain 0.2") < WAIT
        assert "Status" not in stored.result()
    assert "Aborting associations that have not ended: 1" in program.log
    assert "does not end" not in program.log


def test_a_worker_that_does_not_end_is_killed(start):
    program = start(workers=1, grace=0.1)
    assert program.all_serve(1)
    (worker,) = program.pids
    os.kill(worker, signal.SIGSTOP)
    program.command("drain 0")
    assert f"Worker {worker} does not end and is killed" in program.log
    assert not is_alive(worker)


def test_sigterm_to_the_supervisor_drains(start, face):
    program = start(settings={"drain_timeout": 0.1})
    assert program.all_serve()
    assoc = face.associate(program.port)
    processes = program.pids
    for pid in processes:
        os.kill(pid, signal.SIGTERM)  # which they leave to the supervisor
    assert assoc.send_c_echo().Status == 0
    os.kill(program.supervisor, signal.SIGTERM)
    assert all_gone(processes)
    assert eventually(lambda: state(assoc) == ABORTED)
    assert "SIGTERM: draining" in program.log
    assert eventually(lambda: program.look() == ([], 0))
    assert "The program heard" not in program.log


# --- Blocking, and what cannot be ---


def blocking(port: int, **settings: Any) -> subprocess.Popen[str]:
    """Run a program that blocks in `start_server`, with a process group of its own."""
    code = (
        "from dicomwire.plain import AE; from dicomwire.settings import Settings;"
        f"ae = AE('SCP', Settings(**{settings})); ae.add_supported_context({VERIFICATION!r});"
        f"ae.start_server(('127.0.0.1', {port}), workers=2); print('returned')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True
    )


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: of SIGTERM, once it blocks as a server."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


def group_is_gone(group: int) -> bool:
    def gone() -> bool:
        members = (each.name for each in Path("/proc").iterdir() if each.name.isdigit())
        return not any(is_alive(int(pid)) and group_of(int(pid)) == group for pid in members)

    return eventually(gone)


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


@pytest.mark.parametrize(
    ("number", "to_all", "code", "said"),
    [
        (signal.SIGINT, True, 0, "returned\n"),
        (signal.SIGTERM, False, -signal.SIGTERM, ""),
        (signal.SIGTERM, True, -signal.SIGTERM, ""),
    ],
)
def test_signals_end_a_program_that_blocks(face, number, to_all, code, said):
    port = free_port()
    process = blocking(port, drain_timeout=WAIT)
    associations = []

    def associated() -> bool:
        associations.append(face.associate(port))
        return associations[-1].is_established

    assert eventually(associated)
    assert eventually(lambda: handles(process.pid, signal.SIGTERM))
    assoc = associations[-1]
    if to_all:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)

    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # the listening socket was closed just then
        return False

    assert eventually(refused)
    if number == signal.SIGTERM:  # what runs may end
        assert assoc.send_c_echo().Status == 0
        assoc.release()
    output, _ = process.communicate(timeout=WAIT)
    assert (process.returncode, output) == (code, said)
    assert group_is_gone(process.pid)


def test_a_port_in_use_is_an_error_at_once(face):
    server = face.serve()
    ae = face.ae("SCP", supported=[VERIFICATION])
    with pytest.raises(OSError, match="in use") as caught:
        ae.start_server(server.server_address, block=False, workers=2)
    assert caught.value.errno == errno.EADDRINUSE


def test_what_cannot_be(face, monkeypatch):
    ae = AE("SCP", Settings())
    with pytest.raises(ValueError, match="no supported presentation context"):
        ae.start_server(("127.0.0.1", 0), block=False, workers=2)
    ae.add_supported_context(VERIFICATION)
    with pytest.raises(ValueError, match="workers is 1 or more"):
        ae.start_server(("127.0.0.1", 0), block=False, workers=0)
    monkeypatch.delattr(os, "fork")
    with pytest.raises(RuntimeError, match=r"workers need os\.fork"):
        ae.start_server(("127.0.0.1", 0), block=False, workers=2)


# Python warns of forks beside threads from 3.12 on; here they are what is tested.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_within_a_program_with_threads(face):
    """The tests themselves: the watcher of other servers is one of them."""
    beside = face.serve()
    ae = face.ae("SCP", supported=[VERIFICATION])
    with ae.start_server(("127.0.0.1", 0), block=False, workers=2) as server:
        assert isinstance(server, SupervisedServer)
        for _ in range(4):
            with face.associate(server) as assoc:
                assert assoc.send_c_echo().Status == 0
        with face.associate(beside) as assoc:
            assert assoc.send_c_echo().Status == 0
    assert eventually(lambda: not server.workers)
