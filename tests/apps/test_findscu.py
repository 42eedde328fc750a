from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicomwire import (
    UID_PREFIX,
    BasicWorklistManagementPresentationContexts,
    QueryRetrievePresentationContexts,
    UnifiedProcedurePresentationContexts,
    build_context,
    evt,
    sop_class,
)
from dicomwire.apps import findscu, getscu, movescu
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation

Capture = pytest.CaptureFixture[str]

QUERY = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName="]
CONTEXTS = [
    *QueryRetrievePresentationContexts,
    *BasicWorklistManagementPresentationContexts,
    *UnifiedProcedurePresentationContexts,
]


@dataclass
class Answers:
    """What a peer answers to C-FIND, and what it was asked."""

    responses: list[Any] = field(default_factory=list)
    events: list[evt.Event] = field(default_factory=list)
    identifiers: list[Dataset] = field(default_factory=list)

    def find(self, event: evt.Event) -> Iterator[Any]:
        self.events.append(event)
        self.identifiers.append(event.identifier)
        yield from self.responses


@pytest.fixture
def answers() -> Answers:
    return Answers([(0xFF00, match("Doe^John", "1")), (0xFF01, match("Roe^Jane", "22"))])


@pytest.fixture
def peer(start_peer: Callable[..., Any], answers: Answers) -> Any:
    return start_peer(deepcopy(CONTEXTS), [(evt.EVT_C_FIND, answers.find)])


def match(name: str, patient: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "PATIENT"
    ds.PatientName = name
    ds.PatientID = patient
    if not name.isascii():
        ds.SpecificCharacterSet = "ISO_IR 192"
    return ds


# --- What is asked ----------------------------------------------------------------------------


def test_the_identifier_travels(peer: Any, answers: Answers) -> None:
    assert findscu.main([*peer.address, *QUERY, "-k", "PatientID=7"]) == 0
    (identifier,) = answers.identifiers
    assert identifier == match("", "7")
    assert peer.how_it_ended() == "released"
    assert peer.requestors[0].ae_title == "FINDSCU"
    model = sop_class.PatientRootQueryRetrieveInformationModelFind
    assert [uid for uid, _ in peer.syntaxes] == [model]


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ([], sop_class.PatientRootQueryRetrieveInformationModelFind),
        (["-P"], sop_class.PatientRootQueryRetrieveInformationModelFind),
        (["-S"], sop_class.StudyRootQueryRetrieveInformationModelFind),
        (["--psonly"], sop_class.PatientStudyOnlyQueryRetrieveInformationModelFind),
        (["-W"], sop_class.ModalityWorklistInformationFind),
        (["--ups"], sop_class.UnifiedProcedureStepPull),
    ],
)
def test_models(options: list[str], model: str, peer: Any, answers: Answers) -> None:
    assert findscu.main([*peer.address, *QUERY, *options]) == 0
    assert answers.events[0].request.AffectedSOPClassUID == model


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], None),
        (["--relational-query"], bytes([1, 0, 0, 0, 0])),
        (["--dt-matching", "--enhanced-conversion"], bytes([0, 1, 0, 0, 1])),
        (["--fuzzy-names", "--timezone-adj", "-S"], bytes([0, 0, 1, 1, 0])),
        (["-W", "--fuzzy-names"], bytes([1, 1, 1, 0])),
        (["-W", "--timezone-adj"], bytes([1, 1, 0, 1])),
        (["-W", "--relational-query"], None),
    ],
)
def test_extended_negotiation(options: list[str], expected: bytes | None, peer: Any) -> None:
    assert findscu.main([*peer.address, *QUERY, *options]) == 0
    items = [
        item.service_class_application_information
        for item in peer.requestors[0].primitive.user_information
        if isinstance(item, SOPClassExtendedNegotiation)
    ]
    assert items == ([] if expected is None else [expected])


# --- What is shown ----------------------------------------------------------------------------


