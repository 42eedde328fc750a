from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire import ALL_TRANSFER_SYNTAXES, build_context
from dicomwire.apps import echoscp, echoscu
from dicomwire.apps.invocation import program
from dicomwire.sop_class import CTImageStorage, Verification

Capture = pytest.CaptureFixture[str]


# --- echoscu ----------------------------------------------------------------------------------


def test_echoscu_is_silent_when_all_is_well(peer: Any, capsys: Capture) -> None:
    assert echoscu.main(peer.address) == 0
    assert capsys.readouterr() == ("", "")
    assert [request.MessageID for request in peer.received] == [1]
    assert peer.how_it_ended() == "released"


def test_echoscu_verbose(peer: Any, capsys: Capture) -> None:
    assert echoscu.main([*peer.address, "-v"]) == 0
    lines = iter(capsys.readouterr().err.splitlines())  # some of them are the peer's
    for expected in (
        "I: Requesting Association",
        "I: Association Accepted",
        "I: Sending Echo Request: MsgID 1",
        "I: Received Echo Response (Status: 0x0000 - Success)",
        "I: Releasing Association",
        "I: Association Released",
    ):
        assert expected in lines


def test_echoscu_debug_shows_the_pdus(peer: Any, capsys: Capture) -> None:
    assert echoscu.main([*peer.address, "-d"]) == 0
    shown = capsys.readouterr().err
    assert "Accept Parameters" in shown
    assert "D: " in shown


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        (["-ll", "critical"], ""),
        (["-ll", "error"], ""),
        (["-ll", "warn"], ""),
        (["-ll", "info"], "I"),
        (["--log-level", "debug"], "DI"),
        (["-v", "-ll", "error"], ""),
        (["-d", "-ll", "info"], "I"),
        (["-q", "-ll", "debug"], ""),
    ],
)
def test_echoscu_log_levels(arguments: list[str], levels: str, peer: Any, capsys: Capture) -> None:
    assert echoscu.main([*peer.address, *arguments]) == 0
    assert "".join(sorted({line[0] for line in capsys.readouterr().err.splitlines()})) == levels


def test_echoscu_titles_and_maximum_pdu(peer: Any) -> None:
    arguments = ["-aet", "ME", "-aec", "YOU", "-pdu", "32768"]
    assert echoscu.main([*peer.address, *arguments]) == 0
    assert peer.requestors[0].ae_title == "ME"
    assert peer.requestors[0].primitive.called_ae_title == "YOU"
    assert peer.requestors[0].maximum_length == 32768


def test_echoscu_defaults(peer: Any) -> None:
    assert echoscu.main(peer.address) == 0
    assert peer.requestors[0].ae_title == "ECHOSCU"
    assert peer.requestors[0].primitive.called_ae_title == "ANY-SCP"
    assert peer.requestors[0].maximum_length == 16382
    syntaxes = [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
    ]
    assert peer.syntaxes == [(Verification, syntaxes)]


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ("-xe", ExplicitVRLittleEndian),
        ("--request-big", ExplicitVRBigEndian),
        ("-xi", ImplicitVRLittleEndian),
    ],
)
def test_echoscu_proposes_one_transfer_syntax(option: str, syntax: str, peer: Any) -> None:
    assert echoscu.main([*peer.address, option]) == 0
    assert peer.syntaxes == [(Verification, [syntax])]


def test_echoscu_repeats(peer: Any) -> None:
    assert echoscu.main([*peer.address, "--repeat", "3"]) == 0
    assert [request.MessageID for request in peer.received] == [1, 2, 3]


def test_echoscu_aborts(peer: Any, capsys: Capture) -> None:
    assert echoscu.main([*peer.address, "--abort", "-v"]) == 0
    assert peer.how_it_ended() == "aborted"
    assert "Aborting Association" in capsys.readouterr().err


def test_echoscu_says_what_the_peer_answered(peer: Any, capsys: Capture) -> None:
    peer.status = lambda event: 0x0110
    assert echoscu.main([*peer.address, "-v"]) == 1
    assert "(Status: 0x0110 - Failure: Processing failed)" in capsys.readouterr().err


