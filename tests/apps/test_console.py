from __future__ import annotations

import logging
import warnings
from argparse import Namespace

import pytest

from dicomwire.apps.console import LIBRARY, Console, Stop, run

Capture = pytest.CaptureFixture[str]
LOGGER = logging.getLogger("dicomwire.someapp")


def options(**chosen: object) -> Namespace:
    return Namespace(
        **{"quiet": False, "verbose": False, "debug": False, "log_level": None, **chosen}
    )


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