def test_matches_in_lines(peer: Any, capsys: Capture) -> None:
    assert findscu.main([*peer.address, *QUERY, "-v"]) == 0
    shown = capsys.readouterr()
    assert shown.out == (
        "PatientName: Doe^John\nPatientID: 1\n\nPatientName: Roe^Jane\nPatientID: 22\n\n"
    )
    lines = iter(shown.err.splitlines())
    for expected in (
        "I: Requesting Association",
        "I: Association Accepted",
        "I: Sending Find Request: MsgID 1, Patient Root",
        "I: Find SCP Result: 1 - 0xFF00 - Pending",
        "I: Find SCP Result: 2 - 0xFF01 - Pending",
        "I: Find SCP Result: 0x0000 - Success",
        "I: Releasing Association",
    ):
        assert any(line.startswith(expected) for line in lines)
    assert "Doe" not in shown.err
    assert "Accept Parameters" not in shown.err


def test_a_table_on_a_terminal(
    peer: Any, new_terminal: Any, monkeypatch: pytest.MonkeyPatch, answers: Answers
) -> None:
    monkeypatch.setattr(sys, "stdout", new_terminal())
    monkeypatch.setattr(sys, "stderr", new_terminal())
    answers.responses.append((0xFF00, match("山田^太郎", "333")))
    asked = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID", "-k", "PatientName"]
    asked += ["-k", "StudyDate"]
    assert findscu.main([*peer.address, *asked]) == 0
    assert sys.stdout.getvalue() == (  # type: ignore[attr-defined]
        "PatientID  PatientName  StudyDate\n"
        "---------  -----------  ---------\n"
        "1          Doe^John\n"
        "22         Roe^Jane\n"
        "333        山田^太郎\n"
        "\n"
        "3 matches\n"
    )
    assert sys.stderr.getvalue().startswith("\r\x1b[Kmatches: 1")  # type: ignore[attr-defined]
    assert sys.stderr.getvalue().endswith("\r\x1b[K")  # type: ignore[attr-defined]


def test_lines_where_a_table_is_too_wide(
    peer: Any, new_terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "17")
    monkeypatch.setattr(sys, "stdout", new_terminal())
    assert findscu.main([*peer.address, *QUERY, "-k", "PatientID"]) == 0
    shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert shown.startswith("PatientName: Doe^John\nPatientID: 1\n\nPatientName: ")
    assert shown.endswith("\n\n2 matches\n")


def test_a_table_is_shortened_to_the_terminal(
    peer: Any, new_terminal: Any, monkeypatch: pytest.MonkeyPatch, answers: Answers
) -> None:
    monkeypatch.setenv("COLUMNS", "26")
    monkeypatch.setattr(sys, "stdout", new_terminal())
    one, other = match("山田^太郎^Doe^John", "1"), match("Bo", "2")
    one.StudyInstanceUID = "1.2.840.113619.2.55.3.604688119.971.1234567890.123"
    other.StudyInstanceUID = "1.2.3"
    answers.responses = [(0xFF00, one), (0xFF00, other)]
    assert findscu.main([*peer.address, *QUERY, "-k", "StudyInstanceUID"]) == 0
    assert sys.stdout.getvalue() == (  # type: ignore[attr-defined]
        "PatientName   StudyInstan…\n"
        "------------  ------------\n"
        "Bo            1.2.3\n"
        "山田^太郎^D…  …4567890.123\n"
        "\n"
        "2 matches\n"
    )


def test_a_table_of_one_match_and_of_none(
    peer: Any, new_terminal: Any, monkeypatch: pytest.MonkeyPatch, answers: Answers
) -> None:
    for responses, end in (([(0xFF00, match("A", "1"))], "A\n\n1 match\n"), ([], "0 matches\n")):
        answers.responses = responses
        monkeypatch.setattr(sys, "stdout", new_terminal())
        assert findscu.main([*peer.address, *QUERY]) == 0
        assert sys.stdout.getvalue().endswith(end)  # type: ignore[attr-defined]


