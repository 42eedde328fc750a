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
        ("echoscuu", " (did you mean echoscu or echoscp?)"),
        ("Storescp", " (did you mean storescp or storescu?)"),
        ("xyzzy", ""),
    ],
)
def test_an_unknown_application(name: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"dicomwire: there is no application '{name}'{advice}; see dicomwire --help\n"
    for args in ([name], ["help", name]):
        assert main(args) == 2
        assert capsys.readouterr().err == line


@pytest.mark.parametrize("app", sorted(APPS))
def test_help_of_an_application(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for args in (["help", app], [app, "--help"]):
        with pytest.raises(SystemExit):
            main(args)
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert shown[0]


def test_help_alone_is_the_help_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] * 2 == shown


@pytest.mark.parametrize(
    ("app", "first"),
    [
        ("echoscu", "requests:"),
        ("findscu", "query keys:"),
        ("getscu", "query keys:"),
        ("movescu", "query keys:"),
        ("storescp", "received objects:"),
        ("storescu", "files:"),
    ],
)
def test_help_begins_with_options_of_the_application_and_ends_with_tls_and_examples(
    app: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([app, "--help"])
    lines = capsys.readouterr().out.splitlines()
    headings = [line for line in lines if line.endswith(":") and line[0] != " "]
    own = headings[headings.index("options:") + 1 :]
    assert own[0] == first
    assert own[-2:] == ["TLS (PS3.15 Annex B):", "examples:"]
    assert own.index("network:") < own.index("log, on standard error:")
    assert lines[-1].startswith("  dicomwire ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["localhost", "104", "x", "--recursve"],
            "there is no option --recursve (did you mean --recursive?)",
        ),
        (["localhost", "104", "x", "--aec=Y"], "there is no option --aec (did you mean -aec?)"),
        (["localhost", "104", "x", "--zzzzzz"], "there is no option --zzzzzz"),
        (["localhost"], "the following arguments are required: port, path"),
        (["localhost", "0", "x"], "argument port: '0' is not a port number (1 to 65535)"),
    ],
)
def test_a_usage_error_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["storescu", *arguments])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"dicomwire storescu: {message}; see dicomwire storescu --help\n"


def test_too_many_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["echoscu", "localhost", "104", "more", "words"])
    told = "too many arguments: more words"
    assert capsys.readouterr().err == f"dicomwire echoscu: {told}; see dicomwire echoscu --help\n"


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
    assert shown.startswith(f"dicomwire {__version__}\n")
    assert f"usage: dicomwire {app}" in shown
    assert "exit codes" in shown


def test_an_application_is_imported_when_it_is_wanted() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dicomwire", "echoscu", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"dicomwire {__version__}\n"
    assert "dicomwire.apps.requesting" in done.stderr
    assert "dicomwire.apps.storescu" not in done.stderr
    assert "dicomwire.apps.serving" not in done.stderr
