"""A configuration that is read again while the node serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from running_node import Receiver, associate, counts, make_object, move, store, study_of

from dicomwire import AE
from dicomwire.node.configuration import Configuration, load
from dicomwire.node.reloading import on_hangup, renewed
from dicomwire.node.server import Node

START = """
port = 0
folder = "archive"
[access]
networks = []
titles = ["TESTER"]
strangers = []
[destinations]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(START)
    return path


@pytest.fixture
def node(file: Path) -> Iterator[Node]:
    with Node(load(file), lambda: load(file)) as running:
        yield running


def test_destinations_are_used_at_once(
    node: Node, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store(node, make_object(1))
    receiver = Receiver()
    *_, (status, _) = move(node, study_of(), "NEW")
    assert status.Status == 0xA801
    with receiver.listening(CTImageStorage) as port:
        file.write_text(f'{START}[destinations.NEW]\nhost = "127.0.0.1"\nport = {port}\n')
        node.reload()
        *_, (status, _) = move(node, study_of(), "NEW")
    assert counts(status) == (0, 1, 0)
    assert "changed: destination NEW added" in caplog.text


def test_access_changes_for_new_associations(node: Node, file: Path) -> None:
    stranger = associate(node, CTImageStorage, title="STRANGER")
    assert stranger.is_rejected
    file.write_text(START.replace('"TESTER"', '"STRANGER"'))
    node.reload()
    assert associate(node, CTImageStorage, title="TESTER").is_rejected
    assert store(node, make_object(1), title="STRANGER") == [0]


def test_routes_are_used_at_once(node: Node, file: Path) -> None:
    receiver = Receiver()
    with receiver.listening(CTImageStorage) as port:
        destination = f'[destinations.NEW]\nhost = "127.0.0.1"\nport = {port}\n'
        file.write_text(f'{START}{destination}[[routes]]\nto = ["NEW"]\n')
        node.reload()
        store(node, make_object(1))
        assert node.archive.routing.tasks_of(*entry_and_digest(node))
    file.write_text(START)
    node.reload()
    assert not node.archive.routing.tasks_of(*entry_and_digest(node))


def entry_and_digest(node: Node) -> Any:
    """Return what routes decide about: the first object of the archive."""
    from dicomwire.node.reading import read_object

    (stored,) = node.archive.index.stored()
    return read_object(node.archive.objects, stored.file).entry, stored.digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[access", "node.toml"),
        ("prot = 104", "there is no key 'prot'"),
        (f'{START}[[routes]]\nto = ["NOBODY"]\n', "NOBODY"),
    ],
)
def test_an_invalid_file_changes_nothing(
    node: Node, file: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    before = node.configuration
    file.write_text(text)
    node.reload()
    assert node.configuration is before
    assert "The configuration is not changed: " in caplog.text
    assert reason in caplog.text
    assert store(node, make_object(1)) == [0]


def test_what_needs_a_restart_is_told(
    node: Node, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(START.replace("port = 0", "port = 104\nworkers = 3"))
    node.reload()
    assert "Restart the node to change: port, workers" in caplog.text
    assert (node.configuration.port, node.configuration.workers) == (0, 1)


def test_nothing_changes_if_nothing_is_different() -> None:
    found = renewed(Configuration(), Configuration())
    assert (found.configuration, found.changed, found.waiting) == (Configuration(), [], [])


def test_a_signal_calls_on_another_thread() -> None:
    calls: list[int] = []
    read, write = os.pipe()
    with on_hangup(lambda: calls.append(os.write(write, b"x"))):
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
        assert os.read(read, 1) == os.read(read, 1) == b"x"
    os.close(read)
    os.close(write)
    assert calls == [1, 1]


@contextmanager
def command(file: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run ``dicomwire node``; give the process and its port."""
    arguments = [sys.executable, "-m", "dicomwire", "node", "-c", str(file), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(json.loads(process.stdout.readline())["port"])
        finally:
            process.terminate()
            process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_signal_reaches_all_processes(file: Path, workers: int) -> None:
    start = START.replace("port = 0", f"port = 0\nworkers = {workers}")
    file.write_text(start)
    with command(file) as (process, port):
        assert is_rejected(port, "STRANGER")
        file.write_text(start.replace('"TESTER"', '"STRANGER"'))
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        line = next(line for line in process.stderr if "read again" in line)
        assert "changed: access.titles" in line
        deadline = 200  # a worker needs a moment; each attempt is a round trip
        while deadline and not is_rejected(port, "TESTER"):
            deadline -= 1
        assert deadline
        while deadline and is_rejected(port, "STRANGER"):
            deadline -= 1
        assert deadline


def test_an_invalid_file_is_told_in_one_line(file: Path) -> None:
    with command(file) as (process, _):
        file.write_text("[access")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        line = next(line for line in process.stderr if "onfiguration" in line)
        assert "E: The configuration is not changed: " in line
        assert "node.toml" in line


def is_rejected(port: int, title: str) -> bool:
    """Return whether a node rejects an association with this calling AE title."""
    ae = AE(title)
    ae.add_requested_context(CTImageStorage)
    assoc = ae.associate("127.0.0.1", port)
    if assoc.is_established:
        assoc.release()
        return False
    return assoc.is_rejected