def test_a_table_has_the_items_of_sequences_that_were_asked_for(
    peer: Any, new_terminal: Any, monkeypatch: pytest.MonkeyPatch, answers: Answers
) -> None:
    monkeypatch.setattr(sys, "stdout", new_terminal())
    found = match("A", "1")
    found.ScheduledProcedureStepSequence = [Dataset(), Dataset()]
    found.ScheduledProcedureStepSequence[0].Modality = "CT"
    found.ScheduledProcedureStepSequence[0].ScheduledStationAETitle = "X"
    found.ScheduledProcedureStepSequence[1].Modality = "MR"
    answers.responses = [(0xFF00, found)]
    keys = ["-k", "PatientName", "-k", "ScheduledProcedureStepSequence[0].Modality"]
    assert findscu.main([*peer.address, *keys, "--csv"]) == 0
    steps = ",".join(f"ScheduledProcedureStepSequence[{item}].Modality" for item in (0, 1))
    shown = f"PatientName,{steps}\nA,CT,MR\n"
    assert sys.stdout.getvalue() == shown  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", new_terminal())
    keys = ["-k", "ScheduledProcedureStepSequence", "-k", "PatientName"]
    assert findscu.main([*peer.address, *keys, "--sort", "PatientID", "--csv"]) == 0
    lines = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1:] == ["CT,X,MR,A"]


def test_csv(peer: Any, answers: Answers, capsys: Capture) -> None:
    answers.responses = [(0xFF00, match('B "b", c', "1")), (0xFF00, match("A\n", "2"))]
    assert findscu.main([*peer.address, *QUERY, "--csv"]) == 0
    assert capsys.readouterr() == ('PatientName\nA\\n\n"B ""b"", c"\n', "")
    answers.responses = []
    assert findscu.main([*peer.address, *QUERY, "--csv"]) == 0
    assert capsys.readouterr().out == "PatientName\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_sorted_by_a_key(form: list[str], peer: Any, answers: Answers, capsys: Capture) -> None:
    people = [("Roe", "10"), ("Doe", "10"), ("Poe", "9"), ("Moe", "")]
    answers.responses = [(0xFF00, match(name, number)) for name, number in people]
    options = [*form, "--sort", "(0010,0020)", "--sort", "PatientName"]
    assert findscu.main([*peer.address, *QUERY, *options]) == 0
    shown = capsys.readouterr().out
    assert sorted(("Roe", "Doe", "Poe", "Moe"), key=shown.index) == ["Moe", "Poe", "Doe", "Roe"]


def test_a_key_to_sort_by_that_is_none(peer: Any, capsys: Capture) -> None:
    assert findscu.main([*peer.address, *QUERY, "--sort", "Name"]) == 1
    assert capsys.readouterr().err.startswith("E: --sort: ")
    assert peer.proposed == []


def test_matches_as_json(peer: Any, capsys: Capture) -> None:
    assert findscu.main([*peer.address, *QUERY, "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Dataset.from_json(each) for each in found] == [
        match("Doe^John", "1"),
        match("Roe^Jane", "22"),
    ]


def test_no_matches(peer: Any, answers: Answers, capsys: Capture) -> None:
    answers.responses = []
    assert findscu.main([*peer.address, *QUERY, "-ll", "warn"]) == 0
    assert findscu.main([*peer.address, *QUERY, "-ll", "warn", "--json"]) == 0
    assert capsys.readouterr() == ("[]\n", "")


def test_sequences_and_bytes(peer: Any, answers: Answers, capsys: Capture) -> None:
    step, item = Dataset(), Dataset()
    step.Modality = "CT"
    item.ModalitiesInStudy = ["CT", "MR"]
    item.PatientComments = None
    item.add_new(0x00091001, "UN", b"\1\2\3\4")
    item.ScheduledProcedureStepSequence = [step, Dataset()]
    item.ReferencedStudySequence = []
    answers.responses = [(0xFF00, item)]
    assert findscu.main([*peer.address, *QUERY]) == 0
    assert capsys.readouterr().out == (
        "ModalitiesInStudy: CT\\MR\n"
        "ReferencedStudySequence: \n"
        "(0009,1001): (4 bytes)\n"
        "PatientComments: \n"
        "ScheduledProcedureStepSequence[0].Modality: CT\n"
        "\n"
    )


def test_values_that_would_steer_a_terminal(peer: Any, answers: Answers, capsys: Capture) -> None:
    answers.responses = [(0xFF00, match("Doe\x9b31m\u202e", "1\n2"))]
    assert findscu.main([*peer.address, *QUERY]) == 0
    assert capsys.readouterr().out == "PatientName: Doe\\x9b31m\\u202e\nPatientID: 1\\n2\n\n"


def test_values_that_are_none(
    start_peer: Callable[..., Any], answers: Answers, capsys: Capture
) -> None:
    model = sop_class.PatientRootQueryRetrieveInformationModelFind
    contexts = [build_context(model, ImplicitVRLittleEndian)]  # in which VRs are not told
    peer = start_peer(contexts, [(evt.EVT_C_FIND, answers.find)])
    ds = match("Doe", "1")
    ds.add_new("InstanceNumber", "LO", "what")
    answers.responses = [(0xFF00, ds)]
    assert findscu.main([*peer.address, *QUERY]) == 0
    assert "InstanceNumber: (cannot be decoded)\n" in capsys.readouterr().out
    assert findscu.main([*peer.address, *QUERY, "--json", "-ll", "warn"]) == 0
    shown = capsys.readouterr()
    assert [sorted(each) for each in json.loads(shown.out)] == [
        ["00080052", "00100010", "00100020"]
    ]
    assert shown.err == ("W: A match is shown without (0020,0013), which cannot be decoded\n")


def test_quiet(peer: Any, closed_port: int, capsys: Capture) -> None:
    assert findscu.main([*peer.address, *QUERY, "-q"]) == 0
    assert capsys.readouterr() == (
        "PatientName: Doe^John\nPatientID: 1\n\nPatientName: Roe^Jane\nPatientID: 22\n\n",
        "",
    )
    assert findscu.main(["127.0.0.1", str(closed_port), *QUERY, "-q"]) == 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("level", "letters"),
    [("fatal", ""), ("critical", ""), ("error", ""), ("info", "I"), ("trace", "DI")],
)
def test_log_levels(level: str, letters: str, peer: Any, capsys: Capture) -> None:
    assert findscu.main([*peer.address, *QUERY, "-ll", level]) == 0
    assert "".join(sorted({line[0] for line in capsys.readouterr().err.splitlines()})) == letters