def test_echoscu_when_nobody_listens(closed_port: int, capsys: Capture) -> None:
    assert echoscu.main(["127.0.0.1", str(closed_port)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: Association request failed: unable to connect to remote: ")
    assert f"127.0.0.1:{closed_port}" in line


STRANGERS = {
    b"HTTP/1.1 400 Bad Request\r\n\r\n": "HTTP, not DICOM",
    b"SSH-2.0-OpenSSH_9.2\r\n": "SSH, not DICOM",
    bytes.fromhex("15030300020246"): "TLS: use it on both sides, or on neither",
}


@pytest.mark.parametrize("answer", STRANGERS)
def test_echoscu_names_another_protocol_on_the_port(answer: bytes, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        assert echoscu.main(["127.0.0.1", str(listener.getsockname()[1])]) == 3
        thread.join()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the peer speaks {STRANGERS[answer]}" in line


def test_echoscu_with_tls_names_a_plain_peer(peer: Any, capsys: Capture) -> None:
    assert echoscu.main([*peer.address, "--tls"]) == 3
    assert "the peer does not use TLS on this connection" in capsys.readouterr().err


def test_echoscu_quiet_says_nothing_even_then(closed_port: int, capsys: Capture) -> None:
    assert echoscu.main(["127.0.0.1", str(closed_port), "-q"]) == 3
    assert capsys.readouterr() == ("", "")


def test_echoscu_when_rejected(start_peer: Callable[..., Any], capsys: Capture) -> None:
    peer = start_peer(require_called_aet=True)
    assert echoscu.main([*peer.address, "-aec", "OTHER"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: Association Rejected")


def test_echoscu_when_verification_is_refused(
    start_peer: Callable[..., Any], capsys: Capture
) -> None:
    peer = start_peer([build_context(CTImageStorage)])
    assert echoscu.main(peer.address) == 3
    assert capsys.readouterr().err == "E: The peer does not accept Verification SOP Class\n"


def test_echoscu_when_the_peer_does_not_answer(capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert echoscu.main(["127.0.0.1", str(port), "-ta", "0.1"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E: ACSE timeout reached while waiting for response")


def test_echoscu_when_the_host_does_not_take_the_connection(capsys: Capture) -> None:
    # The system answers no connection for a queue of connections that is full.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert echoscu.main(["127.0.0.1", str(port), "-tc", "0.05"]) == 3
    assert "no connection in 0.05 s" in capsys.readouterr().err


def test_echoscu_when_the_echo_is_not_answered(peer: Any, capsys: Capture) -> None:
    done = threading.Event()
    peer.status = lambda event: done.wait(20) and 0
    try:
        assert echoscu.main([*peer.address, "-td", "0.1", "--repeat", "5"]) == 1
    finally:
        done.set()
    assert capsys.readouterr().err == "E: DIMSE timeout reached while waiting for message\n"
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["localhost"],
        ["localhost", "dicom"],
        ["localhost", "0"],
        ["localhost", "65536"],
        ["localhost", "104", "-q", "-v"],
        ["localhost", "104", "-v", "-d"],
        ["localhost", "104", "-xe", "-xi"],
        ["localhost", "104", "-ll", "trace"],
        ["localhost", "104", "-ta", "soon"],
        ["localhost", "104", "-td", "-1"],
        ["localhost", "104", "-tn", "nan"],
        ["localhost", "104", "-pdu", "4294967296"],
        ["localhost", "104", "--repeat", "0"],
        ["localhost", "104", "-aet", "SEVENTEEN LETTERS"],
        ["localhost", "104", "-aec", " "],
        ["localhost", "104", "--nonsense"],
    ],
)
def test_echoscu_wrong_arguments(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        echoscu.main(arguments)
    assert end.value.code == 2
    assert "dicomwire echoscu: " in capsys.readouterr().err


def test_a_timeout_may_be_endless(peer: Any) -> None:
    assert echoscu.main([*peer.address, "-ta", "inf", "-td", "inf", "-tn", "inf"]) == 0


# --- echoscp ----------------------------------------------------------------------------------


def test_echoscp_answers(serve: Callable[..., Any], capsys: Capture) -> None:
    app = serve(echoscp.main, "-v")
    with app.associate() as association:
        assert association.send_c_echo(7).Status == 0x0000
        assert association.acceptor.maximum_length == 16382
    assert app.stop() == 0
    shown = capsys.readouterr().err
    assert f"I: ECHOSCP listens on 127.0.0.1, port {app.port}; Ctrl-C stops it\n" in shown
    assert f"I: Try it with: {program()} echoscu 127.0.0.1 {app.port}\n" in shown
    assert "I: Accepting Association" in shown
    assert ": Verification: 0x0000 - Success\n" in shown
    assert "I: Association Released from TESTER@" in shown
    assert "Accept Parameters" not in shown


def test_echoscp_is_silent_unless_asked(serve: Callable[..., Any], capsys: Capture) -> None:
    app = serve(echoscp.main)
    with app.associate() as association:
        assert association.send_c_echo().Status == 0x0000
    assert app.stop() == 0
    assert capsys.readouterr() == ("", "")


def test_echoscp_debug(serve: Callable[..., Any], capsys: Capture) -> None:
    app = serve(echoscp.main, "-d")
    with app.associate() as association:
        association.send_c_echo()
    app.stop()
    shown = capsys.readouterr().err
    assert "Accept Parameters" in shown
    assert "pydicom.read_dataset()" in shown


def test_echoscp_settings(serve: Callable[..., Any]) -> None:
    app = serve(
        *(echoscp.main, "-aet", "ECHO", "-pdu", "0", "-ta", "5", "-td", "6", "-tn", "7"),
        *("--max-associations", "1"),
    )
    settings = app.server.ae.settings
    assert app.server.ae_title == "ECHO"
    assert (settings.acse_timeout, settings.dimse_timeout, settings.network_timeout) == (5, 6, 7)
    with app.associate() as association:
        assert association.acceptor.maximum_length == 0
        assert app.associate().is_rejected


@pytest.mark.parametrize(
    ("option", "proposed", "accepted"),
    [
        ([], ALL_TRANSFER_SYNTAXES, ImplicitVRLittleEndian),
        (["-x="], ALL_TRANSFER_SYNTAXES, ExplicitVRLittleEndian),
        (["--prefer-uncompr"], [ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        (["-xe"], ALL_TRANSFER_SYNTAXES, ExplicitVRLittleEndian),
        (["-xb"], ALL_TRANSFER_SYNTAXES, ExplicitVRBigEndian),
        (["--prefer-big"], [ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        (["-xi"], ALL_TRANSFER_SYNTAXES, ImplicitVRLittleEndian),
        (["--implicit"], [ExplicitVRLittleEndian], None),
    ],
)
def test_echoscp_transfer_syntaxes(
    option: list[str], proposed: list[str], accepted: str | None, serve: Callable[..., Any]
) -> None:
    app = serve(echoscp.main, *option)
    with app.associate(build_context(Verification, list(proposed))) as association:
        taken = [context.transfer_syntax[0] for context in association.accepted_contexts]
    assert taken == [accepted] if accepted else not taken


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["-ba", "192.0.2.1"], "'192.0.2.1' is not an address of this machine"),
        (
            ["-ba", "no.such.host.invalid"],
            "'no.such.host.invalid' is not an address of this machine",
        ),
    ],
)
def test_echoscp_cannot_listen(arguments: list[str], advice: str, capsys: Capture) -> None:
    assert echoscp.main(["0", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"E: {advice}")


def test_echoscp_port_in_use(peer: Any, capsys: Capture) -> None:
    assert echoscp.main([str(peer.port), "-ba", "127.0.0.1"]) == 1
    assert capsys.readouterr().err == (
        f"E: Port {peer.port} is in use: stop the program that uses it, or choose another port\n"
    )
