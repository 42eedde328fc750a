"""storescp: folders by patient, study and series; commands for objects and associations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation

from dicomwire import build_context
from dicomwire.apps import storescp
from dicomwire.apps.commands import Runner, filled, harmless
from dicomwire.apps.sorting import safe_name
from dicomwire.data.file_meta import parse_file_meta

Capture = pytest.CaptureFixture[str]
Serve = Callable[..., Any]


def send(app: Any, path: Path) -> int:
    head = parse_file_meta(path.read_bytes())
    with app.associate(build_context(head.sop_class_uid, head.transfer_syntax_uid)) as association:
        status: int = association.send_c_store(path).Status
    return status


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def image(wheel: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return what writes an image with other values in its dataset."""

    def write(**values: Any) -> Path:
        ds = dcmread(wheel / "CT_small.dcm")
        for keyword, value in values.items():
            with disable_value_validation():
                setattr(ds, keyword, value)
        path = tmp_path / "image.dcm"
        ds.save_as(path)
        return path

    return write


# --- Folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["patient", "study", "series"])
def test_files_are_sorted(
    level: str, serve: Serve, image: Callable[..., Path], tmp_path: Path
) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"), "--sort", level)
    path = image(PatientID="a/b", StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    assert send(app, path) == 0x0000
    folders = {"patient": "a%2Fb", "study": "a%2Fb/1.2", "series": "a%2Fb/1.2/1.3"}
    uid = dcmread(path).SOPInstanceUID
    assert files_in(tmp_path / "out") == [f"{folders[level]}/CT.{uid}"]
    assert dcmread(tmp_path / "out" / folders[level] / f"CT.{uid}").SOPInstanceUID == uid


HOSTILE = {
    "..": "%2E%2E",
    "../../etc/passwd": "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd",
    "/etc": "%2Fetc",
    "a\0b": "a%00b",
    "": "unknown",
    "x" * 100: "x" * 64,
    "Grün 1": "Gr%C3%BCn%201",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_has_nothing_that_paths_are_made_of(text: str) -> None:
    assert safe_name(text) == HOSTILE[text]


def test_hostile_identifiers_stay_within_the_folder(
    serve: Serve, image: Callable[..., Path], tmp_path: Path
) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"), "--sort", "series")
    path = image(PatientID="..", StudyInstanceUID="..", SeriesInstanceUID="../../x")
    assert send(app, path) == 0x0000
    assert [name.rpartition("/")[0] for name in files_in(tmp_path / "out")] == ["%2E%2E/__/.._..__"]


def test_an_object_without_identifiers_is_kept(
    serve: Serve, write_file: Callable[..., Path], tmp_path: Path
) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"), "--sort", "series")
    assert send(app, write_file("a")) == 0x0000
    assert files_in(tmp_path / "out") == ["unknown/unknown/unknown/CT.1.2.3"]


def test_a_folder_that_cannot_be_made_is_a_failure(
    serve: Serve, write_file: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "unknown").write_text("in the way")
    app = serve(storescp.main, "-od", str(tmp_path / "out"), "--sort", "patient")
    assert send(app, write_file("a")) == 0xA700
    assert files_in(tmp_path / "out") == ["unknown"]
    app.stop()
    assert "E: Cannot sort 1.2.3: " in capsys.readouterr().err


def test_what_is_overwritten_is_said(
    serve: Serve, write_file: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    app = serve(storescp.main, "-v", "-od", str(tmp_path / "out"), "--sort", "patient")
    for _ in range(2):
        assert send(app, write_file("a")) == 0x0000
    app.stop()
    assert "overwriting: " in capsys.readouterr().err


# --- Commands ---------------------------------------------------------------------------------

NOTE = "import json, sys; open(sys.argv[1], 'a').write(json.dumps(sys.argv[2:]) + chr(10))"


def notes(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_commands_for_objects_and_associations(
    serve: Serve, image: Callable[..., Path], tmp_path: Path
) -> None:
    note = f'"{sys.executable}" -c "{NOTE}" "{tmp_path}/notes"'
    app = serve(
        *(storescp.main, "-od", str(tmp_path / "out")),
        *("--exec", f"{note} {{path}} '{{study}} of {{calling}}'"),
        *("--exec-end", f"{note} {{count}} {{called}} {{address}}"),
    )
    path = image(StudyInstanceUID="1.2.840")
    assert send(app, path) == 0x0000
    app.stop()  # waits for the commands
    uid = dcmread(path).SOPInstanceUID
    assert sorted(notes(tmp_path / "notes")) == [
        [str(tmp_path / "out" / f"CT.{uid}"), "1.2.840 of TESTER"],
        ["1", "ANY-SCP", "127.0.0.1"],
    ]


def test_a_failed_command_changes_no_answer(
    serve: Serve, write_file: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    app = serve(
        *(storescp.main, "-od", str(tmp_path / "out")),
        *("--exec", f'"{sys.executable}" -c "raise SystemExit(3)" {{instance}}'),
        *("--exec-end", "/no/such/program"),
    )
    assert send(app, write_file("a")) == 0x0000
    app.stop()
    shown = capsys.readouterr().err
    assert "E: Command failed with exit code 3: " in shown
    assert "E: Command failed: /no/such/program: [Errno 2] No such file" in shown
    assert files_in(tmp_path / "out") == ["CT.1.2.3"]


def test_a_value_stays_within_its_argument() -> None:
    words = ["look", "{path}", "--from={calling}"]
    values = {"path": "/a b;c/$(d)", "calling": harmless("-rf *\n{path}")}
    assert filled(words, values) == ["look", "/a b;c/$(d)", "--from=_rf____path_"]


def test_too_many_commands_are_not_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dicomwire.apps.commands.WAITING", 0)
    Runner(storescp.LOGGER).submit(["look", "a b"])
    assert caplog.messages == ["Not run, since 0 commands wait: look 'a b'"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--exec", "look {patient}"], "there is no {patient}; there are {path}, {folder}, "),
        (["--exec", "look 'a"], "No closing quotation"),
        (["--exec-end", ""], "a command has at least one word"),
        (["--sort", "date"], "invalid choice: 'date'"),
    ],
)
def test_wrong_commands(arguments: list[str], text: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        storescp.main(["0", *arguments])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_nothing_can_be_done_with_objects_that_are_not_kept(capsys: Capture) -> None:
    assert storescp.main(["0", "--ignore", "--sort", "study"]) == 2
    assert "leave out --ignore" in capsys.readouterr().err
