"""stowrs, qidors and wadors, with a small server whose answers are made here."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from dicomwire.apps import qidors, stowrs, wadors
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.web.multipart import (
    END_OF_CONTENT,
    Parser,
    Part,
    boundary_of,
    media_type,
    message_end,
    part_head,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
JSON = "application/dicom+json"
Capture = pytest.CaptureFixture[str]


class Server(ThreadingHTTPServer):
    """A server that answers with what a test has prepared.

    Attributes
    ----------
    answers : dict
        Status, media type and body by method and path.
    requests : list
        Method, path with query, and header fields of each request.
    stored : list of bytes
        The files of STOW-RS requests; each is answered by `status_of` its number.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[tuple[str, str], tuple[int, str, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.stored: list[bytes] = []
        self.status_of: Callable[[int], int] = lambda number: 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"

    def answer(self, path: str, body: bytes, kind: str = JSON, method: str = "GET") -> None:
        self.answers[method, path] = 200, kind, body

    def store(self, kind: str, body: bytes) -> tuple[int, str, bytes]:
        files: list[bytes] = []
        for event in Parser(boundary_of(media_type(kind))).feed(body):
            if isinstance(event, Part):
                files.append(b"")
            elif isinstance(event, memoryview):
                files[-1] += event
        module: dict[str, Any] = {}
        for number, file in enumerate(files, len(self.stored)):
            status = self.status_of(number)
            uid = str(parse_file_meta(file).sop_instance_uid)
            item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
            tag, reason = ("00081198", "00081197") if status & 0xF000 != 0xB000 else ("", "")
            if not status or not tag:
                tag, reason = "00081199", "00081196"
            if status:
                item[reason] = {"vr": "US", "Value": [status]}
            module.setdefault(tag, {"vr": "SQ", "Value": []})["Value"].append(item)
        self.stored += files
        return 200 if "00081198" not in module else 202, JSON, json.dumps(module).encode()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.removeprefix("/dicom-web")
        self.server.requests.append((self.command, path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command == "POST":
            status, kind, answer = self.server.store(self.headers["Content-Type"], body)
        else:
            no_answer = 404, JSON, b'{"detail": "there is none"}'
            status, kind, answer = self.server.answers.get((self.command, path), no_answer)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        ds = Dataset()
        ds.SOPClassUID = CT
        ds.SOPInstanceUID = f"1.2.{number}"
        ds.PatientName = "Doe^Jane"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        dcmwrite(folder / f"{number}.dcm", ds, enforce_file_format=True)
    return sorted(folder.iterdir())


def closed_port(server: Server) -> str:
    return server.url.replace(str(server.server_address[1]), "1")


# --- stowrs -----------------------------------------------------------------------------------


def test_files_of_a_folder_are_stored(server: Server, files: list[Path], capsys: Capture) -> None:
    (files[0].parent / "notes.txt").write_text("no DICOM")
    assert stowrs.main([server.url, str(files[0].parent), "--json", "--batch", "2"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["sent"], summary["failed"], summary["skipped"]) == (3, 0, 1)
    assert len(server.requests) == 2
    assert [len(file) > 132 for file in server.stored] == [True] * 3


def test_each_file_has_its_result(server: Server, files: list[Path], capsys: Capture) -> None:
    server.status_of = lambda number: [0, 0x0111, 0xB000][number]
    assert stowrs.main([server.url, *map(str, files), "--json", "-ll", "warn"]) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["sent"], summary["warned"], summary["failed"]) == (2, 1, 1)
    assert summary["failures"][0]["path"] == str(files[1])
    assert summary["failures"][0]["status"] == 0x0111
    assert "1.dcm" in err
    assert "2.dcm" in err


def test_the_study_of_a_request(server: Server, files: list[Path]) -> None:
    assert stowrs.main([server.url, str(files[0]), "--study", "1.2"]) == 0
    assert server.requests[0][1] == "/studies/1.2"


def test_nothing_to_send(server: Server, tmp_path: Path, capsys: Capture) -> None:
    assert stowrs.main([server.url, str(tmp_path / "missing")]) == 1
    assert "Cannot access path" in capsys.readouterr().err
    assert server.requests == []


def test_a_server_that_is_away(server: Server, files: list[Path], capsys: Capture) -> None:
    away = closed_port(server)
    assert stowrs.main([away, *map(str, files), "--attempts", "1", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["failed"] == 3
    assert err.count("\n") == 1
    assert qidors.main([away, "--attempts", "1"]) == 3
    assert wadors.main([away, "1.2", "--attempts", "1"]) == 3


# --- qidors -----------------------------------------------------------------------------------

MATCHES = json.dumps(
    [
        {
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
            "0020000D": {"vr": "UI", "Value": [uid]},
        }
        for name, uid in (("Doe^John", "1.2"), ("Doe^Jane", "1.3"))
    ]
).encode()


def test_matches_are_shown(server: Server, capsys: Capture) -> None:
    server.answer("/studies?PatientName=Doe*&includefield=StudyInstanceUID", MATCHES)
    keys = ["-k", "PatientName=Doe*", "-k", "StudyInstanceUID"]
    assert qidors.main([server.url, *keys, "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["PatientName,StudyInstanceUID", "Doe^Jane,1.3", "Doe^John,1.2"]
    assert qidors.main([server.url, *keys, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert qidors.main([server.url, *keys]) == 0
    assert capsys.readouterr().out.startswith("PatientName: Doe^John\n")


def test_a_search_without_keys(server: Server, capsys: Capture) -> None:
    server.answer("/studies/1.2/series?includefield=all&fuzzymatching=true&limit=5", b"[]")
    arguments = ["-L", "series", "--study", "1.2", "--include", "all", "--fuzzy", "--limit", "5"]
    assert qidors.main([server.url, *arguments, "--csv"]) == 0
    assert capsys.readouterr().out.startswith("Modality,SeriesNumber,")


def test_a_search_that_fails(server: Server, capsys: Capture) -> None:
    assert qidors.main([server.url]) == 1
    err = capsys.readouterr().err
    assert err.startswith("E: 404 Not Found: there is none")
    assert err.count("\n") == 1


# --- wadors -----------------------------------------------------------------------------------


def test_objects_are_written(
    server: Server, files: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    head = part_head("b", {"Content-Type": "application/dicom"})
    body = b"".join(head + file.read_bytes() + END_OF_CONTENT for file in files) + message_end("b")
    server.answer("/studies/1.2", body, 'multipart/related; type="application/dicom"; boundary=b')
    folder = tmp_path / "received"
    assert wadors.main([server.url, "1.2", "-od", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["received"] == 3
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["CT.1.2.0", "CT.1.2.1", "CT.1.2.2"]


def test_metadata_images_and_frames(server: Server, tmp_path: Path, capsys: Capture) -> None:
    server.answer("/studies/1.2/metadata", MATCHES)
    assert wadors.main([server.url, "1.2", "--metadata"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    folder = ["-od", str(tmp_path)]
    path = "/studies/1.2/series/1.3/instances/1.4"
    server.answer(f"{path}/rendered?window=40,400,linear&quality=90", b"JPEG", "image/jpeg")
    server.answer(f"{path}/thumbnail?viewport=64,64", b"PNG", "image/png")
    uids = ["1.2", "1.3", "1.4"]
    wanted = ["--rendered", "--window", "40,400", "--quality", "90"]
    assert wadors.main([server.url, *uids, *wanted, *folder]) == 0
    wanted = ["--thumbnail", "--viewport", "64,64", "--type", "image/png"]
    assert wadors.main([server.url, *uids, *wanted, *folder]) == 0
    part = part_head("b", {"Content-Type": "application/octet-stream"}) + b"pixels\r\n"
    kind = 'multipart/related; type="application/octet-stream"; boundary=b'
    server.answer(f"{path}/frames/3", part + message_end("b"), kind)
    assert wadors.main([server.url, *uids, "--frames", "3", *folder]) == 0
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"1.4.jpg": b"JPEG", "1.4.png": b"PNG", "1.4.3.raw": b"pixels"}


def test_a_study_that_is_not_there(server: Server, tmp_path: Path, capsys: Capture) -> None:
    assert wadors.main([server.url, "1.2", "-od", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("E: 404 Not Found")


# --- Credentials and wrong arguments ----------------------------------------------------------


def test_credentials_come_from_a_file_or_a_variable(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer("/studies", b"[]")
    monkeypatch.setenv("TOKEN", "secret")
    (tmp_path / "password").write_text("password\n")
    assert qidors.main([server.url, "--token", "env:TOKEN"]) == 0
    source = f"file:{tmp_path / 'password'}"
    assert qidors.main([server.url, "--user", "user", "--password-from", source]) == 0
    fields = [headers["Authorization"] for _, _, headers in server.requests]
    assert fields == ["Bearer secret", "Basic dXNlcjpwYXNzd29yZA=="]


@pytest.mark.parametrize(
    ("main", "arguments", "text"),
    [
        (qidors.main, ["archive:8042"], "must begin with http"),
        (qidors.main, ["http://user:sesame@archive"], "has a user in it"),
        (qidors.main, ["http://archive", "--tls-no-verify"], "needs https"),
        (qidors.main, ["http://archive", "--user", "me"], "need each other"),
        (qidors.main, ["http://archive", "--series", "1.2"], "needs --study"),
        (wadors.main, ["http://archive", "1.2", "--frames", "1"], "needs the UIDs"),
        (wadors.main, ["http://archive", "../1"], "not a UID"),
    ],
)
def test_wrong_arguments(
    main: Callable[[list[str]], int], arguments: list[str], text: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert text in err
    assert "sesame" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("numbers", ["", "0", "1,x"])
def test_wrong_numbers_of_frames(numbers: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        wadors.main(["http://archive", "1.2", "1.3", "1.4", "--frames", numbers])
    assert ended.value.code == 2
