from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
)

from dicomwire import Association, StoragePresentationContexts, build_context
from dicomwire.apps import storescu
from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import file_head, parse_file_meta

Capture = pytest.CaptureFixture[str]
WriteFile = Callable[..., Path]


def summary(capsys: Capture) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


# --- What is sent -----------------------------------------------------------------------------


def test_a_file_is_sent_as_it_is(peer: Any, wheel: Path, capsys: Capture) -> None:
    path = wheel / "CT_small.dcm"
    assert storescu.main([*peer.address, str(path)]) == 0
    head = parse_file_meta(path.read_bytes())
    assert peer.bytes_received == [padded(path.read_bytes()[head.offset :])]
    (request,) = peer.received
    assert request.AffectedSOPInstanceUID == head.sop_instance_uid
    assert peer.how_it_ended() == "released"
    assert capsys.readouterr() == ("", "")


def test_defaults(peer: Any, write_file: WriteFile) -> None:
    assert storescu.main([*peer.address, str(write_file("a"))]) == 0
    assert peer.requestors[0].ae_title == "STORESCU"
    assert peer.requestors[0].primitive.called_ae_title == "ANY-SCP"
    assert peer.requestors[0].maximum_length == 16382


def test_titles_limits_and_timeouts(peer: Any, write_file: WriteFile) -> None:
    arguments = ["-aet", "ME", "-aec", "YOU", "-pdu", "0", "-ta", "5", "-td", "5", "-tn", "5"]
    assert storescu.main([*peer.address, str(write_file("a")), *arguments]) == 0
    assert peer.requestors[0].ae_title == "ME"
    assert peer.requestors[0].primitive.called_ae_title == "YOU"
    assert peer.requestors[0].maximum_length == 0


def test_verbose(peer: Any, write_file: WriteFile, capsys: Capture) -> None:
    path = write_file("a")
    assert storescu.main([*peer.address, str(path), "-v"]) == 0
    lines = iter(capsys.readouterr().err.splitlines())
    for expected in (
        "I: Requesting Association",
        "I: Association Accepted",
        f"I: Sending file: {path}",
        "I: Sending Store Request: MsgID 1, (CT)",
        "I: Received Store Response (Status: 0x0000 - Success)",
        "I: Releasing Association",
    ):
        assert expected in lines
    assert next(lines).startswith(("I: C-STORE from ", "I: Association Released", "I: 1 sent"))


def test_debug(peer: Any, write_file: WriteFile, capsys: Capture) -> None:
    assert storescu.main([*peer.address, str(write_file("a")), "-d"]) == 0
    shown = capsys.readouterr().err
    assert "Accept Parameters" in shown
    assert "Nobody" not in shown


def test_a_folder_is_sent_in_order(peer: Any, write_file: WriteFile, tmp_path: Path) -> None:
    for name, uid in (("b", "1.2"), ("a", "1.1"), ("c", "1.3"), ("deeper/d", "1.4")):
        write_file(f"folder/{name}", uid)
    assert storescu.main([*peer.address, str(tmp_path / "folder")]) == 1
    assert [each.AffectedSOPInstanceUID for each in peer.received] == ["1.1", "1.2", "1.3"]
    assert [each.MessageID for each in peer.received] == [1, 2, 3]


def test_a_folder_and_those_below_it(peer: Any, write_file: WriteFile, tmp_path: Path) -> None:
    for name, uid in (("b", "1.2"), ("deeper/a", "1.4"), ("deeper/still/a", "1.5")):
        write_file(f"folder/{name}", uid)
    (tmp_path / "folder" / "deeper" / "loop").symlink_to(tmp_path / "folder")
    assert storescu.main([*peer.address, str(tmp_path), "--recurse"]) == 0
    assert [each.AffectedSOPInstanceUID for each in peer.received] == ["1.2", "1.4", "1.5"]


