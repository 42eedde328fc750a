from __future__ import annotations

import json
import logging
import re
import warnings
from argparse import Namespace
from pathlib import Path

import pytest

from dicomwire.apps.console import LIBRARY, Console, Stop, run
from dicomwire.apps.log_output import RotatedFile

Capture = pytest.CaptureFixture[str]
LOGGER = logging.getLogger("dicomwire.someapp")


def options(**chosen: object) -> Namespace:
    flags = dict.fromkeys(("quiet", "verbose", "debug", "log_json", "log_times"), False)
    return Namespace(**{**flags, "log_level": None, "log_file": None, **chosen})


def test_the_logger_is_given_back() -> None:
    before = LIBRARY.handlers[:], LIBRARY.level, warnings.showwarning
    with Console(options(debug=True)):
        assert LIBRARY.level == logging.DEBUG
    assert (LIBRARY.handlers, LIBRARY.level, warnings.showwarning) == before


def test_whatever_is_raised_is_one_line(capsys: Capture) -> None:
    def fail(*_: object) -> int:
        raise LookupError("no\nsuch thing")

    assert run(options(), fail) == 1
    assert capsys.readouterr().err == "E: no\\nsuch thing\n"


def test_an_error_without_words_has_a_name(capsys: Capture) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError

    assert run(options(), fail) == 1
    assert capsys.readouterr().err == "E: ZeroDivisionError\n"


def test_the_traceback_is_for_debugging(capsys: Capture) -> None:
    def fail(*_: object) -> int:
        raise LookupError("no such thing")

    assert run(options(debug=True), fail) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", [{}, {"debug": True}])
def test_a_reason_to_stop_is_one_line(chosen: dict[str, object], capsys: Capture) -> None:
    def stop(*_: object) -> int:
        raise Stop("no file\nthere: make one")

    assert run(options(**chosen), stop) == 1
    assert capsys.readouterr().err == "E: no file\\nthere: make one\n"


def test_ctrl_c_is_no_error(capsys: Capture) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    assert run(options(), interrupted) == 130
    assert capsys.readouterr() == ("", "")


def test_python_warnings_are_for_debugging(capsys: Capture) -> None:
    def warn(*_: object) -> int:
        warnings.showwarning("a patient's name", UserWarning, "values.py", 1)
        return 0

    assert run(options(verbose=True), warn) == 0
    assert capsys.readouterr().err == ""
    assert run(options(debug=True), warn) == 0
    assert capsys.readouterr().err == "D: a patient's name\n"


def test_quiet_is_quiet_whatever_else_is_said(capsys: Capture) -> None:
    def complain(*_: object) -> int:
        LOGGER.critical("fire")
        return 0

    assert run(options(quiet=True, log_level="debug"), complain) == 0
    assert capsys.readouterr() == ("", "")


# --- The log as JSON, and in a file -----------------------------------------------------------


def say(*_: object) -> int:
    LOGGER.info("stored", extra={"dicom": {"association": 3, "status": "0x0000"}})
    LOGGER.error("a failure", exc_info=KeyError("a bug"))
    return 0


def test_the_log_as_json(capsys: Capture) -> None:
    assert run(options(verbose=True, log_json=True), say) == 0
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time")[:2] == "20"
    assert first == {
        "level": "INFO",
        "logger": "dicomwire.someapp",
        "message": "stored",
        "association": 3,
        "status": "0x0000",
    }
    assert second["exception"] == "KeyError: 'a bug'"


@pytest.mark.parametrize("quiet", [False, True])
def test_the_log_in_a_file(quiet: bool, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "log"
    assert run(options(verbose=not quiet, quiet=quiet, log_file=str(path)), say) == 0
    assert (capsys.readouterr().err == "") == quiet
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} I: stored\n", path.read_text())


def test_a_log_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    assert run(options(log_file=str(tmp_path / "no" / "log")), say) == 1
    assert capsys.readouterr().err.startswith("E: Cannot write the log to ")


def test_a_large_log_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handlers = [RotatedFile(str(path), largest=100, kept=2) for _ in range(2)]
    for number in range(12):  # two processes that write by turns
        handlers[number % 2].emit(logging.makeLogRecord({"msg": f"{number:02} {'x' * 40}"}))
    for handler in handlers:
        handler.close()
    kept = sorted(tmp_path.iterdir())
    assert [each.name for each in kept] == ["log", "log.1", "log.2"]
    lines = [line[:2] for each in reversed(kept) for line in each.read_text().splitlines()]
    assert lines == sorted(lines)  # none is lost from the middle
    assert lines[-1] == "11"
