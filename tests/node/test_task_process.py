"""The process that runs the tasks of a node: how it starts, is told, is replaced, and ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_processes import Senders, eventually, node_process

from dicomwire.node.tasks import process
from dicomwire.node.tasks.process import Orders, TaskProcess

LOGGER = logging.getLogger("dicomwire.node")


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A file for what the process notes."""
    return tmp_path / "noted"


@pytest.fixture
def tasks(noted: Path) -> Iterator[TaskProcess]:
    with TaskProcess(lambda orders: follow(orders, noted)) as running:
        yield running


def follow(orders: Orders, noted: Path) -> None:
    """Note what is ordered."""
    note(noted, "start")
    orders.follow(lambda: note(noted, "look"), lambda: note(noted, "reload"))
    note(noted, "stop")


def note(noted: Path, *words: str) -> None:
    with noted.open("a") as file:
        file.write("".join(f"{word}\n" for word in words))


def has(noted: Path, *words: str) -> bool:
    """Wait until these words, and no others, were noted."""
    return eventually(lambda: noted.exists() and noted.read_text().split() == [*words])


def is_gone(pid: int) -> bool:
    """Wait until a process does not run any more."""

    def runs() -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"  # its parent has not taken notice yet

    return eventually(lambda: not runs())


def test_it_starts_with_the_first_order(tasks: TaskProcess, noted: Path) -> None:
    assert tasks.pid is None
    tasks.look()
    assert has(noted, "start")
    assert eventually(lambda: tasks.pid)
    tasks.stop(10)
    assert has(noted, "start", "look", "stop")
    assert tasks.pid is None


def test_it_need_not_have_started_to_stop(tasks: TaskProcess, noted: Path) -> None:
    tasks.stop(10)
    assert not noted.exists()


def test_it_is_gone_when_the_node_cannot_start() -> None:
    with TaskProcess(lambda orders: None) as tasks:
        pass
    with pytest.raises(ChildProcessError):
        os.waitpid(tasks._keeper, os.WNOHANG)


def test_it_is_told_of_tasks(tasks: TaskProcess, noted: Path) -> None:
    tasks.look()
    assert has(noted, "start", "look")
    tasks.look()
    assert has(noted, "start", "look", "look")
    tasks.reload()
    assert has(noted, "start", "look", "look", "reload")


def test_tasks_that_come_together_need_one_order(
    noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_TOGETHER", 60.0)
    with TaskProcess(lambda orders: follow(orders, noted)) as tasks:
        tasks.look()
        assert has(noted, "start")
        for _ in range(100_000):  # more than the pipe has room for
            tasks.look()
        tasks.stop(10)
    assert has(noted, "start", "look", "stop")


def test_another_one_is_started_when_it_dies(
    tasks: TaskProcess, noted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.look()
    assert eventually(lambda: tasks.pid)
    pid = tasks.pid
    assert pid is not None
    assert has(noted, "start")
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: "has ended with SIGKILL; another one is started" in caplog.text)
    tasks.stop(10)  # it need not wait until it may start again
    assert is_gone(pid)


def test_it_is_started_until_it_stays(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_APART", 0.0)

    def die_twice(orders: Orders) -> None:
        if not noted.exists() or noted.read_text().count("die") < 2:
            note(noted, "die")
            raise SystemExit(3)
        follow(orders, noted)

    with TaskProcess(die_twice) as tasks:
        tasks.look()
        assert has(noted, "die", "die", "start", "look")


def test_its_log_lines_are_those_of_the_node(caplog: pytest.LogCaptureFixture) -> None:
    def tell(orders: Orders) -> None:
        LOGGER.warning("%s cannot be reached", "WS")
        try:
            raise OSError("no route")
        except OSError:
            LOGGER.exception("and this is why")

    with TaskProcess(tell) as tasks:
        tasks.look()
        assert eventually(lambda: "and this is why" in caplog.text)
    assert "WS cannot be reached" in caplog.messages
    assert "OSError: no route" in caplog.text


def test_an_error_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(orders: Orders) -> None:
        raise ValueError

    with TaskProcess(fail) as tasks:
        tasks.look()
        assert eventually(lambda: "has ended with exit code 1" in caplog.text)
    assert "The process that runs the tasks has failed: ValueError" in caplog.text


def test_one_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.1)
    with TaskProcess(lambda orders: wait()) as tasks:
        tasks.look()
        assert eventually(lambda: tasks.pid)
        pid = tasks.pid
        assert pid is not None
        tasks.stop(0.0)
        assert "does not end, and is killed" in caplog.text
        assert is_gone(pid)


def wait() -> None:
    threading.Event().wait()


def test_signals_for_the_node_do_not_end_it(tasks: TaskProcess, noted: Path) -> None:
    tasks.look()
    assert has(noted, "start", "look")
    assert eventually(lambda: tasks.pid)
    assert tasks.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(tasks.pid, number)
    tasks.look()
    assert has(noted, "start", "look", "look")


def test_others_have_priority(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "NICENESS", 3)

    def tell(orders: Orders) -> None:
        note(noted, str(os.getpriority(os.PRIO_PROCESS, 0)))

    with TaskProcess(tell) as tasks:
        tasks.look()
        assert has(noted, str(min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)))


def test_it_keeps_nothing_open_that_the_node_closes(noted: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with TaskProcess(lambda orders: follow(orders, noted)) as tasks:
        tasks.look()
        assert has(noted, "start", "look")
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_it_ends_with_the_node(tmp_path: Path) -> None:
    destinations = {"WS": {"host": "127.0.0.1", "port": 9}}
    keys = {"destinations": destinations, "routes": [{"to": ["WS"]}]}
    with node_process(tmp_path, **keys) as node:
        with Senders([node.port], "1.2", 1) as load:
            load.wait(1)
        assert eventually(lambda: len(descendants(node.process.pid)) == 2)  # with the keeper
        pids = descendants(node.process.pid)
        node.kill()
        assert all(map(is_gone, pids))


def descendants(pid: int) -> list[int]:
    """Return the processes that a process, or one of these, has started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *descendants(child)]
    return found