def test_debug_shows_the_identifiers(peer: Any, capsys: Capture) -> None:
    assert findscu.main([*peer.address, *QUERY, "-d"]) == 0
    shown = capsys.readouterr().err
    assert "Accept Parameters" in shown
    assert "Doe^John" in shown


def test_whoever_reads_the_matches_has_enough(
    peer: Any, answers: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert findscu.main([*peer.address, *QUERY, "-ll", "error"]) == 0
    assert capsys.readouterr().err == ""
    assert peer.how_it_ended() == "aborted"


# --- Files ------------------------------------------------------------------------------------


def test_matches_in_files(
    peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert findscu.main([*peer.address, *QUERY, "-w"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["rsp000001.dcm", "rsp000002.dcm"]
    first, second = (dcmread(tmp_path / f"rsp00000{number}.dcm") for number in (1, 2))
    assert (first, second) == (match("Doe^John", "1"), match("Roe^Jane", "22"))
    meta = first.file_meta
    model = sop_class.PatientRootQueryRetrieveInformationModelFind
    assert meta.MediaStorageSOPClassUID == model
    assert meta.MediaStorageSOPInstanceUID.startswith(UID_PREFIX)
    assert meta.MediaStorageSOPInstanceUID != second.file_meta.MediaStorageSOPInstanceUID


def test_the_folder_for_files(peer: Any, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "new" / "folder"
    assert findscu.main([*peer.address, *QUERY, "-w", "-od", str(folder)]) == 0
    assert len(os.listdir(folder)) == 2
    (tmp_path / "file").touch()
    assert findscu.main([*peer.address, *QUERY, "-w", "-od", str(tmp_path / "file")]) == 1
    assert "E: Cannot make the folder " in capsys.readouterr().err


def test_a_file_that_cannot_be_written(peer: Any, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "rsp000002.dcm").mkdir()
    assert findscu.main([*peer.address, *QUERY, "-w", "-od", str(tmp_path)]) == 1
    path = tmp_path / "rsp000002.dcm"
    assert f"E: Cannot write {path}: Is a directory\n" in capsys.readouterr().err


# --- How it ends ------------------------------------------------------------------------------


def test_cancelled(start_peer: Callable[..., Any], capsys: Capture) -> None:
    def find(event: evt.Event) -> Iterator[Any]:
        for number in range(1000):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, match("Doe", str(number))

    peer = start_peer(deepcopy(CONTEXTS), [(evt.EVT_C_FIND, find)])
    assert findscu.main([*peer.address, *QUERY, "--cancel-after", "2", "-v"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("PatientName: ") == 2
    assert "I: Sending Cancel Request: MsgID 1\n" in shown.err
    assert "I: Find SCP Result: 0xFE00 - Cancel" in shown.err


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize("status", [0xA900, 0xC001, 0xFE00, 0x1234])
def test_a_failure(
    status: int, lenient: bool, peer: Any, answers: Answers, capsys: Capture
) -> None:
    answers.responses.append((status, None))
    options = ["--lenient"] if lenient else []
    assert findscu.main([*peer.address, *QUERY, *options]) == int(not lenient)
    shown = capsys.readouterr()
    assert f"Find SCP Result: 0x{status:04X}" in shown.err
    assert shown.out.count("PatientName: ") == 2


def test_what_the_peer_has_to_say(peer: Any, answers: Answers, capsys: Capture) -> None:
    status = Dataset()
    status.Status = 0xA900
    status.ErrorComment = "no such level"
    answers.responses = [(status, None)]
    assert findscu.main([*peer.address, *QUERY, "-ll", "error"]) == 1
    assert capsys.readouterr().err == (
        "E: Find SCP Result: 0xA900 - Failure: Identifier does not match the SOP class "
        "(no such level)\n"
    )


def test_no_answer(start_peer: Callable[..., Any], capsys: Capture) -> None:
    done = threading.Event()

    def find(event: evt.Event) -> Iterator[Any]:
        yield 0xFF00, match("Doe^John", "1")
        done.wait(20)

    peer = start_peer(deepcopy(CONTEXTS), [(evt.EVT_C_FIND, find)])
    try:
        assert findscu.main([*peer.address, *QUERY, "--json", "-td", "0.2"]) == 1
        shown = capsys.readouterr()
        assert len(json.loads(shown.out)) == 1
        assert "E: DIMSE timeout reached while waiting for message" in shown.err
        assert "E: No response" not in shown.err
        assert findscu.main([*peer.address, *QUERY, "-td", "0.2"]) == 1
    finally:
        done.set()


def test_the_model_is_not_taken(start_peer: Callable[..., Any], capsys: Capture) -> None:
    peer = start_peer(deepcopy(BasicWorklistManagementPresentationContexts))
    assert findscu.main([*peer.address, *QUERY, "-ll", "error"]) == 3
    assert capsys.readouterr().err == (
        "E: The peer does not accept Patient Root Query/Retrieve Information Model - FIND: "
        "try another model\n"
    )
    assert peer.how_it_ended() == "aborted"


def test_nobody_listens(closed_port: int, capsys: Capture) -> None:
    assert findscu.main(["127.0.0.1", str(closed_port), *QUERY]) == 3
    shown = capsys.readouterr()
    assert "E: Association request failed: unable to connect to remote: " in shown.err
    assert len([line for line in shown.err.splitlines() if line.startswith("E: ")]) == 1
    assert shown.out == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-k", "Nonsense=1"], "E: Unable to parse element path component: 'Nonsense'\n"),
        (["-f", "/no/file"], "E: Cannot read input file /no/file: No such file or directory\n"),
    ],
)
def test_no_identifier(arguments: list[str], complaint: str, capsys: Capture) -> None:
    assert findscu.main(["127.0.0.1", "104", *arguments]) == 1
    assert capsys.readouterr() == ("", complaint)


def test_an_identifier_that_cannot_be_sent(peer: Any, capsys: Capture) -> None:
    assert findscu.main([*peer.address, "-k", "Rows=70000", "-ll", "error"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: cannot encode the dataset: ")


@pytest.mark.parametrize("app", [findscu, getscu, movescu])
def test_a_key_that_its_character_set_cannot_hold(app: Any, peer: Any, capsys: Capture) -> None:
    keys = ["-k", "SpecificCharacterSet=ISO_IR 100", "-k", "PatientName=山田"]
    assert app.main([*peer.address, *keys]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: PatientName has characters that ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["localhost", "104"],
        ["localhost", "104", *QUERY, "-P", "-S"],
        ["localhost", "104", *QUERY, "-q", "-d"],
        ["localhost", "104", *QUERY, "-ll", "loud"],
        ["localhost", "104", *QUERY, "--cancel-after", "0"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        findscu.main(arguments)
    assert end.value.code == 2
    assert "dicomwire findscu: " in capsys.readouterr().err
