from __future__ import annotations

import subprocess
import sys

import pytest

from dicomwire import __version__
from dicomwire.__main__ import APPS, main


def test_help_lists_the_applications(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, purpose in APPS.items():
        assert any(name in line and purpose in line for line in shown.splitlines())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dicomwire {__version__}\n"


def test_no_argument_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: dicomwire")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("echoscuu", "did you mean echoscu or echoscp?"),
        ("Storescp", "did you mean storescp or storescu?"),
        ("xyzzy", f"there are {', '.join(APPS)}"),
    ],
)
def test_an_unknown_application(name: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2
    assert capsys.readouterr().err == f"dicomwire: there is no application '{name}': {advice}\n"


def test_the_arguments_come_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dicomwire", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("app", sorted(APPS))
def test_every_application_says_its_version_and_explains_itself(
    app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as end:
            main([app, option])
        assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{app}.py v{__version__}\n")
    assert f"usage: dicomwire {app}" in shown
    assert "exit codes" in shown


def test_an_application_is_imported_when_it_is_wanted() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dicomwire", "echoscu", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"echoscu.py v{__version__}\n"
    assert "dicomwire.apps.requesting" in done.stderr
    assert "dicomwire.apps.storescu" not in done.stderr
    assert "dicomwire.apps.serving" not in done.stderr
