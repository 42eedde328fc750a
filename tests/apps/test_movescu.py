from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicomwire import QueryRetrievePresentationContexts, build_context, evt, sop_class
from dicomwire.apps import movescu
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation

Capture = pytest.CaptureFixture[str]

QUERY = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
SENT = [build_context(uid, ExplicitVRLittleEndian) for uid in (CTImageStorage, MRImageStorage)]


@dataclass
class Archive:
    """What a peer sends for C-MOVE, where to, and what it was asked."""

    found: list[Any] = field(default_factory=list)
    destination: Callable[[], Any] = lambda: None
    events: list[evt.Event] = field(default_factory=list)

    def move(self, event: evt.Event) -> Iterator[Any]:
        self.events.append(event)
        port = self.destination()
        if port is None:
            yield None, None
            return
        yield "127.0.0.1", port, {"contexts": SENT, "ae_title": "STORESCP"}
        yield len(self.found)
        for each in self.found:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, each


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def peer(start_peer: Callable[..., Any], archive: Archive) -> Any:
    contexts = deepcopy(QueryRetrievePresentationContexts)
    return start_peer(contexts, [(evt.EVT_C_MOVE, archive.move)])


# --- What is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ([], "STORESCP"),
        (["-aem", "OTHER"], "OTHER"),
        (["--store", "--store-port", "0"], "STORESCP"),
        (["--store", "--store-port", "0", "--store-aet", "MINE"], "MINE"),
        (["--store", "--store-port", "0", "--store-aet", "MINE", "-aem", "ALIAS"], "ALIAS"),
    ],
)
def test_destinations(
    options: list[str], title: str, peer: Any, archive: Archive, capsys: Capture
) -> None:
    assert movescu.main([*peer.address, *QUERY, "--ignore", *options]) == 1
    (event,) = archive.events
    assert event.move_destination == title
    assert event.identifier.StudyInstanceUID == "1.2.3"
    assert peer.requestors[0].ae_title == "MOVESCU"
    assert len(peer.syntaxes) == 1
    assert "E: Move SCP Result: 0xA801 - Failure: Move destination unknown" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ([], sop_class.PatientRootQueryRetrieveInformationModelMove),
        (["-S"], sop_class.StudyRootQueryRetrieveInformationModelMove),
        (["-O"], sop_class.PatientStudyOnlyQueryRetrieveInformationModelMove),
    ],
)
def test_models(options: list[str], model: str, peer: Any, archive: Archive) -> None:
    assert movescu.main([*peer.address, *QUERY, *options]) == 1
    assert archive.events[0].request.AffectedSOPClassUID == model


def test_extended_negotiation(peer: Any) -> None:
    flags = ["--relational-retrieval", "--enhanced-conversion"]
    assert movescu.main([*peer.address, *QUERY, *flags]) == 1
    (item,) = (
        item
        for item in peer.requestors[0].primitive.user_information
        if isinstance(item, SOPClassExtendedNegotiation)
    )
    assert item.service_class_application_information == b"\1\1"


# --- The receiver -----------------------------------------------------------------------------


def test_a_receiver_of_its_own(
    peer: Any, archive: Archive, closed_port: int, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    archive.found = [wheel / "MR_small.dcm", wheel / "CT_small.dcm"]
    archive.destination = lambda: closed_port
    arguments = [*peer.address, *QUERY, "--store", "--store-port", str(closed_port)]
    assert movescu.main([*arguments, "-od", str(tmp_path)]) == 0
    for path in archive.found:
        sent = path.read_bytes()
        before = parse_file_meta(sent)
        (name,) = (each for each in os.listdir(tmp_path) if each[3:] == before.sop_instance_uid)
        kept = (tmp_path / name).read_bytes()
        after = parse_file_meta(kept)
        assert kept[after.offset :] == sent[before.offset :] + bytes(len(sent[before.offset :]) % 2)
    shown = capsys.readouterr().err
    for expected in (
        f"I: STORESCP receives on 127.0.0.1, port {closed_port}\n",
        "I: Sending Move Request: MsgID 1, Patient Root",
        "I: C-STORE from ",
        "I: Move SCP Result: 1 - 0xFF00 - Pending",
        "I: Move SCP Result: 0x0000 - Success\n",
        "I: 2 objects sent by the peer, 0 with a warning, 0 failed, 0 left; 2 received, ",
    ):
        assert expected in shown
    with socket.create_server(("127.0.0.1", closed_port)):
        pass  # it is free again


def test_a_receiver_on_any_free_port(
    peer: Any, archive: Archive, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    def logged_port() -> int:
        found = re.search(r"MINE receives on 127.0.0.1, port (\d+)", capsys.readouterr().err)
        assert found is not None
        return int(found[1])

    archive.found = [wheel / "CT_small.dcm"]
    archive.destination = logged_port
    receiver = ["--store", "--store-port", "0", "--store-aet", "MINE", "-od", str(tmp_path)]
    assert movescu.main([*peer.address, *QUERY, *receiver, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["received"] == 1
    (name,) = os.listdir(tmp_path)
    assert name.startswith("CT.")


def test_the_port_is_in_use(peer: Any, archive: Archive, capsys: Capture) -> None:
    receiver = ["--store", "--ignore", "--store-port", str(peer.port), "-ll", "error"]
    assert movescu.main([*peer.address, *QUERY, *receiver]) == 1
    assert capsys.readouterr().err == (
        f"E: Port {peer.port} is in use: stop the program that uses it, or choose another port\n"
    )
    assert archive.events == []


def test_an_address_that_is_not_ours(peer: Any, capsys: Capture) -> None:
    receiver = ["--store", "--ignore", "--store-port", "0", "--store-address", "192.0.2.1"]
    assert movescu.main([*peer.address, *QUERY, *receiver, "-ll", "error"]) == 1
    assert capsys.readouterr().err == (
        "E: '192.0.2.1' is not an address of this machine: "
        "give --store-address one, or leave it out\n"
    )


def test_nothing_is_kept_without_a_receiver(
    peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert movescu.main([*peer.address, *QUERY, "-od", "new", "--json"]) == 1
    assert os.listdir(tmp_path) == []
    assert "received" not in json.loads(capsys.readouterr().out)


# --- How it ends ------------------------------------------------------------------------------


def test_cancelled(
    peer: Any, archive: Archive, closed_port: int, wheel: Path, capsys: Capture
) -> None:
    archive.found = [wheel / "CT_small.dcm"] * 500
    archive.destination = lambda: closed_port
    receiver = ["--store", "--ignore", "--store-port", str(closed_port)]
    arguments = [*peer.address, *QUERY, *receiver, "--cancel-after", "2", "--json"]
    assert movescu.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == 0xFE00
    assert 2 <= result["completed"] < 500


def test_a_failure(peer: Any, capsys: Capture) -> None:
    assert movescu.main([*peer.address, *QUERY]) == 1
    assert movescu.main([*peer.address, *QUERY, "--lenient"]) == 0


def test_nobody_listens(closed_port: int, capsys: Capture) -> None:
    assert movescu.main(["127.0.0.1", str(closed_port), *QUERY, "-ll", "error"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: Association request failed: unable to connect to remote: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["localhost", "104"],
        ["localhost", "104", *QUERY, "-aem", "SEVENTEEN LETTERS"],
        ["localhost", "104", *QUERY, "--store-port", "65536"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        movescu.main(arguments)
    assert end.value.code == 2
    assert "dicomwire movescu: " in capsys.readouterr().err