def test_nothing_is_sent_twice(peer: Any, write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file("a")
    paths = [str(path), str(tmp_path), f"{tmp_path}/", f"{tmp_path}/./a", str(path)]
    assert storescu.main([*peer.address, *paths]) == 0
    assert len(peer.received) == 1


def test_what_is_no_dicom_file_is_skipped(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    write_file("folder/a")
    (tmp_path / "folder" / "README").write_text("not this")
    (tmp_path / "folder" / "empty").touch()
    assert storescu.main([*peer.address, str(tmp_path / "folder"), "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    result = json.loads(shown.out)
    assert (result["sent"], result["failed"], result["skipped"]) == (1, 0, 2)


@pytest.mark.parametrize("cut", [128, 132], ids=["no preamble", "no prefix"])
def test_files_of_sloppy_writers_are_sent(
    cut: int, peer: Any, write_file: WriteFile, tmp_path: Path
) -> None:
    path = write_file("folder/a")
    path.write_bytes(path.read_bytes()[cut:])
    assert storescu.main([*peer.address, str(path.parent)]) == 0
    assert len(peer.received) == 1


def test_a_dicomdir_is_sent_only_if_named(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    write_file("a")
    directory = write_file("DICOMDIR", "1.9", MediaStorageDirectoryStorage)
    assert storescu.main([*peer.address, str(tmp_path), "--json"]) == 0
    assert summary(capsys)["skipped"] == 1
    assert peer.syntaxes == [(CTImageStorage, [ExplicitVRLittleEndian])]
    assert storescu.main([*peer.address, str(directory)]) == 3
    assert peer.syntaxes == [(MediaStorageDirectoryStorage, [ExplicitVRLittleEndian])]


@pytest.mark.parametrize("lenient", [True, False])
def test_a_named_file_that_is_none_counts(
    lenient: bool, peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("not this")
    missing = tmp_path / "missing"
    arguments = [*peer.address, str(write_file("a")), str(note), str(missing), "--json"]
    assert storescu.main([*arguments, "--lenient"] if lenient else arguments) == int(not lenient)
    shown = capsys.readouterr()
    assert f"E: Cannot access path: {missing}\n" in shown.err
    assert f"E: Cannot read input file {note}: " in shown.err
    assert [each["path"] for each in json.loads(shown.out)["failures"]] == [str(missing), str(note)]
    assert len(peer.received) == 1


def folder_empty(folder: Path) -> None:
    folder.mkdir()


def folder_of_folders(folder: Path) -> None:
    (folder / "study").mkdir(parents=True)


def folder_of_notes(folder: Path) -> None:
    folder.mkdir()
    (folder / "one.txt").write_text("not this")
    (folder / "two.txt").write_text("nor this")


@pytest.mark.parametrize(
    ("make", "options", "reason"),
    [
        (folder_empty, [], "it has no files"),
        (folder_of_folders, [], "the folders in it need -r"),
        (folder_of_folders, ["-r"], "it has no files"),
        (folder_of_notes, [], "none of its files (2) is a DICOM file to send"),
    ],
)
def test_a_folder_without_files_to_send_is_a_failure_in_one_line(
    make: Callable[[Path], None],
    options: list[str],
    reason: str,
    peer: Any,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    folder = tmp_path / "folder"
    make(folder)
    assert storescu.main([*peer.address, str(folder), *options, "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.err == f"E: No suitable DICOM files found in {folder}: {reason}\n"
    failure = {"path": str(folder), "reason": reason, "status": None}
    assert json.loads(shown.out)["failures"] == [failure]
    assert storescu.main([*peer.address, str(folder), *options, "--lenient"]) == 0
    assert peer.proposed == []


def test_folders_in_a_folder_are_not_forgotten_silently(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    write_file("folder/a", "1.1")
    write_file("folder/study/b", "1.2")
    folder = tmp_path / "folder"
    assert storescu.main([*peer.address, str(folder)]) == 1
    assert (
        capsys.readouterr().err
        == f"E: Not all files are sent of {folder}: the folders in it need -r\n"
    )
    assert len(peer.received) == 1
    assert storescu.main([*peer.address, str(folder), "--recursive"]) == 0
    assert len(peer.received) == 3


def test_a_path_that_is_missing(peer: Any, tmp_path: Path, capsys: Capture) -> None:
    assert storescu.main([*peer.address, str(tmp_path / "missing"), "--json"]) == 1
    assert summary(capsys)["failed"] == 1


def test_file_names_cannot_steer_the_terminal(
    peer: Any, write_file: WriteFile, capsys: Capture
) -> None:
    path = write_file("a")
    odd = path.rename(path.with_name("a\x1b[2J\nb"))
    assert storescu.main([*peer.address, str(odd), "-v"]) == 0
    assert "a\\x1b[2J\\nb" in capsys.readouterr().err


# --- Presentation contexts --------------------------------------------------------------------

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    RLELossless,
]


@pytest.mark.parametrize("option", [[], ["-cx"], ["--required-contexts"]])
def test_contexts_are_those_of_the_files(
    option: list[str], peer: Any, write_file: WriteFile, tmp_path: Path
) -> None:
    write_file("a", "1.1", CTImageStorage, ExplicitVRLittleEndian)
    write_file("b", "1.2", MRImageStorage, ImplicitVRLittleEndian)
    write_file("c", "1.3", CTImageStorage, ImplicitVRLittleEndian)
    write_file("d", "1.4", CTImageStorage, ExplicitVRLittleEndian)
    assert storescu.main([*peer.address, str(tmp_path), *option]) == 0
    assert peer.syntaxes == [
        (CTImageStorage, [ExplicitVRLittleEndian]),
        (MRImageStorage, [ImplicitVRLittleEndian]),
        (CTImageStorage, [ImplicitVRLittleEndian]),
    ]
    assert len(peer.received) == 4


@pytest.mark.parametrize(
    ("option", "syntax", "sent"),
    [
        ("-xe", ExplicitVRLittleEndian, 2),
        ("-xb", ExplicitVRBigEndian, 1),
        ("-xi", ImplicitVRLittleEndian, 2),
        ("--request-implicit", ImplicitVRLittleEndian, 2),
    ],
)
def test_files_are_converted_when_asked(
    option: str, syntax: str, sent: int, peer: Any, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    for name in ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"):
        shutil.copy(wheel / name, tmp_path)
    assert storescu.main([*peer.address, str(tmp_path), option, "--json"]) == 1
    assert peer.syntaxes == [(MRImageStorage, [syntax])]
    assert summary(capsys)["sent"] == len(peer.received) == sent


def test_compressed_files_are_not_converted(
    peer: Any, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copy(wheel / "MR_small.dcm", tmp_path)
    shutil.copy(wheel / "MR_small_RLE.dcm", tmp_path)
    assert storescu.main([*peer.address, str(tmp_path), "-xe", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["sent"] == 1
    (line,) = shown.err.splitlines()
    assert line.startswith(f"E: Not stored: {tmp_path}/MR_small_RLE.dcm: no accepted presentation")


def test_more_than_128_contexts_take_several_associations(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    instance = Dataset()
    instance.SOPInstanceUID = "1.2.3.4"
    number = 0
    for context in StoragePresentationContexts[:55]:
        for syntax in SYNTAXES:
            number += 1
            uid = f"1.2.{number}"
            dataset = encode_dataset(instance, syntax)
            head = file_head(str(context.abstract_syntax), uid, syntax)
            (tmp_path / f"{number:04}").write_bytes(head + dataset)
    assert storescu.main([*peer.address, str(tmp_path), "--json"]) == 0
    result = summary(capsys)
    assert (result["sent"], result["associations"]) == (number, 3)
    assert [len(contexts) for contexts in peer.proposed] == [128, 128, number - 256]
    numbers = [*range(1, 129), *range(1, 129), *range(1, number - 255)]  # anew on each
    assert [each.MessageID for each in peer.received] == numbers


def test_a_refused_sop_class(
    start_peer: Callable[..., Any], write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    peer = start_peer([build_context(MRImageStorage)])
    write_file("a", "1.1", CTImageStorage)
    write_file("b", "1.2", MRImageStorage)
    write_file("c", "1.3", CTImageStorage)
    assert storescu.main([*peer.address, str(tmp_path), "--json"]) == 1
    shown = capsys.readouterr()
    reason = (
        "the peer refused CT Image Storage with Explicit VR Little Endian: "
        "Abstract Syntax Not Supported"
    )
    assert shown.err == f"E: T{reason[1:]}\n"
    assert json.loads(shown.out)["failures"] == [
        {"path": f"{tmp_path}/{name}", "reason": reason, "status": None} for name in ("a", "c")
    ]
    assert [each.AffectedSOPInstanceUID for each in peer.received] == ["1.2"]


def test_a_refused_transfer_syntax_comes_with_advice(
    start_peer: Callable[..., Any], write_file: WriteFile, capsys: Capture
) -> None:
    peer = start_peer([build_context(CTImageStorage, ImplicitVRLittleEndian)])
    path = str(write_file("a"))
    assert storescu.main([*peer.address, path]) == 3
    assert "Transfer Syntax(es) Not Supported; try -xi\n" in capsys.readouterr().err
    assert storescu.main([*peer.address, path, "-xi"]) == 0


def test_a_file_with_nonsense_for_uids(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    write_file("a")
    (tmp_path / "b").write_bytes(file_head("1" * 100, "1.2", ExplicitVRLittleEndian))
    (tmp_path / "c").write_bytes(file_head(CTImageStorage, "9" * 100, ExplicitVRLittleEndian))
    assert storescu.main([*peer.address, str(tmp_path), "--json"]) == 1
    result = summary(capsys)
    assert (result["sent"], result["failed"]) == (1, 2)


# --- What the peer answers --------------------------------------------------------------------


def answering(*statuses: int | Dataset) -> Callable[[Any], Any]:
    left = iter(statuses)
    return lambda event: next(left)


def test_statuses_are_counted(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    for number in range(4):
        write_file(str(number), f"1.2.{number}")
    refusal = Dataset()
    refusal.Status, refusal.ErrorComment = 0xA700, "no room\x1b[2J"
    peer.status = answering(0x0000, 0xB000, refusal, 0x1234)
    arguments = [*peer.address, str(tmp_path), "--json", "-ll", "warn"]
    assert storescu.main(arguments) == 1
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert (result["sent"], result["warned"], result["failed"]) == (2, 1, 2)
    assert [each["status"] for each in result["failures"]] == [0xA700, 0x1234]
    assert f"W: Stored with a warning: {tmp_path}/1: 0xB000 - Warning" in shown.err
    assert f"E: Not stored: {tmp_path}/2: 0xA700 - Failure" in shown.err
    assert "no room" in shown.err
    assert "\x1b" not in shown.err
    peer.status = answering(0, 0, 0, 0xC000)
    assert storescu.main(arguments) == 1
    peer.status = answering(0, 0, 0, 0xB006)
    assert storescu.main(arguments) == 0


@pytest.mark.parametrize("lenient", [True, False])
def test_the_association_is_lost_midway(
    lenient: bool, peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    for number in range(5):
        write_file(str(number), f"1.2.{number}")
    peer.status = lambda event: event.assoc.abort() if len(peer.received) == 2 else 0x0000
    arguments = [*peer.address, str(tmp_path), "--json", *(["--lenient"] if lenient else [])]
    assert storescu.main(arguments) == int(not lenient)
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert (result["sent"], result["failed"]) == (1, 4)
    assert "E: Not sent: 3 of 5 files\n" in shown.err


def test_nobody_listens(closed_port: int, write_file: WriteFile, capsys: Capture) -> None:
    address = ["127.0.0.1", str(closed_port)]
    assert storescu.main([*address, str(write_file("a")), "--json"]) == 3
    shown = capsys.readouterr()
    assert "E: Association request failed: unable to connect to remote: " in shown.err
    assert len([line for line in shown.err.splitlines() if line.startswith("E: ")]) == 1
    result = json.loads(shown.out)
    assert (result["sent"], result["failed"], result["associations"]) == (0, 1, 0)


def test_nobody_listens_quietly(closed_port: int, write_file: WriteFile, capsys: Capture) -> None:
    assert storescu.main(["127.0.0.1", str(closed_port), str(write_file("a")), "-q"]) == 3
    assert capsys.readouterr() == ("", "")


def test_the_peer_rejects(
    start_peer: Callable[..., Any], write_file: WriteFile, capsys: Capture
) -> None:
    peer = start_peer(require_called_aet=True)
    assert storescu.main([*peer.address, str(write_file("a"))]) == 3
    assert "E: Association Rejected" in capsys.readouterr().err


def test_a_file_vanishes_before_its_turn(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    write_file("a", "1.1")
    write_file("b", "1.2")
    gone = write_file("c", "1.3")  # the one before it is read while the first is stored
    peer.status = lambda event: gone.unlink(missing_ok=True) or 0x0000
    assert storescu.main([*peer.address, str(tmp_path), "--json"]) == 1
    shown = capsys.readouterr()
    assert f"E: Not stored: {gone}: " in shown.err
    assert json.loads(shown.out)["sent"] == 2


def test_interrupted(
    peer: Any, write_file: WriteFile, tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    for number in range(3):
        write_file(str(number), f"1.2.{number}")
    send = Association.send_c_stores

    def interrupted(paths: Iterator[str]) -> Iterator[str]:
        yield next(paths)
        next(paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(
        Association, "send_c_stores", lambda self, paths: send(self, interrupted(paths))
    )
    assert storescu.main([*peer.address, str(tmp_path), "--json"]) == 130
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert (result["sent"], result["failed"]) == (1, 2)
    assert "E: Not sent: 1 of 3 files: interrupted; with --resume FILE, a run " in shown.err
    assert peer.how_it_ended() == "aborted"


# --- What is shown ----------------------------------------------------------------------------


def test_progress_and_summary_on_a_terminal(
    peer: Any,
    write_file: WriteFile,
    tmp_path: Path,
    new_terminal: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        write_file(str(number), f"1.2.{number}")
    peer.status = answering(0, 0, 0xC000)
    terminal = new_terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert storescu.main([*peer.address, str(tmp_path)]) == 1
    shown = terminal.getvalue()
    assert "\r\x1b[K1 of 3 files, 33 % of 0.0 MB, " in shown
    assert "\r\x1b[KE: Not stored: " in shown
    assert shown.split("\n")[-2].startswith("\r\x1b[K2 sent (0 with a warning), 1 failed, ")


def test_no_progress_for_the_quiet(
    peer: Any,
    write_file: WriteFile,
    new_terminal: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = new_terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert storescu.main([*peer.address, str(write_file("a")), "-q"]) == 0
    assert terminal.getvalue() == ""


def test_summary_in_the_log(peer: Any, write_file: WriteFile, capsys: Capture) -> None:
    assert storescu.main([*peer.address, str(write_file("a")), "-v"]) == 0
    shown = capsys.readouterr().err
    assert "I: 1 sent (0 with a warning), 0 failed, 0.0 MB in " in shown
    assert " MB/s\n" in shown


def test_summary_as_json(peer: Any, write_file: WriteFile, capsys: Capture) -> None:
    path = write_file("a")
    assert storescu.main([*peer.address, str(path), "--json"]) == 0
    result = summary(capsys)
    assert result.pop("seconds") > 0
    assert result.pop("mb_per_second") > 0
    assert result == {
        "sent": 1,
        "warned": 0,
        "failed": 0,
        "skipped": 0,
        "resumed": 0,
        "bytes": path.stat().st_size,
        "associations": 1,
        "failures": [],
    }


def test_what_pydicom_says_of_values_is_for_debugging(
    peer: Any, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    ds = dcmread(wheel / "MR_small.dcm")
    path = tmp_path / "odd.dcm"
    ds.save_as(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"19950705", b"SECRET05"))
    assert storescu.main([*peer.address, str(path), "-xi", "-v"]) == 0
    assert "SECRET" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["localhost", "104"],
        ["localhost", "0", "file"],
        ["localhost", "104", "file", "-xe", "-xb"],
        ["localhost", "104", "file", "-q", "-d"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        storescu.main(arguments)
    assert end.value.code == 2
    assert "dicomwire storescu: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "image_dfl.dcm", "MR_small_RLE.dcm"])
def test_compressed_and_deflated_files(name: str, peer: Any, wheel: Path) -> None:
    path = wheel / name
    head = parse_file_meta(path.read_bytes())
    assert storescu.main([*peer.address, str(path)]) == 0
    assert peer.syntaxes == [(head.sop_class_uid, [head.transfer_syntax_uid])]
    assert peer.bytes_received == [padded(path.read_bytes()[head.offset :])]


def padded(dataset: bytes) -> bytes:
    """Return `dataset` as it is sent: with a NUL where its length is odd (PS3.5 Annex A.5)."""
    return dataset + bytes(len(dataset) % 2)
