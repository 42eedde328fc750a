from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire import (
    Association,
    StoragePresentationContexts,
    build_context,
    evt,
    sop_class,
)
from dicomwire.apps import getscu
from dicomwire.apps.console import Console
from dicomwire.apps.receiving import Receiver
from dicomwire.data.file_meta import file_head, parse_file_meta
from dicomwire.pdu_primitives import SCP_SCU_RoleSelectionNegotiation, SOPClassExtendedNegotiation

Capture = pytest.CaptureFixture[str]

QUERY = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
MODELS = [
    sop_class.PatientRootQueryRetrieveInformationModelGet,
    sop_class.StudyRootQueryRetrieveInformationModelGet,
    sop_class.PatientStudyOnlyQueryRetrieveInformationModelGet,
]


@dataclass
class Objects:
    """What a peer sends for C-GET, and what it was asked."""

    found: list[Any] = field(default_factory=list)
    events: list[evt.Event] = field(default_factory=list)
    identifiers: list[Dataset] = field(default_factory=list)

    def get(self, event: evt.Event) -> Iterator[Any]:
        self.events.append(event)
        self.identifiers.append(event.identifier)
        yield len(self.found)
        for each in self.found:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield (0xFF00, each) if not isinstance(each, int) else (each, None)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def peer(start_peer: Callable[..., Any], objects: Objects) -> Any:
    return start_peer([*map(build_context, MODELS), *storage()], [(evt.EVT_C_GET, objects.get)])


def storage() -> list[Any]:
    """Return contexts to send objects in on associations that others request."""
    contexts = deepcopy(StoragePresentationContexts)
    for context in contexts:
        context.transfer_syntax[:] = [ExplicitVRLittleEndian]
        context.scu_role, context.scp_role = False, True
    return contexts


# --- What is asked ----------------------------------------------------------------------------


def test_what_is_proposed(peer: Any, objects: Objects, tmp_path: Path) -> None:
    assert getscu.main([*peer.address, *QUERY, "-od", str(tmp_path)]) == 0
    assert objects.identifiers[0].StudyInstanceUID == "1.2.3"
    classes = [each.abstract_syntax for each in StoragePresentationContexts]
    assert [uid for uid, _ in peer.syntaxes] == [MODELS[0], *classes]
    roles = [
        (item.sop_class_uid, bool(item.scu_role), item.scp_role)
        for item in peer.requestors[0].primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    ]
    assert roles == [(uid, False, True) for uid in classes]
    assert peer.requestors[0].ae_title == "GETSCU"
    assert peer.how_it_ended() == "released"


@pytest.mark.parametrize(
    ("options", "model"), [([], 0), (["-P"], 0), (["--study"], 1), (["-O"], 2)]
)
def test_models(options: list[str], model: int, peer: Any, objects: Objects) -> None:
    assert getscu.main([*peer.address, *QUERY, "--ignore", *options]) == 0
    assert objects.events[0].request.AffectedSOPClassUID == MODELS[model]


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], []), (["--relational-retrieval"], [b"\1\0"]), (["--enhanced-conversion"], [b"\0\1"])],
)
def test_extended_negotiation(options: list[str], expected: list[bytes], peer: Any) -> None:
    assert getscu.main([*peer.address, *QUERY, "--ignore", *options]) == 0
    assert [
        item.service_class_application_information
        for item in peer.requestors[0].primitive.user_information
        if isinstance(item, SOPClassExtendedNegotiation)
    ] == expected


# --- Ctrl-C -----------------------------------------------------------------------------------


def test_ctrl_c_cancels_and_says_how_far_it_came(
    peer: Any, objects: Objects, wheel: Path, capsys: Capture, monkeypatch: Any
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "follow", interrupt)
    objects.found = [wheel / "MR_small.dcm", wheel / "CT_small.dcm"]
    assert getscu.main([*peer.address, *QUERY, "--ignore"]) == 130
    shown = capsys.readouterr().err
    assert "I: Sending Cancel Request: MsgID 1\n" in shown
    assert "E: Interrupted: 1 object sent by the peer, 0 with a warning, " in shown
    assert "; 1 received, not kept; the same command asks for all again\n" in shown


# --- What is received -------------------------------------------------------------------------


