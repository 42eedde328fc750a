"""The file of users: passwords, tokens, rights, and changes by other processes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dicomwire.node import users as users_module
from dicomwire.node.users import User, UserRight, Users, UsersFailure

SEE, STORE = UserRight.SEE, UserRight.STORE
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scrypt take no time; its cost is part of each digest."""
    monkeypatch.setattr(users_module, "_COST", 2)


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return Users(tmp_path / "users.json")


def test_without_a_file_there_are_no_users(users: Users) -> None:
    assert not users
    assert users.user("jane") is None
    assert users.of_token("dw_x") is None
    assert users.of_password("jane", PASSWORD) is None


def test_a_user_has_rights_and_a_filter(users: Users) -> None:
    users.add("jane", (SEE, STORE), ("PatientID=A*",), PASSWORD)
    jane = users.user("jane")
    assert jane is not None
    assert jane.rights == {SEE, STORE}
    assert jane.studies is not None
    assert jane.studies.texts == ("PatientID=A*",)


def test_only_the_right_password_is_that_of_a_user(users: Users) -> None:
    users.add("jane", (SEE,), (), PASSWORD)
    assert users.of_password("jane", PASSWORD) == users.user("jane")
    for name, password in [
        ("jane", "wrong horse"),
        ("jane", ""),
        ("jane", "x" * 100_000),
        ("jane", "\ud800"),
        ("Jane", PASSWORD),
        ("", PASSWORD),
        ("nobody", ""),
    ]:
        assert users.of_password(name, password) is None


def test_a_user_without_a_password_cannot_log_in(users: Users) -> None:
    users.add("ai", (SEE,))
    assert users.of_password("ai", "") is None


def test_a_token_is_valid_until_it_expires_and_is_not_in_the_file(users: Users) -> None:
    users.add("ai", (SEE,))
    token = users.add_token("ai", 60)
    assert users.of_token(token) == User("ai", frozenset({SEE}))
    assert token not in users.path.read_text()
    assert users.of_token(users.add_token("ai", -1)) is None
    assert users.of_token(token) is not None  # not the only one
    assert users.of_token("") is None


def test_expired_tokens_are_removed_with_the_next_one(users: Users) -> None:
    users.add("ai", (SEE,))
    users.add_token("ai", -1)
    users.add_token("ai", 60)
    assert len(users.accounts["ai"].tokens) == 1


def test_revoked_tokens_and_removed_users_are_unknown(users: Users) -> None:
    users.add("ai", (SEE,))
    token = users.add_token("ai", 60)
    assert users.revoke("ai") == 1
    assert users.of_token(token) is None
    token = users.add_token("ai", 60)
    users.remove("ai")
    assert users.of_token(token) is None
    assert not users


def test_changed_rights_keep_password_and_tokens(users: Users) -> None:
    users.add("jane", (SEE,), (), PASSWORD)
    token = users.add_token("jane", 60)
    users.add("jane", (STORE,))
    jane = users.of_password("jane", PASSWORD)
    assert jane is not None
    assert jane.rights == {STORE}
    assert users.of_token(token) == jane


def test_another_process_changes_the_file(users: Users) -> None:
    other = Users(users.path)
    assert not other
    users.add("jane", (SEE,), (), PASSWORD)
    assert other.user("jane") is not None
    users.path.unlink()
    assert not other


def test_the_file_is_for_its_owner_only_and_nothing_is_left_beside_it(users: Users) -> None:
    users.add("jane", (SEE,), (), PASSWORD)
    users.set_password("jane", "another one")
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert sorted(each.name for each in users.path.parent.iterdir()) == [
        "users.json",
        "users.json.lock",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "it is invalid"),
        ("[]", "it is invalid"),
        ('{"jane": {}}', "rights is invalid"),
        ('{"jane": {"rights": ["fly"]}}', "rights.0 is invalid"),
        ('{"jane": {"rights": [], "more": 1}}', "more is invalid"),
        ('{"jane": {"rights": [], "password": "plain"}}', "password is invalid"),
        ('{"jane": {"rights": [], "studies": ["Height=1"]}}', "is not ATTRIBUTE=VALUE"),
    ],
)
def test_a_file_that_is_not_understood_lets_nobody_in(users: Users, text: str, reason: str) -> None:
    users.path.write_text(text)
    with pytest.raises(UsersFailure, match=reason):
        bool(users)
    with pytest.raises(UsersFailure, match=reason):
        users.add("joe", (SEE,))
    assert users.path.read_text() == text


def test_who_administers_has_no_filter(users: Users) -> None:
    with pytest.raises(UsersFailure, match="sees all studies"):
        users.add("jane", (UserRight.ADMINISTER,), ("PatientID=A",))


@pytest.mark.parametrize("name", ["", " jane", "a\nb", "x" * 65])
def test_a_name_that_cannot_be_used_is_an_error(users: Users, name: str) -> None:
    with pytest.raises(UsersFailure, match="a name has"):
        users.add(name, (SEE,))


@pytest.mark.parametrize("password", ["short", "x" * 2000])
def test_a_password_that_is_too_short_or_long_is_an_error(users: Users, password: str) -> None:
    with pytest.raises(UsersFailure, match="a password has"):
        users.add("jane", (SEE,), (), password)


def test_what_an_unknown_user_gets_is_an_error(users: Users) -> None:
    for change in (users.remove, users.revoke):
        with pytest.raises(UsersFailure, match="there is no user"):
            change("joe")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsersFailure, match="cannot be changed"):
        Users(tmp_path / "file" / "users.json").add("jane", (SEE,))


def test_the_real_cost_of_a_password_is_that_of_32_megabytes(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    users.add("jane", (SEE,), (), PASSWORD)
    stored = json.loads(users.path.read_text())["jane"]["password"]
    assert stored.startswith("scrypt$32768$")
    assert users.of_password("jane", PASSWORD) is not None
