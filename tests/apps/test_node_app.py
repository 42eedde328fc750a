"""`dicomwire node`: its options and files, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydicom import Dataset, dcmread

from dicomwire.__main__ import main as dicomwire_main
from dicomwire.apps import archive, findscu, getscu, movescu, storescu
from dicomwire.apps.console import Stop
from dicomwire.apps.invocation import program
from dicomwire.apps.node import _parser, configuration_of, main
from dicomwire.node.configuration import (
    KEYS,
    TLS,
    Access,
    Configuration,
    Destination,
    Duplicates,
    Right,
    template,
)
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.index.writer import Index
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import NewTask, Queue

Capture = pytest.CaptureFixture[str]
WriteFile = Callable[..., Path]
COMMAND = [sys.executable, "-m", "dicomwire", "node", "--json", "--port", "0"]


def told(*args: str) -> Configuration:
    """Return the configuration that options make."""
    return configuration_of(_parser().parse_args(args))


# --- Configuration ----------------------------------------------------------------------------


def test_without_options_it_is_the_default() -> None:
    assert told() == Configuration()


def test_every_key_is_an_option() -> None:
    assert told(
        *("--ae-title", "ARCHIVE", "--address", "", "--port", "0", "--folder", "/archive"),
        *("--duplicates", "replace", "--max-associations", "5", "--max-pdu", "0"),
        *("--max-object", "1000000"),
        *("--acse-timeout", "1.5", "--dimse-timeout", "inf", "--access-called-title"),
        *("--access-titles", "CT1", "--access-titles", "MR1", "--access-networks", "10.0.0.0/8"),
        *("--access-strangers", "echo", "--destination", "WS1=ws1:104"),
        *("--destination", "WS2=tls:ws2:2762", "--tls-cert", "node.pem", "--tls-no-verify"),
    ) == Configuration(
        ae_title="ARCHIVE",
        address="",
        port=0,
        folder=Path("/archive"),
        duplicates=Duplicates.REPLACE,
        max_associations=5,
        max_pdu=0,
        max_object=1_000_000,
        acse_timeout=1.5,
        dimse_timeout=float("inf"),
        access=Access(
            called_title=True,
            titles=("CT1", "MR1"),
            networks=(ip_network("10.0.0.0/8"),),
            strangers=(Right.ECHO,),
        ),
        destinations={"WS1": Destination("ws1", 104), "WS2": Destination("ws2", 2762, tls=True)},
        tls=TLS(cert="node.pem", no_verify=True),
    )


def test_the_help_has_every_key(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert [key.option for key in KEYS if key.option not in shown] == []


def test_a_list_can_be_made_empty() -> None:
    assert told("--access-strangers", "", "--access-networks", "").access == Access(
        networks=(), strangers=()
    )


def test_options_go_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'ae_title = "FILE"\nport = 104\n[access]\ntitles = ["CT1"]\n'
        "[destinations.WS1]\nhost = 'ws1'\nport = 104\n"
    )
    both = told("-c", str(file), "--port", "105", "--access-called-title")
    assert (both.ae_title, both.port, both.folder) == ("FILE", 105, tmp_path / "archive")
    assert both.access == Access(called_title=True, titles=("CT1",))
    assert list(both.destinations) == ["WS1"]
    assert list(told("-c", str(file), "--destination", "WS2=ws2:1").destinations) == ["WS2"]


def test_the_environment_goes_before_the_file_and_after_the_options(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('ae_title = "FILE"\nport = 104\nmax_pdu = 0\n[access]\ntitles = ["CT1"]')
    variables = {
        "DICOMWIRE_PORT": "105",
        "DICOMWIRE_MAX_PDU": "16384",
        "DICOMWIRE_ACCESS__CALLED_TITLE": "true",
    }
    options = _parser().parse_args(["-c", str(file), "--port", "106"])
    both = configuration_of(options, variables)
    assert (both.ae_title, both.port, both.max_pdu) == ("FILE", 106, 16384)
    assert both.access == Access(called_title=True, titles=("CT1",))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--port", "70000"], "'70000' is not a port number, 0 to 65535"),
        (["--port", "x"], "'x' is not a port number, 0 to 65535"),
        (["--ae-title", ""], "'' is not an AE title, 1 to 16 ASCII characters"),
        (["--access-networks", "x"], "'x' is not a list of networks, such as"),
        (["--duplicates", "x"], "'x' is not \"keep-first\" or"),
        (["--destination", "x"], "'x' is not NAME=HOST:PORT"),
        (["serv"], "there is no command 'serv'; there are: serve, reindex, "),
        (["--port", "0", "stats"], "'stats' has to come first: dicomwire node stats ..."),
        (["-c", "a", "--init", "b"], "not allowed with argument"),
    ],
)
def test_wrong_options(args: list[str], said: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_wrong_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "node.toml"
    file.write_text("port = 'x'")
    assert main(["-c", str(file)]) == 1
    assert (
        capsys.readouterr().err == f'E: {file}: port must be a port number, 0 to 65535, not "x"\n'
    )
    with pytest.raises(Stop, match="No such file"):
        told("-c", str(tmp_path / "gone.toml"))


def test_a_destination_with_a_wrong_name() -> None:
    with pytest.raises(Stop, match="AE title"):
        told("--destination", "MUCH TOO LONG A NAME=host:104")


def test_init_writes_every_key(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "node.toml"
    assert main(["--init", str(file)]) == 0
    assert file.read_text() == template()
    assert told("-c", str(file)).ae_title == Configuration().ae_title
    assert main(["--init", str(file)]) == 1
    assert "is not changed" in capsys.readouterr().err
    assert main(["--init", str(tmp_path / "no" / "folder")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert main(["--init", "-"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads(template())


@pytest.mark.parametrize("module", ["sqlalchemy", "alembic"])
def test_a_missing_extra(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in list(sys.modules):
        if name.startswith("dicomwire.node.") and not name.endswith("configuration"):
            monkeypatch.delitem(sys.modules, name)
    for action in ("serve", "check", "reindex"):
        assert main([action, "--folder", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert said == f"E: node requires the {module} package: pip install 'dicomwire[node]'\n"


def test_the_configuration_needs_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    for name in list(sys.modules):
        if name.startswith(("dicomwire.node.configuration", "dicomwire.apps.node")):
            monkeypatch.delitem(sys.modules, name)
    assert dicomwire_main(["node"]) == 1
    assert capsys.readouterr().err == "E: node requires pydantic: pip install 'dicomwire[node]'\n"


# --- Running ----------------------------------------------------------------------------------


class Running:
    """A node in a process of its own."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.peer = [self.facts["address"], str(self.facts["port"])]

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send a signal; return the exit code and what was logged."""
        self.process.send_signal(number)
        _, logged = self.process.communicate(timeout=30)
        return self.process.returncode, logged


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    nodes: list[Running] = []

    def start_node(*args: str) -> Running:
        nodes.append(Running("--folder", str(tmp_path / "archive"), *args))
        return nodes[-1]

    yield start_node
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
        node.process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_it_ends_orderly(start: Callable[..., Running], number: int, code: int) -> None:
    node = start("-v", "--ae-title", "HERE")
    assert node.facts["ae_title"] == "HERE"
    returned, logged = node.stop(number)
    assert returned == code
    assert f"I: HERE listens on 127.0.0.1, port {node.facts['port']}\n" in logged
    assert "Traceback" not in logged


def test_it_tells_a_service_manager(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        node = start()
        assert manager.recv(100) == b"READY=1"
        node.stop()
        assert manager.recv(100) == b"STOPPING=1"


@pytest.fixture
def file(write_file: WriteFile) -> Path:
    path = write_file("ct.dcm", sop_instance="1.2.3.1.1")
    ds = dcmread(path)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = "1.2.3", "1.2.3.1", "P1"
    ds.save_as(path)
    return path


@contextmanager
def serving(folder: Path, **keys: Any) -> Iterator[list[str]]:
    """Run a node in this process; give its host and port."""
    with Node(Configuration(port=0, folder=folder, **keys)) as node:
        yield [str(each) for each in node.address]


def test_send_query_retrieve(file: Path, tmp_path: Path, capsys: Capture, closed_port: int) -> None:
    destinations = {"HERE": Destination("127.0.0.1", closed_port)}
    with serving(tmp_path / "archive", destinations=destinations) as peer:
        send_query_retrieve(peer, file, tmp_path, capsys, str(closed_port))
    capsys.readouterr()
    archive = ["--folder", str(tmp_path / "archive"), "--json"]
    assert main(["check", *archive]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": 1, "findings": []}
    assert main(["reindex", *archive]) == 0
    assert json.loads(capsys.readouterr().out)["indexed"] == 1
    (stored,) = (tmp_path / "archive").rglob("*.dcm")
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    assert main(["check", *archive]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["problem"] == "damaged"
    assert finding["object"]["study_instance_uid"] == "1.2.3"
    assert main(["check", *archive[:2]]) == 1
    said = capsys.readouterr().out
    assert "(Nobody^At All), study 1.2.3\n" in said
    assert "1 file, 1 with a problem" in said
    assert main(["reindex", *archive[:2]]) == 1  # the last byte was of a UID
    assert "1 file cannot be indexed" in capsys.readouterr().out


def send_query_retrieve(
    peer: list[str], file: Path, folder: Path, capsys: Capture, port: str
) -> None:
    """Send a file, find it, and fetch it in both ways."""
    assert storescu.main([*peer, str(file)]) == 0
    keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
    assert findscu.main([*peer, *keys, "-k", "PatientName", "--json"]) == 0
    (match,) = json.loads(capsys.readouterr().out)
    assert Dataset.from_json(match).PatientName == "Nobody^At All"
    assert getscu.main([*peer, *keys, "-od", str(folder / "got")]) == 0
    receiver = ["--store", "--store-aet", "HERE", "--store-port", port]
    assert movescu.main([*peer, *keys, *receiver, "-od", str(folder / "moved")]) == 0
    for name in ("got", "moved"):
        assert len(list((folder / name).iterdir())) == 1


def test_what_it_says_to_people(tmp_path: Path) -> None:
    command = [each for each in COMMAND if each != "--json"]
    with subprocess.Popen(
        [*command, "--folder", str(tmp_path / "archive"), "--ae-title", "HERE"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(14)]
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    port = lines[1].split()[-1]
    assert lines[0].split() == ["AE", "title", "HERE"]
    assert lines[2].split() == ["Folder", str(tmp_path / "archive")]
    said = "".join(lines)
    for command_line in (
        f"dicomwire storescu 127.0.0.1 {port} ",
        f"  storescu 127.0.0.1 {port} +sd ",
        f"dicomwire findscu 127.0.0.1 {port} ",
        f"dicomwire getscu 127.0.0.1 {port} ",
        "to 127.0.0.1, port 11113:\n",
        f"            {program()} movescu 127.0.0.1 {port} -aem STORESCP ",
    ):
        assert command_line in said


def test_the_commands_it_prints_suit_its_configuration() -> None:
    configuration = Configuration(
        ae_title="HERE",
        access=Access(called_title=True, titles=("CT1",)),
        tls=TLS(cert="node.pem", ca="ca.pem"),
    )
    node = SimpleNamespace(
        configuration=configuration, address=("10.0.0.5", 11112), http_address=None
    )
    lines = [*archive._welcome(cast(Any, node))]
    tls = "--tls --tls-ca CA.pem --tls-cert MY.pem --tls-key MY.key"
    peer = f"10.0.0.5 11112 -aec HERE -aet CT1 {tls}"
    assert f"  send      {program()} storescu {peer} -r FOLDER" in lines
    assert not any("DCMTK" in line for line in lines)


def test_status_shows_nodes_tasks_and_objects(file: Path, tmp_path: Path, capsys: Capture) -> None:
    archive = ["--folder", str(tmp_path / "archive")]
    with serving(tmp_path / "archive", ae_title="HERE") as peer:
        assert storescu.main([*peer, str(file)]) == 0
        status_is_shown(archive, peer[1], file, tmp_path, capsys)
    assert main(["status", *archive]) == 1
    assert "no node runs\n" in capsys.readouterr().out


def status_is_shown(
    archive: list[str], port: str, file: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Look at the status of a node with a file and two tasks."""
    add_tasks(tmp_path / "archive", "upload", "upload")
    capsys.readouterr()
    assert main(["status", *archive, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    (shown,) = status["nodes"]
    assert (shown["ae_title"], shown["port"]) == ("HERE", int(port))
    assert (shown["pid"], shown["state"]) == (os.getpid(), "serving")
    assert status["tasks"] == {"upload": {"waiting": 2, "running": 0, "dead": 0}}
    assert status["objects"]["instances"] == status["objects"]["studies"] == 1
    assert status["objects"]["bytes"] > file.stat().st_size // 2
    assert main(["status", *archive]) == 0
    said = capsys.readouterr().out
    assert f"HERE at 127.0.0.1, port {port}: serving since " in said
    assert "tasks upload: 2 waiting, 0 running, 0 dead\n" in said
    assert "1 patient, 1 study, 1 series, 1 instance, " in said


def add_tasks(folder: Path, *kinds: str) -> None:
    with Index(Sqlite(folder / "index.sqlite")) as index:
        queue = Queue(index, "test")
        with index.writing() as writer:
            queue.add(writer, [NewTask(kind, {"file": "x"}) for kind in kinds])


def kill_tasks(folder: Path, kind: str) -> None:
    with Index(Sqlite(folder / "index.sqlite")) as index:
        queue = Queue(index, "test")
        taken = queue.take(kind, 10)
        with index.writing() as writer:
            for task in taken:
                queue.fail(writer, task, "no such\ndestination", None)


def test_tasks_are_listed_repeated_and_removed(tmp_path: Path, capsys: Capture) -> None:
    add_tasks(tmp_path, "forward", "forward", "upload")
    kill_tasks(tmp_path, "forward")
    archive = ["--folder", str(tmp_path)]
    assert main(["tasks", *archive]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 forward dead, 1 attempt: no such\\ndestination",
        "2 forward dead, 1 attempt: no such\\ndestination",
        "3 upload waiting, 0 attempts",
    ]
    assert main(["tasks", "list", "--state", "waiting", "--json", *archive]) == 0
    (task,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (task["id"], task["kind"], task["payload"]) == (3, "upload", {"file": "x"})
    assert main(["tasks", "retry", "--kind", "upload", *archive]) == 0
    assert main(["tasks", "retry", "--kind", "forward", *archive]) == 0
    assert main(["tasks", "drop", *archive]) == 0
    assert main(["tasks", "drop", "--state", "waiting", "--json", *archive]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["Repeated 0 tasks", "Repeated 2 tasks"]
    assert said[2:] == ["Removed 0 tasks", '{"tasks": 3}']


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["check", "--kind", "upload"], "check takes no tasks"),
        (["tasks", "drop", "--state", "running"], "can be neither repeated nor removed"),
    ],
)
def test_what_cannot_be_done_with_tasks(
    args: list[str], said: str, tmp_path: Path, capsys: Capture
) -> None:
    add_tasks(tmp_path, "upload")
    assert main([*args, "--folder", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_in_use(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["--folder", str(tmp_path / "archive"), "--port", "0"]
    with serving(tmp_path / "archive"):
        assert main(arguments) == 1
        assert "another process uses" in capsys.readouterr().err
        assert main(["reindex", *arguments]) == 1
        assert "another process uses" in capsys.readouterr().err


def test_a_port_in_use(tmp_path: Path, capsys: Capture) -> None:
    with serving(tmp_path / "archive") as (_, port):
        assert main(["--folder", str(tmp_path / "other"), "--port", port]) == 1
    assert capsys.readouterr().err.startswith(f"E: Port {port} is in use: ")


def test_no_index_to_read(tmp_path: Path, capsys: Capture) -> None:
    for action in ("check", "status", "tasks"):
        assert main([action, "--folder", str(tmp_path)]) == 1
        assert "there is no index" in capsys.readouterr().err


def test_an_index_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"something else" * 1000)
    assert main(["check", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "E: The index cannot be used: file is not a database\n"