def test_objects_are_kept_as_they_came(
    peer: Any, objects: Objects, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    objects.found = [wheel / "MR_small.dcm", wheel / "CT_small.dcm"]
    folder = tmp_path / "new"
    assert getscu.main([*peer.address, *QUERY, "-od", str(folder)]) == 0
    for path in objects.found:
        sent = path.read_bytes()
        before = parse_file_meta(sent)
        (name,) = (each for each in os.listdir(folder) if each[3:] == before.sop_instance_uid)
        kept = (folder / name).read_bytes()
        after = parse_file_meta(kept)
        assert kept[after.offset :] == sent[before.offset :] + bytes(len(sent[before.offset :]) % 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    for expected in (
        f"I: Files go to {folder}\n",
        "I: Sending Get Request: MsgID 1, Patient Root",
        "I: C-STORE from ANY-SCP@127.0.0.1:",
        ": MRImageStorage, ",
        "I: Get SCP Result: 1 - 0xFF00 - Pending",
        "I: Get SCP Result: 0x0000 - Success\n",
        "I: 2 objects sent by the peer, 0 with a warning, 0 failed, 0 left; 2 received, ",
        "I: Releasing Association\n",
    ):
        assert expected in shown.err


def test_ignore(
    peer: Any, objects: Objects, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    objects.found = [wheel / "CT_small.dcm"]
    assert getscu.main([*peer.address, *QUERY, "--ignore"]) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("uid", ["../../evil", "/etc/passwd", "..", "~", "a:b"])
def test_uids_do_not_choose_paths(
    uid: str, peer: Any, objects: Objects, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "one" / "two" / "three"
    hostile = tmp_path / "hostile"
    hostile.write_bytes(file_head(CTImageStorage, uid, ExplicitVRLittleEndian))
    objects.found = [hostile]
    assert getscu.main([*peer.address, *QUERY, "-od", str(folder)]) == 0
    assert "1 received" in capsys.readouterr().err
    hostile.unlink()
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert kept.parent == folder
    assert set(kept.name) <= set("CT.0123456789_")


def test_the_folder_cannot_be_made(peer: Any, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert getscu.main([*peer.address, *QUERY, "-od", str(tmp_path / "file")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: Cannot make the folder ")
    assert peer.proposed == []


# --- How it ends ------------------------------------------------------------------------------


def test_summary_as_json(peer: Any, objects: Objects, wheel: Path, capsys: Capture) -> None:
    objects.found = [wheel / "CT_small.dcm", wheel / "no such file"]
    assert getscu.main([*peer.address, *QUERY, "--ignore", "--json", "-q"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "status": 0xB000,
        "remaining": 0,
        "completed": 1,
        "failed": 1,
        "warning": 0,
        "failed_instances": [],
        "received": 1,
    }


def test_instances_that_failed(
    start_peer: Callable[..., Any], objects: Objects, wheel: Path, capsys: Capture
) -> None:
    contexts = [
        build_context(MODELS[0]),
        *(each for each in storage() if each.abstract_syntax == CTImageStorage),
    ]
    peer = start_peer(contexts, [(evt.EVT_C_GET, objects.get)])
    objects.found = [wheel / "CT_small.dcm", wheel / "MR_small.dcm"]
    arguments = [*peer.address, *QUERY, "--ignore", "--json", "-ll", "warn"]
    assert getscu.main(arguments) == 1
    shown = capsys.readouterr()
    uid = dcmread(wheel / "MR_small.dcm").SOPInstanceUID
    assert json.loads(shown.out)["failed_instances"] == [uid]
    assert "W: Get SCP Result: 0xB000 - Warning" in shown.err
    assert getscu.main(arguments) == 1


def test_progress_on_a_terminal(
    peer: Any, objects: Objects, wheel: Path, new_terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", new_terminal())
    objects.found = [wheel / "CT_small.dcm"] * 3
    assert getscu.main([*peer.address, *QUERY, "--ignore", "-ll", "error"]) == 0
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert shown.startswith("\r\x1b[K1 of 3 objects, 0 failed")
    assert shown.endswith(
        "\r\x1b[K3 objects sent by the peer, 0 with a warning, 0 failed, 0 left; "
        "3 received, not kept\n"
    )


def test_cancelled(peer: Any, objects: Objects, wheel: Path, capsys: Capture) -> None:
    objects.found = [wheel / "CT_small.dcm"] * 500
    arguments = [*peer.address, *QUERY, "--ignore", "--cancel-after", "2", "--json"]
    assert getscu.main(arguments) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["status"] == 0xFE00
    assert 2 <= result["completed"] < 500
    assert result["completed"] + result["remaining"] == 500
    assert "I: Get SCP Result: 0xFE00 - Cancel" in shown.err


@pytest.mark.parametrize("lenient", [True, False])
def test_a_failure(lenient: bool, peer: Any, objects: Objects, capsys: Capture) -> None:
    objects.found = [0xA702]
    options = ["--lenient"] if lenient else []
    assert getscu.main([*peer.address, *QUERY, "--ignore", *options]) == int(not lenient)
    assert "E: Get SCP Result: 0xA702 - Failure" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({}, 1),
        ({"NumberOfFailedSuboperations": 0, "NumberOfWarningSuboperations": 0}, 1),
        ({"NumberOfCompletedSuboperations": 2, "NumberOfWarningSuboperations": 1}, 1),
        ({"NumberOfFailedSuboperations": 1, "NumberOfWarningSuboperations": 1}, 1),
    ],
)
def test_a_warning_is_no_success_where_nothing_came(
    counts: dict[str, int], code: int, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0xB000 says that some failed, or had a warning; the counts that tell which are optional."""

    def answered(*_: Any) -> Iterator[Any]:
        status = Dataset()
        status.Status = 0xB000
        for keyword, value in counts.items():
            setattr(status, keyword, value)
        yield status, Dataset()

    monkeypatch.setattr(Association, "send_c_get", answered)
    assert getscu.main([*peer.address, *QUERY, "--ignore"]) == 1
    assert getscu.main([*peer.address, *QUERY, "--ignore"]) == code


def test_objects_that_came_with_a_warning_are_a_success(
    peer: Any, objects: Objects, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Receiver._stored
    monkeypatch.setattr(Receiver, "_stored", lambda self, event: stored(self, event) or 0xB007)
    objects.found = [wheel / "CT_small.dcm"]
    assert getscu.main([*peer.address, *QUERY, "--ignore"]) == 0


def test_the_association_is_lost(peer: Any, objects: Objects, wheel: Path, capsys: Capture) -> None:
    class Lost(list[Path]):
        def __iter__(self) -> Iterator[Any]:
            yield wheel / "CT_small.dcm"
            objects.events[0].assoc.abort()

        def __len__(self) -> int:
            return 2

    objects.found = Lost()
    assert getscu.main([*peer.address, *QUERY, "--ignore", "--json"]) == 1
    shown = capsys.readouterr()
    assert "E: No response: aborted by the peer" in shown.err
    result = json.loads(shown.out)
    assert (result["status"], result["received"], result["remaining"]) == (None, 1, 1)
    objects.events.clear()
    assert getscu.main([*peer.address, *QUERY, "--ignore", "-q"]) == 1


def test_a_peer_that_knows_no_roles(
    start_peer: Callable[..., Any], objects: Objects, capsys: Capture
) -> None:
    peer = start_peer([build_context(MODELS[0])], [(evt.EVT_C_GET, objects.get)])
    assert getscu.main([*peer.address, *QUERY, "--ignore", "-ll", "warn"]) == 0
    advice = "W: The peer cannot send objects on this association: try movescu\n"
    assert advice in capsys.readouterr().err


def test_nobody_listens(closed_port: int, capsys: Capture) -> None:
    address = ["127.0.0.1", str(closed_port)]
    assert getscu.main([*address, *QUERY, "--ignore", "-ll", "error"]) == 3
    assert "E: Association request failed: unable to connect" in capsys.readouterr().err
    assert getscu.main([*address, *QUERY, "--ignore", "-q"]) == 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments", [[], ["localhost", "104"], ["localhost", "104", *QUERY, "-W"]]
)
def test_wrong_arguments(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        getscu.main(arguments)
    assert end.value.code == 2
    assert "dicomwire getscu: " in capsys.readouterr().err
