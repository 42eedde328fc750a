"""`dicomwire node users`: adds, shows and removes users and their tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomwire.apps.node import main
from dicomwire.node import users as users_module
from dicomwire.node.users import UserRight, Users

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(users_module, "_COST", 2)

    def run(command: str, *args: str, stdin: str = "secret word\n") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        return main(["users", command, "--folder", str(tmp_path), *args])

    return run


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return Users(tmp_path / "users.json")


def test_a_user_is_added_with_the_password_of_standard_input(run: Run, users: Users) -> None:
    assert run("add", "jane", "--rights", "see,send", "--studies", "PatientID=A*") == 0
    jane = users.of_password("jane", "secret word")
    assert jane is not None
    assert jane.rights == {UserRight.SEE, UserRight.SEND}
    assert jane.studies is not None


def test_a_password_is_changed(run: Run, users: Users) -> None:
    run("add", "jane")
    assert run("password", "jane", stdin="other word\n") == 0
    assert users.of_password("jane", "other word") is not None


def test_a_token_is_printed_once_and_revoked(run: Run, users: Users, capsys: Capture) -> None:
    assert run("add", "ai", "--no-password", "--rights", "all", stdin="") == 0
    assert run("token", "ai", "--days", "1") == 0
    token = capsys.readouterr().out.strip()
    assert users.of_token(token) == users.user("ai")
    assert run("revoke", "ai") == 0
    assert users.of_token(token) is None


def test_users_are_listed_without_secrets(run: Run, capsys: Capture) -> None:
    run("add", "jane", "--studies", "PatientID=A*")
    capsys.readouterr()
    assert run("list") == 0
    assert capsys.readouterr().out == "jane: see; PatientID=A*; a password, 0 tokens\n"
    assert run("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "jane",
        "rights": ["see"],
        "studies": ["PatientID=A*"],
        "password": True,
        "tokens": [],
    }
    assert run("remove", "jane") == 0
    assert run("list") == 0
    assert capsys.readouterr().out.startswith("no users")


def test_the_file_is_that_of_the_configuration(tmp_path: Path, run: Run) -> None:
    config = tmp_path / "node.toml"
    config.write_text('users = "people.json"\n')
    assert main(["users", "list", "-c", str(config)]) == 0
    assert run("add", "jane", "-c", str(config)) == 0
    assert Users(tmp_path / "people.json").user("jane") is not None


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["add", "jane", "--studies", "Height=1"], "is not ATTRIBUTE=VALUE"),
        (["password", "joe"], "there is no user 'joe'"),
        (["token", "joe"], "there is no user 'joe'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Run, capsys: Capture, args: list[str], reason: str
) -> None:
    assert run(*args) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_an_empty_or_short_password_is_refused(run: Run, users: Users, capsys: Capture) -> None:
    for password in ("", "\n", "short\n"):
        assert run("add", "jane", stdin=password) == 1
    assert not users


@pytest.mark.parametrize(
    "args", [["add", "jane", "--rights", "fly"], ["token", "jane", "--days", "0"], []]
)
def test_wrong_arguments_are_a_misuse(run: Run, args: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*args or ["fly"])
    assert ended.value.code == 2
