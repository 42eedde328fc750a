"""TLS and user identity on the command line: every option, on every application."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import PASSWORD, Certificates
from dicomwire import evt, sop_class
from dicomwire.apps import (
    echoscp,
    echoscu,
    findscu,
    getscu,
    identity,
    movescu,
    storescp,
    storescu,
    users,
)
from dicomwire.pdu_primitives import UserIdentityNegotiation
from dicomwire.presentation import build_context
from dicomwire.tls import Profile, client_context

Capture = pytest.CaptureFixture[str]
Serve = Callable[..., Any]

QUERY = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
CURRENT = [profile.value for profile in Profile if not profile.is_retired]


@pytest.fixture
def shown(certificates: Certificates) -> list[str]:
    """What a server is told."""
    pair = certificates.server
    return ["--tls", "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]


@pytest.fixture
def trusting(certificates: Certificates) -> list[str]:
    """What a client is told."""
    return ["--tls", "--tls-ca", str(certificates.ca)]


@pytest.fixture
def own(certificates: Certificates) -> list[str]:
    """What a client is told that has to show a certificate."""
    pair = certificates.client
    return ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]


def at(app: Any) -> list[str]:
    return ["127.0.0.1", str(app.port)]


# --- TLS --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", CURRENT)
def test_echo(profile: str, serve: Serve, shown: list[str], trusting: list[str]) -> None:
    app = serve(echoscp.main, *shown, "--tls-profile", profile)
    assert echoscu.main([*at(app), *trusting, "--tls-profile", profile]) == 0


def test_store(
    serve: Serve,
    shown: list[str],
    trusting: list[str],
    own: list[str],
    certificates: Certificates,
    write_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "received"
    mutual = ["--tls-ca", str(certificates.ca)]
    app = serve(storescp.main, *shown, *mutual, "-od", str(folder))
    files = [str(write_file(f"{n}.dcm", f"1.2.{n}")) for n in range(3)]
    assert storescu.main([*at(app), *files, *trusting, *own]) == 0
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(("option", "code"), [("-q", 3), ("--tls-no-verify", 0)])
def test_who_shows_no_certificate_stays_out_unless_told_otherwise(
    option: str,
    code: int,
    serve: Serve,
    shown: list[str],
    trusting: list[str],
    certificates: Certificates,
    capsys: Capture,
) -> None:
    app = serve(echoscp.main, *shown, "--tls-ca", str(certificates.ca), option)
    assert echoscu.main([*at(app), *trusting]) == code
    assert ("requires a certificate of ours" in capsys.readouterr().err) is bool(code)


@pytest.fixture
def archive(
    serve: Serve,
    certificates: Certificates,
    shown: list[str],
    wheel: Path,
    capsys: Capture,
) -> Any:
    """A peer that speaks TLS, has a CT image, and moves it to the port that was logged."""
    found = wheel / "CT_small.dcm"
    storage = [build_context(sop_class.CTImageStorage)]

    def find(event: evt.Event) -> Iterator[Any]:
        yield 0xFF00, event.identifier

    def get(event: evt.Event) -> Iterator[Any]:
        yield 1
        yield 0xFF00, found

    def move(event: evt.Event) -> Iterator[Any]:
        port = re.search(r"receives on 127.0.0.1, port (\d+)", capsys.readouterr().err)
        assert port is not None
        tls = client_context(Profile.BCP195, certificates.ca, *certificates.client)
        yield "127.0.0.1", int(port[1]), {"contexts": storage, "tls_args": (tls, None)}
        yield 1
        yield 0xFF00, found

    app = serve(echoscp.main, *shown)
    ae = app.server.ae
    for uid in (
        sop_class.PatientRootQueryRetrieveInformationModelFind,
        sop_class.PatientRootQueryRetrieveInformationModelGet,
        sop_class.PatientRootQueryRetrieveInformationModelMove,
    ):
        ae.add_supported_context(uid)
    ae.add_supported_context(sop_class.CTImageStorage, scu_role=True, scp_role=True)
    app.server.contexts = ae.supported_contexts
    app.server.bind(evt.EVT_C_FIND, find)
    app.server.bind(evt.EVT_C_GET, get)
    app.server.bind(evt.EVT_C_MOVE, move)
    return app


def test_find(archive: Any, trusting: list[str], capsys: Capture) -> None:
    assert findscu.main([*at(archive), *QUERY, *trusting]) == 0
    assert "1.2.3" in capsys.readouterr().out


def test_get(archive: Any, trusting: list[str], tmp_path: Path) -> None:
    options = [*QUERY, *trusting, "-od", str(tmp_path)]
    assert getscu.main([*at(archive), *options]) == 0
    assert [each.name[:3] for each in tmp_path.iterdir()] == ["CT."]


def test_move_and_its_receiver(
    archive: Any, trusting: list[str], own: list[str], shown: list[str], tmp_path: Path
) -> None:
    """The sub-association is over TLS too, and its requestor has to show a certificate."""
    options = [*QUERY, *trusting, *shown, "-od", str(tmp_path)]
    receiver = ["--store", "--store-port", "0"]
    assert movescu.main([*at(archive), *options, *receiver]) == 0
    assert [each.name[:3] for each in tmp_path.iterdir()] == ["CT."]


def test_a_receiver_needs_a_certificate(
    archive: Any, trusting: list[str], tmp_path: Path, capsys: Capture
) -> None:
    options = [*QUERY, *trusting, "--store", "--store-port", "0", "-od", str(tmp_path)]
    assert movescu.main([*at(archive), *options, "-ll", "error"]) == 2
    assert "needs a certificate for TLS: give --tls-cert" in capsys.readouterr().err


def test_an_authority_that_is_not_trusted(
    serve: Serve, shown: list[str], certificates: Certificates, capsys: Capture
) -> None:
    app = serve(echoscp.main, *shown, "-q")
    assert echoscu.main([*at(app), "--tls", "--tls-ca", str(certificates.other_ca)]) == 3
    assert "certificate was not accepted: " in capsys.readouterr().err
    assert echoscu.main([*at(app), "--tls", "--tls-no-verify"]) == 0


def test_one_end_without_tls(
    serve: Serve, shown: list[str], trusting: list[str], peer: Any, capsys: Capture
) -> None:
    app = serve(echoscp.main, *shown)
    assert echoscu.main(at(app)) == 3
    assert app.stop() == 0
    told = capsys.readouterr().err
    assert "; try --tls\n" in told
    assert echoscu.main([*peer.address, *trusting]) == 3
    assert "TLS on this" in capsys.readouterr().err


@pytest.fixture
def locked(certificates: Certificates) -> list[str]:
    """What a server is told whose key has a password."""
    pair = certificates.locked
    return ["--tls", "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]


@pytest.mark.parametrize("kind", ["env", "file"])
def test_the_password_of_a_key(
    kind: str,
    serve: Serve,
    trusting: list[str],
    locked: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = tmp_path / "password"
    kept.write_text(f"{PASSWORD}\nand more\n")
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)
    source = "env:KEY_PASSWORD" if kind == "env" else f"file:{kept}"
    app = serve(echoscp.main, *locked, "--tls-key-password", source)
    assert echoscu.main([*at(app), *trusting]) == 0


def test_a_password_that_cannot_be_had(locked: list[str], capsys: Capture) -> None:
    for options, told in (
        (
            ["--tls-key-password", "env:NO_SUCH_VARIABLE"],
            "The environment has no variable NO_SUCH_VARIABLE",
        ),
        (["--tls-key-password", "file:/dev/null"], "The secret of file:/dev/null is empty"),
        (["--tls-key-password", "file:/nowhere"], "Cannot read /nowhere: No such file"),
        ([], "is encrypted: it needs a password"),
    ):
        assert echoscp.main(["0", *locked, *options]) == 1
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tls"], "A server needs a certificate for TLS: give --tls-cert; see --help"),
        (["--tls-cert", "x"], "--tls-cert needs --tls; see --help"),
        (["--tls-no-verify"], "--tls-no-verify needs --tls; see --help"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], told: str, capsys: Capture) -> None:
    assert echoscp.main(["0", *options]) == 2
    assert capsys.readouterr().err == f"E: {told}\n"


def test_a_certificate_that_cannot_be_read(capsys: Capture) -> None:
    assert echoscp.main(["0", "--tls", "--tls-cert", "/nowhere"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot read the certificate: /nowhere: " in line


@pytest.mark.parametrize(
    ("options", "code"), [(["--tls-ca", "/nowhere"], 2), (["--tls", "--tls-ca", "/nowhere"], 1)]
)
def test_a_client_is_told_too(options: list[str], code: int, capsys: Capture) -> None:
    assert echoscu.main(["127.0.0.1", "1", *options]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [["--tls-key-password", "secret"], ["--tls-key-password", "env:"], ["--tls-profile", "best"]],
)
def test_wrong_arguments(options: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        echoscu.main(["localhost", "104", *options])
    assert end.value.code == 2
    assert "dicomwire echoscu: " in capsys.readouterr().err


APPS = [echoscp, echoscu, findscu, getscu, movescu, storescp, storescu]


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.__name__)
def test_every_application_has_the_options(app: Any, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        app.main(["--help"])
    told = capsys.readouterr().out
    for option in ("cert", "key", "ca", "profile", "no-verify", "key-password"):
        assert f"--tls-{option}" in told
    scu = ["--user", "--password", "--jwt", "--saml", "--kerberos"]
    for option in ["--users"] if app.__name__.endswith("scp") else scu:
        assert option in told


# --- User identity ----------------------------------------------------------------------------


@pytest.fixture
def known(tmp_path: Path) -> list[str]:
    """What a server is told that knows Jane."""
    path = tmp_path / "users"
    path.write_text(f"# who may come\n\n{identity.user_line('Jäne:2', 'sesame')}\n")
    return ["--users", str(path)]


def identified(start_peer: Callable[..., Any], options: list[str]) -> tuple[Any, ...]:
    """Return what a peer is told of the user."""
    told: list[evt.Event] = []

    def identify(event: evt.Event) -> tuple[bool, None]:
        told.append(event)
        return True, None

    peer = start_peer(handlers=[(evt.EVT_USER_ID, identify)])
    assert echoscu.main([*peer.address, *options]) == 0
    return tuple(
        (each.user_id_type, each.primary_field, each.secondary_field or b"") for each in told
    )


def test_who_the_user_is(
    start_peer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"a.b.c\n")
    monkeypatch.setenv("PASSCODE", "sesame")
    named = ["--user", "Jäne"]
    name = "Jäne".encode()
    for options, told in (
        ([], ()),
        (named, ((1, name, b""),)),
        ([*named, "--password", "sesame"], ((2, name, b"sesame"),)),
        ([*named, "--password-from", "env:PASSCODE"], ((2, name, b"sesame"),)),
        (["--kerberos", str(token)], ((3, b"a.b.c\n", b""),)),
        (["--saml", str(token)], ((4, b"a.b.c\n", b""),)),
        (["--jwt", str(token)], ((5, b"a.b.c", b""),)),
    ):
        assert identified(start_peer, options) == told


def test_identity_comes_with_extended_negotiation(start_peer: Callable[..., Any]) -> None:
    peer = start_peer([build_context(sop_class.PatientRootQueryRetrieveInformationModelFind)])
    options = [*QUERY, "--user", "jane", "--fuzzy-names"]
    findscu.main([*peer.address, *options])
    (requestor,) = peer.requestors
    assert requestor.user_identity.primary_field == b"jane"
    assert len(requestor.sop_class_extended) == 1


def test_only_users_in_the_file_are_served(serve: Serve, known: list[str], capsys: Capture) -> None:
    app = serve(echoscp.main, "-v", *known)
    jane = "Jäne:2".encode()
    with app.associate(ext_neg=[UserIdentityNegotiation(2, False, jane, b"sesame")]) as assoc:
        assert assoc.is_established
    for user in (
        (2, False, jane, b"Sesame"),
        (2, False, jane, b""),
        (2, False, b"joe", b"sesame"),
        (1, False, jane),
        (5, False, b"a.b.c"),
    ):
        assert app.associate(ext_neg=[UserIdentityNegotiation(*user)]).is_rejected
    assert app.associate().is_aborted
    assert app.stop() == 0
    told = capsys.readouterr().err
    assert "I: User 'J" in told
    assert told.count("is unknown, or the passcode is wrong") == 3
    assert told.count("is not accepted") == 2
    assert "A request without user identity is refused" in told
    assert "esame" not in told


def test_users_are_told_apart_by_the_applications(serve: Serve, known: list[str]) -> None:
    app = serve(echoscp.main, *known)
    jane = ["--user", "Jäne:2", "--password"]
    assert echoscu.main([*at(app), *jane, "sesame"]) == 0
    assert echoscu.main([*at(app), "-q", *jane, "Sesame"]) == 3
    assert echoscu.main([*at(app), "-q"]) == 3


def test_a_passcode_is_not_kept() -> None:
    line, other = (identity.user_line("jane", "sesame") for _ in range(2))
    assert line.startswith("jane:scrypt:14:")
    assert line != other
    assert "sesame" not in line


@pytest.mark.parametrize(
    "line",
    [
        "jane",
        "jane:sesame",
        "jane:md5:14:AAAA:AAAA",
        "jane:scrypt:40:AAAA:AAAA",
        "jane:scrypt:x:AAAA:AAAA",
        "jane:scrypt:14:AAAA:!",
        ":scrypt:14:AAAA:AAAA",
    ],
)
def test_lines_that_are_none(line: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "users"
    path.write_text(f"# first\n{line}\n")
    assert echoscp.main(["0", "--users", str(path)]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told == f"E: {path}, line 2: this is not a line that dicomwire users prints"


def test_a_passcode_needs_a_user(capsys: Capture) -> None:
    assert echoscu.main(["h", "1", "--password", "x"]) == 2
    assert capsys.readouterr().err == "E: A passcode needs --user; see --help\n"


def test_files_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for main, options, told in (
        (echoscp.main, ["0", "--users", "/nowhere"], "Cannot read /nowhere: "),
        (echoscu.main, ["h", "1", "--jwt", "/nowhere"], "Cannot read /nowhere: "),
        (echoscu.main, ["h", "1", "--saml", str(empty)], " is empty"),
    ):
        assert main(options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_a_user_is_added(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sesame\n"))
    assert users.main(["jane"]) == 0
    path = tmp_path / "users"
    path.write_text(capsys.readouterr().out)
    app = serve(echoscp.main, "--users", str(path))
    assert echoscu.main([*at(app), "--user", "jane", "--password", "sesame"]) == 0


def test_a_passcode_is_asked_for_twice(
    new_terminal: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", new_terminal())
    for answers, code in ((["a", "a"], 0), (["a", "b"], 1), (["", ""], 1)):
        replies = iter(answers)
        monkeypatch.setattr("getpass.getpass", lambda prompt, replies=replies: next(replies))
        assert users.main(["jane"]) == code
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("name", ["#jane", " jane", "a\nb"])
def test_names_that_a_line_cannot_have(name: str, capsys: Capture) -> None:
    assert users.main([name]) == 1
    assert "A name cannot have control characters" in capsys.readouterr().err
