"""`qrscp`: the options and the INI file of pynetdicom's, on our archive."""

from __future__ import annotations

import io
import math
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest
from pydicom import dcmread

from dicomwire import AE, build_context
from dicomwire.apps import qrscp
from dicomwire.apps.console import Stop
from dicomwire.apps.qrscp import _parser, configuration_of, main
from dicomwire.node.configuration import Configuration, Destination, Right
from dicomwire.node.server import Node
from dicomwire.sop_class import CTImageStorage, Verification

Capture = pytest.CaptureFixture[str]
PATIENCE = 20.0

INI = """\
[DEFAULT]
# Our AE Title
ae_title: ARCHIVE
port: 104
max_pdu: 0
acse_timeout: 5
dimse_timeout: 6.5
network_timeout = inf
bind_address: 127.0.0.1
instance_location: stored
database_location: db.sqlite
log_identifier: True

[WS1]
    address: ws1.example.org
    port: 11113
"""


def told(*args: str) -> Configuration:
    return configuration_of(_parser().parse_args(args))


def test_without_a_file() -> None:
    found = told()
    assert (found.ae_title, found.address, found.port) == ("QRSCP", "", 11112)
    assert (found.max_pdu, found.acse_timeout, found.dimse_timeout) == (16382, 30.0, 30.0)
    assert found.folder == Path("instances")
    assert found.destinations == {"STORESCP": Destination("127.0.0.1", 11113)}
    assert set(found.access.strangers) == set(Right)


def test_all_that_a_file_says(tmp_path: Path) -> None:
    file = tmp_path / "qrscp.ini"
    file.write_text(INI)
    found = told("-c", str(file))
    assert (found.ae_title, found.address, found.port) == ("ARCHIVE", "127.0.0.1", 104)
    assert (found.max_pdu, found.acse_timeout, found.dimse_timeout) == (0, 5.0, 6.5)
    assert found.network_timeout == math.inf
    assert found.folder == tmp_path / "stored"
    assert found.destinations == {"WS1": Destination("ws1.example.org", 11113)}


def test_options_go_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "qrscp.ini"
    file.write_text(INI)
    found = told(
        *("-c", str(file), "--port", "105", "-aet", "OTHER", "-ba", "", "-pdu", "100"),
        *("-ta", "1", "-td", "2", "-tn", "3", "--instance-location", "here"),
        *("--database-location", "anything"),
    )
    assert (found.ae_title, found.address, found.port, found.max_pdu) == ("OTHER", "", 105, 100)
    assert (found.acse_timeout, found.dimse_timeout, found.network_timeout) == (1, 2, 3)
    assert found.folder == Path("here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\nport: x", "[DEFAULT] port is a number, not 'x'"),
        ("[DEFAULT]\nport: 70000", "port must be a port number, 0 to 65535, not 70000"),
        ("[DEFAULT]\nprot: 104", "[DEFAULT] has no 'prot', but ae_title, port"),
        ("[DEFAULT]\nacse_timeout: 0", "[DEFAULT] acse_timeout: '0' is not a number of seconds"),
        ("[WS1]\naddress: x", "destinations.WS1.port is missing"),
        ("[WS1]\nport: 104", "destinations.WS1.host is missing"),
        ("[WS1]\nport: x", "[WS1] port is a number, not 'x'"),
        ("[WS1]\naddress: x\nport: 1\nname: y", "[WS1] has no 'name', but address, port"),
        ("[A NAME THAT IS TOO LONG]\naddress: x\nport: 1", "16 ASCII characters"),
        ("port: 104", "no section headers"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "qrscp.ini"
    file.write_text(text)
    with pytest.raises(Stop) as reason:
        told("-c", str(file))
    assert str(reason.value).startswith(f"{file}: ") or "File contains" in str(reason.value)
    assert said in str(reason.value)


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    assert main(["-c", str(tmp_path / "gone.ini")]) == 1
    assert "gone.ini: No such file" in capsys.readouterr().err
    endless = tmp_path / "endless.ini"
    endless.write_bytes(b"#" * 2_000_000)
    assert main(["-c", str(endless)]) == 1
    assert "endless.ini: the file has more than" in capsys.readouterr().err


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Return what starts qrscp in a thread, on a free port and in a folder of its own."""
    nodes: Queue[Node] = Queue()
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def wait(node: Node) -> None:
        nodes.put(node)
        stop.wait()
        raise KeyboardInterrupt

    def start(*args: str) -> Node:
        folder = ["--instance-location", str(tmp_path / "instances")]
        arguments = ["--port", "0", "-ba", "127.0.0.1", *folder, *args]
        threads.append(threading.Thread(target=main, args=(arguments,)))
        threads[-1].start()
        return nodes.get(timeout=PATIENCE)

    monkeypatch.setattr(Node, "wait", wait)
    yield start
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)


def test_it_serves_whoever_comes(serve: Callable[..., Node], tmp_path: Path) -> None:
    node = serve()
    contexts = [build_context(uid) for uid in (Verification, CTImageStorage)]
    with AE("ANYBODY").associate(*node.address, contexts) as assoc:
        assert assoc.send_c_echo().Status == 0x0000
    assert (tmp_path / "instances" / "index.sqlite").exists()


@pytest.mark.parametrize(("answer", "left"), [("yes", 0), ("no", 1), ("", 1), ("YES", 1)])
def test_clean(
    answer: str,
    left: int,
    serve: Callable[..., Node],
    write_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    folder = tmp_path / "instances"
    with Node(Configuration(port=0, folder=folder)) as node:
        path = write_file("ct.dcm", sop_instance="1.2.3")
        ds = dcmread(path)
        ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
        with AE().associate(*node.address, [build_context(CTImageStorage)]) as assoc:
            assert assoc.send_c_store(ds).Status == 0x0000
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{answer}\n"))
    assert main(["--clean", "--instance-location", str(folder)]) == 0
    assert len(list(folder.rglob("*.dcm"))) == left
    assert ("Nothing is removed" in capsys.readouterr().out) == bool(left)


def test_clean_says_what_it_could_not_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder = tmp_path / "objects" / "aa" / "bb"
    folder.mkdir(parents=True)
    (folder / "stays.dcm").mkdir()  # no file, so it cannot be unlinked
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert main(["--clean", "--instance-location", str(tmp_path)]) == 1
    assert "1 object could not be removed" in capsys.readouterr().err


@pytest.mark.parametrize(("address", "warned"), [("", True), ("127.0.0.1", False)])
def test_it_warns_of_being_open_to_everybody(
    address: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(qrscp, "serve", lambda *_: 0)
    assert main(["-ll", "warn", "-ba", address]) == 0
    assert ("Listening on all interfaces" in capsys.readouterr().err) is warned


def test_clean_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["--clean", "--instance-location", str(tmp_path)]) == 0
    assert "Nothing is removed" in capsys.readouterr().out


def test_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    for name in list(sys.modules):
        if name.startswith("dicomwire.node.") and not name.endswith("configuration"):
            monkeypatch.delitem(sys.modules, name)
    assert main(["--instance-location", str(tmp_path)]) == 1
    assert "qrscp requires the sqlalchemy package" in capsys.readouterr().err
