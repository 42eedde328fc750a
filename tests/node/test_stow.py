"""STOW-RS at a node that runs: requests and answers, and connections that are lost."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from node_processes import NodeProcess
from pydicom import dcmread
from running_node import make_object, write
from spooling import CT, EXPLICIT, OpenArchive, encoded, spool_files
from web_client import Serving, address_of, connected, received, serving

from dicomwire.data.file_meta import file_head
from dicomwire.node.deletion import protect, release
from dicomwire.node.statuses import DUPLICATE, MISMATCH, OUT_OF_RESOURCES
from dicomwire.web import Client, WebFailure
from dicomwire.web.multipart import END_OF_CONTENT, message_end, part_head

STUDIES = "/dicom-web/studies"
KIND = 'multipart/related; type="application/dicom"; boundary=b'
STUDY = "1.2.3"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("node")
    with serving(folder, max_object=1_000_000, network_timeout=10) as site:
        yield site


def dicom_file(uid: str, note: str = "", pixels: int = 0, **values: object) -> bytes:
    return file_head(CT, uid, EXPLICIT) + encoded(uid, note, pixels, **values)


def body(*files: bytes, end: bytes = message_end("b")) -> bytes:
    head = part_head("b", {"Content-Type": "application/dicom"})
    return b"".join(head + file + END_OF_CONTENT for file in files) + end


def post(
    site: Serving, content: bytes, path: str = STUDIES, kind: str = KIND, **fields: str
) -> httpx.Response:
    headers = {
        "Content-Type": kind,
        **{name.replace("_", "-"): each for name, each in fields.items()},
    }
    return site.client.post(path, content=content, headers=headers)


def codes(response: httpx.Response) -> list[int]:
    """Return the reasons of failures, those of known objects first."""
    module = response.json()
    items = [
        item for tag in ("00081198", "0008119A") for item in module.get(tag, {}).get("Value", [])
    ]
    return [item["00081197"]["Value"][0] for item in items]


def stored(response: httpx.Response) -> list[str]:
    items: list[dict[str, Any]] = response.json().get("00081199", {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in items]


def test_objects_are_stored_and_answered(site: Serving) -> None:
    response = post(site, body(dicom_file("1.2.1", "a"), dicom_file("1.2.2", pixels=300_000)))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    assert stored(response) == ["1.2.1", "1.2.2"]
    root = str(site.client.base_url).rstrip("/")
    assert response.json()["00081190"]["Value"] == [f"{root}{STUDIES}/{STUDY}"]
    again = post(site, body(dicom_file("1.2.1", "a")), f"{STUDIES}/{STUDY}")
    assert (again.status_code, stored(again)) == (200, ["1.2.1"])


FEW = body(dicom_file("1.9.1"))


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (FEW, "application/dicom", 415),
        (FEW, "", 415),
        (FEW, "nonsense", 415),
        (FEW, 'multipart/form-data; boundary="b"', 415),
        (FEW, 'multipart/related; type="application/pdf"; boundary=b', 415),
        (FEW, 'multipart/related; type="application/dicom"', 400),
        (FEW, 'multipart/related; type="application/dicom"; boundary=""', 400),
        (b"", KIND, 400),
        (b"--b--", KIND, 400),
        (b"nonsense", KIND, 400),
        (FEW[:-20], KIND, 400),
        (b"x" * 100_000, KIND, 400),
        (b"--b\r\n" + b"x: " + b"y" * 20_000, KIND, 400),
    ],
)
def test_requests_that_are_no_messages_of_objects(
    site: Serving, content: bytes, kind: str, status: int
) -> None:
    response = post(site, content, kind=kind)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize("kind", [KIND, KIND.replace('"', ""), "multipart/related; boundary=b"])
def test_forms_of_the_media_type(site: Serving, kind: str) -> None:
    assert post(site, body(dicom_file("1.2.30")), kind=kind).status_code == 200


def test_a_body_with_a_content_encoding_is_refused(site: Serving) -> None:
    assert post(site, FEW, Content_Encoding="gzip").status_code == 415


def test_each_object_has_its_result(site: Serving) -> None:
    post(site, body(dicom_file("1.2.41", "one")))
    response = post(site, body(dicom_file("1.2.41", "two"), b"nonsense", dicom_file("1.2.42")))
    assert response.status_code == 202
    assert stored(response) == ["1.2.42"]
    assert codes(response) == [DUPLICATE, 0xC000]


def test_objects_of_another_study(site: Serving) -> None:
    response = post(site, body(dicom_file("1.2.50")), f"{STUDIES}/9.9")
    assert (response.status_code, codes(response)) == (409, [MISMATCH])


def test_an_object_that_is_too_large(site: Serving) -> None:
    response = post(site, body(dicom_file("1.2.60", pixels=2_000_000)))
    assert (response.status_code, codes(response)) == (413, [OUT_OF_RESOURCES])
    response = post(site, body(dicom_file("1.2.60", pixels=2_000_000), dicom_file("1.2.61")))
    assert (response.status_code, stored(response)) == (202, ["1.2.61"])


def test_an_archive_that_cannot_store(site: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    committer = site.node.archive.committer

    def fail(batch: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(committer, "_store_all", fail)
    response = post(site, body(dicom_file("1.2.70"), dicom_file("1.2.71", pixels=300_000)))
    assert (response.status_code, codes(response)) == (503, [OUT_OF_RESOURCES] * 2)
    assert int(response.headers["retry-after"]) > 0


def test_the_body_follows_when_the_server_asks_for_it(site: Serving) -> None:
    content = body(dicom_file("1.2.80"))
    with connected(site.node) as connection:
        connection.sendall(head(site, content, KIND, expect=True))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(content)
        assert b"HTTP/1.1 200 " in received(connection)


def test_a_body_that_would_be_refused_is_not_asked_for(site: Serving) -> None:
    with connected(site.node) as connection:
        connection.sendall(head(site, FEW, "text/plain", expect=True))
        assert received(connection).startswith(b"HTTP/1.1 415 ")


def head(site: Serving, content: bytes, kind: str, expect: bool = False) -> bytes:
    host, port = address_of(site.node)
    lines = [
        f"POST {STUDIES} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        "Connection: close",
        *(["Expect: 100-continue"] if expect else []),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def test_a_connection_that_is_lost_leaves_no_object_and_no_file(site: Serving) -> None:
    content = body(dicom_file("1.2.90"), dicom_file("1.2.91", pixels=500_000))
    archive = site.node.archive
    with connected(site.node) as connection:
        connection.sendall(head(site, content, KIND) + content[:400_000])
        until(lambda: spool_files(archive.spool.folder) != [])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: spool_files(archive.spool.folder) == [])
    # Neither was answered; what comes again is stored.
    assert stored(post(site, body(dicom_file("1.2.90", "other")))) == ["1.2.90"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_metadata_and_a_value_become_an_object(site: Serving) -> None:
    texts = {"00080016": CT, "00080018": "1.2.35", "0020000D": STUDY, "0020000E": "1.2.3.4"}
    model: dict[str, Any] = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in texts.items()}
    model["00100020"] = {"vr": "LO", "Value": ["P1"]}
    model["7FE00010"] = {"vr": "OW", "BulkDataURI": "pixels"}
    head = part_head("b", {"Content-Type": "application/dicom+json"})
    content = head + json.dumps([model]).encode() + END_OF_CONTENT
    head = part_head(
        "b", {"Content-Type": "application/octet-stream", "Content-Location": "pixels"}
    )
    content += head + bytes(300_000) + END_OF_CONTENT + message_end("b")
    response = post(site, content, kind=KIND.replace("dicom", "dicom+json"))
    assert (response.status_code, stored(response)) == (200, ["1.2.35"])


def test_answers_in_xml(site: Serving) -> None:
    response = post(site, body(dicom_file("1.2.31")), Accept="application/dicom+xml")
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "application/dicom+xml",
    )
    assert b'keyword="ReferencedSOPSequence"' in response.content
    assert post(site, FEW, Accept="image/jpeg").status_code == 406


def test_objects_are_deleted(site: Serving) -> None:
    files = [
        dicom_file("1.5.1", StudyInstanceUID="1.5", SeriesInstanceUID="1.5.9"),
        dicom_file("1.5.2", StudyInstanceUID="1.5", SeriesInstanceUID="1.5.9"),
        dicom_file("1.5.3", StudyInstanceUID="1.5", SeriesInstanceUID="1.5.8"),
    ]
    assert post(site, body(*files)).status_code == 200
    with Client(str(site.client.base_url.join("/dicom-web"))) as client:

        def left() -> list[str]:
            found = client.search("instances", {"StudyInstanceUID": "1.5"})
            return sorted(str(each.SOPInstanceUID) for each in found)

        for series, instance in (("1.5.8", "1.5.1"), ("1.5.7", ""), ("", "")):
            with pytest.raises(WebFailure, match="404"):
                client.delete("1.5" if series else "1.6", series, instance)
        assert left() == ["1.5.1", "1.5.2", "1.5.3"]
        client.delete("1.5", "1.5.9", "1.5.1")
        assert left() == ["1.5.2", "1.5.3"]
        client.delete("1.5", "1.5.9")
        assert left() == ["1.5.3"]
        protect(site.node.archive.index, ["1.5"])
        with pytest.raises(WebFailure, match="409 Conflict: the study is protected"):
            client.delete("1.5")
        release(site.node.archive.index, ["1.5"])
        client.delete("1.5")
        assert left() == []


def test_another_client_stores_reads_back_and_deletes(site: Serving, tmp_path: Path) -> None:
    client = DICOMwebClient(str(site.client.base_url.join("/dicom-web")))
    datasets = [
        dcmread(write(tmp_path / str(number), make_object(number, study="1.77")))
        for number in (1, 2)
    ]
    answer = client.store_instances(datasets)
    assert len(answer.ReferencedSOPSequence) == 2
    assert "FailedSOPSequence" not in answer
    assert json.loads(answer.to_json())["00081190"]["Value"][0].endswith("/studies/1.77")
    read_back = client.retrieve_study("1.77")
    assert sorted(each.SOPInstanceUID for each in read_back) == ["1.77.1.1", "1.77.1.2"]
    assert client.search_for_studies(search_filters={"StudyInstanceUID": "1.77"})
    client.delete_study("1.77")
    assert not client.search_for_studies(search_filters={"StudyInstanceUID": "1.77"})


@pytest.mark.parametrize("run", range(int(os.environ.get("TEST_CRASHES", "1"))))
def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, run: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    node = NodeProcess(tmp_path, http=port)
    acknowledged: list[str] = []
    chance = random.Random(run)
    enough = chance.randrange(5, 60)
    has_enough = threading.Event()

    def objects() -> Iterator[bytes]:
        for number in range(10_000):
            yield dicom_file(f"1.2.{number}", pixels=chance.choice([0, 0, 100_000, 300_000]))

    def send() -> None:
        with Client(f"http://127.0.0.1:{port}/dicom-web", attempts=1) as client:
            for result in client.store(objects(), most_objects=7):
                if not result.is_stored:
                    break
                acknowledged.append(result.sop_instance_uid)
                if len(acknowledged) >= enough:
                    has_enough.set()
        has_enough.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert has_enough.wait(60)
    node.kill()
    sender.join(60)
    assert len(acknowledged) >= enough
    with OpenArchive(tmp_path) as archive:
        assert set(acknowledged) <= set(archive.notes())
        assert len(archive.datasets()) == len(archive.notes())  # each has its digest
        assert archive.spool() == []
