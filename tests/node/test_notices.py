"""Notices of complete studies: when they are given, and what each way of telling does."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from backends import Backend
from node_processes import eventually
from pydicom.dataset import Dataset
from running_node import LOCALHOST, STUDY, make_object, running, store

from dicomwire import AE, evt
from dicomwire.node.conditions import conditions_of
from dicomwire.node.configuration import (
    Configuration,
    ConfigurationError,
    Destination,
    Notice,
    Of,
    check_notices,
    merged,
)
from dicomwire.node.notices import availability, commands, facts
from dicomwire.node.notices.commands import CommandFailed, Commands
from dicomwire.node.notices.telling import AVAILABILITY, COMMAND, WEBHOOK
from dicomwire.node.notices.webhooks import WebhookFailed, post, secret_in, signature
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import ListedTask, listed
from dicomwire.sop_class import InstanceAvailabilityNotification

WAIT = 20.0
AT_ONCE = 0.1


def notice(**keys: Any) -> Notice:
    """Return a notice of what has been quiet for a moment."""
    return Notice(**{"name": "done", "quiet": AT_ONCE, **keys})


def tasks(node: Node) -> list[ListedTask]:
    return [each for each in listed(node.archive.index) if each.kind.startswith("notice-")]


# --- Commands ---------------------------------------------------------------------------------


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time, subprocess; {code}", *arguments]


def run(code: str, *arguments: str, data: bytes = b"", timeout: float = WAIT) -> None:
    Commands().run("done", python(code, *arguments), data, timeout)


def test_a_program_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "out"
    run(f"open({str(path)!r}, 'w').write(repr(sys.argv[1:]))", "$(id)", "; ls", "*", "'\"")
    assert path.read_text() == repr(["$(id)", "; ls", "*", "'\""])


def test_a_program_gets_the_notice_as_its_input(tmp_path: Path) -> None:
    path = tmp_path / "out"
    run(f"open({str(path)!r}, 'wb').write(sys.stdin.buffer.read())", data=b"x" * 200_000)
    assert path.read_bytes() == b"x" * 200_000


def test_the_output_goes_to_the_log_as_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dicomwire.node")
    run("print('one'); sys.stdout.flush(); sys.stderr.write('t\\x1b[31mwo\\n')")
    lines = [each.getMessage() for each in caplog.records]
    assert lines == ["Notice done: one", "Notice done: t\\x1b[31mwo"]


def test_the_log_takes_so_much_output(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_MOST_LINES", 3)
    caplog.set_level("INFO", "dicomwire.node")
    run("print('x' * 10_000_000)")
    assert [len(each.getMessage()) for each in caplog.records] == [513, 513, 513]


def test_a_program_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(CommandFailed, match=r"^exit code 3: no disk$"):
        run("print('no disk'); sys.exit(3)")
    with pytest.raises(CommandFailed, match=r"^signal 9$"):
        run("os.kill(os.getpid(), 9)")


def test_a_program_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        Commands().run("done", ["/nowhere/program"], b"", WAIT)


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started() -> None:
    child = f"subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])"
    with pytest.raises(CommandFailed, match=r"^it was killed after 0\.3 s$"):
        run(f"{child}; time.sleep(600)", timeout=0.3)


def test_what_a_program_leaves_running_ends_with_it() -> None:
    run(f"subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])")


def test_programs_end_when_the_node_stops(tmp_path: Path) -> None:
    running_commands = Commands()
    path = tmp_path / "started"
    failed: list[str] = []

    def serve() -> None:
        code = f"open({str(path)!r}, 'w'); time.sleep(600)"
        try:
            running_commands.run("done", python(code), b"", 600)
        except CommandFailed as error:
            failed.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    assert eventually(path.exists)
    running_commands.close()
    thread.join(WAIT)
    assert failed == ["signal 9"]
    with pytest.raises(CommandFailed, match="the node stops"):
        running_commands.run("done", python("0"), b"", WAIT)


def test_a_complete_study_runs_the_program(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"open({str(out)!r}, 'a').write(sys.argv[1] + ' ' + sys.stdin.read() + '\\n')"
    told = notice(command=tuple(python(code, "--study={study}")))
    with running(tmp_path / "archive", notices=(told,)) as node:
        other = make_object(3, Modality="MR", SeriesInstanceUID=f"{STUDY}.2")
        assert store(node, make_object(1), make_object(2), other) == [0, 0, 0]
        assert eventually(lambda: out.exists() and not tasks(node))
    (line,) = out.read_text().splitlines()
    argument, _, text = line.partition(" ")
    assert argument == f"--study={STUDY}"
    body = json.loads(text)
    assert len(body.pop("id")) == 16
    assert body == {
        "notice": "done",
        "of": "study",
        "study": STUDY,
        "series": [
            {"series": f"{STUDY}.1", "modality": "CT", "instances": 2},
            {"series": f"{STUDY}.2", "modality": "MR", "instances": 1},
        ],
        "instances": 3,
        "archive": "DICOMWIRE",
    }


def test_only_what_matches_is_told(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    code = f"open({str(ran)!r} + '/' + sys.argv[1], 'w')"
    told = notice(
        of=Of.SERIES,
        command=tuple(python(code, "{series}-{study}-{name}")),
        conditions=conditions_of({"Modality": "MR"}),
    )
    with running(tmp_path / "archive", notices=(told,)) as node:
        store(node, make_object(1), make_object(2, Modality="MR", SeriesInstanceUID=f"{STUDY}.2"))
        assert eventually(lambda: list(ran.iterdir()))
    assert [each.name for each in ran.iterdir()] == [f"{STUDY}.2-{STUDY}-done"]


def test_a_program_that_fails_is_run_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"open({str(out)!r}, 'a').write('x'); sys.exit(os.path.getsize({str(out)!r}) < 2)"
    with running(tmp_path / "archive", notices=(notice(command=tuple(python(code))),)) as node:
        store(node, make_object())
        assert eventually(lambda: any(each.error for each in tasks(node)) or out.exists())
        node.archive.queue.retry(COMMAND)
        node.archive.queue.on_added({COMMAND})
        assert eventually(lambda: out.read_text() == "xx" and not tasks(node))


def test_a_study_that_was_removed_is_not_told(tmp_path: Path) -> None:
    told = notice(command=("/nowhere/program",))
    with running(tmp_path, notices=(told,)) as node:
        notices = node.archive.notices
        with node.archive.index.writing() as writer:
            notices._tell(told, writer, "1.2.3.9")
        assert eventually(lambda: not tasks(node))


# --- Webhooks ---------------------------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    """Notes the posts; answers with the statuses of its server, and then with the last of them."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.put((dict(self.headers), body))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(*statuses: int) -> Iterator[tuple[str, Queue[Any]]]:
    """Receive posts; give the URL, and the posts."""
    with ThreadingHTTPServer((LOCALHOST, 0), Receiver) as server:
        posts: Queue[Any] = Queue()
        server.posts, server.statuses = posts, list(statuses) or [204]  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://{LOCALHOST}:{server.server_address[1]}/hook?token=abc", posts
        server.shutdown()
        thread.join()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("s3cret\nnot this\n")
    return str(path)


def test_a_post_is_signed_with_its_time(secret: str) -> None:
    with receiving() as (url, posts):
        post(url, secret, "abcd", b'{"a": 1}', clock=lambda: 1_700_000_000.9)
    headers, body = posts.get(timeout=WAIT)
    assert body == b'{"a": 1}'
    assert headers["Content-Type"] == "application/json"
    assert headers["Dicomwire-Delivery"] == "abcd"
    assert headers["Dicomwire-Timestamp"] == "1700000000"
    expected = hmac.new(b"s3cret", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers["Dicomwire-Signature"] == f"sha256={expected}"


def test_without_a_secret_a_post_has_no_signature() -> None:
    with receiving() as (url, posts):
        post(url, "", "abcd", b"{}")
    assert "Dicomwire-Signature" not in posts.get(timeout=WAIT)[0]
    assert signature(b"a", "1", b"x") != signature(b"b", "1", b"x")


@pytest.mark.parametrize("status", [302, 400, 500])
def test_any_other_answer_than_success_is_a_failure(status: int) -> None:
    with receiving(status) as (url, _), pytest.raises(WebhookFailed, match=f"with {status}$"):
        post(url, "", "abcd", b"{}")


def test_errors_of_a_post_do_not_have_its_url() -> None:
    with pytest.raises(WebhookFailed, match=r"^it cannot be posted: ConnectError$"):
        post("http://127.0.0.1:9/?token=abc", "", "abcd", b"{}")


def test_a_secret_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(WebhookFailed, match="No such file"):
        secret_in(str(tmp_path / "none"))
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(WebhookFailed, match="is empty"):
        secret_in(str(tmp_path / "empty"))


def test_a_complete_study_is_posted_until_it_is_taken(tmp_path: Path, secret: str) -> None:
    with (
        receiving(500, 204) as (url, posts),
        running(tmp_path / "archive", notices=(notice(webhook=url, secret_file=secret),)) as node,
    ):
        store(node, make_object())
        first, first_body = posts.get(timeout=WAIT)
        assert eventually(lambda: any(each.error for each in tasks(node)))
        node.archive.queue.retry(WEBHOOK)
        node.archive.queue.on_added({WEBHOOK})
        second, second_body = posts.get(timeout=WAIT)
        assert eventually(lambda: not tasks(node))
    assert first_body == second_body
    assert first["Dicomwire-Delivery"] == second["Dicomwire-Delivery"]
    assert json.loads(first_body)["study"] == STUDY


# --- Instance availability --------------------------------------------------------------------


@contextmanager
def notified(answer: Callable[[str], int] = lambda uid: 0) -> Iterator[tuple[int, Queue[Any]]]:
    """Receive notifications; give the port, and the notifications with their UIDs."""
    created: Queue[tuple[str, Dataset]] = Queue()

    def create(event: evt.Event) -> tuple[int, None]:
        uid = str(event.request.AffectedSOPInstanceUID)
        created.put((uid, event.attribute_list))
        return answer(uid), None

    ae = AE("RIS")
    ae.add_supported_context(InstanceAvailabilityNotification)
    server = ae.start_server((LOCALHOST, 0), block=False, evt_handlers=[(evt.EVT_N_CREATE, create)])
    assert server is not None
    yield server.server_address[1], created
    ae.shutdown()


def available_to(port: int) -> dict[str, Any]:
    destinations = {"RIS": Destination(LOCALHOST, port)}
    return {"notices": (notice(available_to=("RIS",)),), "destinations": destinations}


def test_a_complete_study_is_available(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_PORTION", 2)
    with (
        notified() as (port, created),
        running(tmp_path, index=backend.index, **available_to(port)) as node,
    ):
        other = make_object(3, SeriesInstanceUID=f"{STUDY}.2")
        store(node, make_object(1), make_object(2), other)
        both = [created.get(timeout=WAIT) for _ in range(2)]
        assert eventually(lambda: not tasks(node))
    assert len({uid for uid, _ in both}) == 2
    found = []
    for _, dataset in both:
        assert dataset.StudyInstanceUID == STUDY
        assert dataset.ReferencedPerformedProcedureStepSequence == []
        for series in dataset.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                assert (item.InstanceAvailability, item.RetrieveAETitle) == ("ONLINE", "DICOMWIRE")
                found.append((series.SeriesInstanceUID, item.ReferencedSOPInstanceUID))
    assert found == [
        (f"{STUDY}.1", f"{STUDY}.1.1"),
        (f"{STUDY}.1", f"{STUDY}.1.2"),
        (f"{STUDY}.2", f"{STUDY}.1.3"),
    ]


def test_a_notification_that_is_repeated_has_the_same_uid(tmp_path: Path) -> None:
    """The receiver may have it already, and says so."""
    answers = [0x0110, 0x0111]
    with (
        notified(lambda uid: answers.pop(0)) as (port, created),
        running(tmp_path, **available_to(port)) as node,
    ):
        store(node, make_object())
        first, _ = created.get(timeout=WAIT)
        assert eventually(lambda: any(each.error for each in tasks(node)))
        assert tasks(node)[0].error == "the receiver answers with 0x0110"
        node.archive.queue.retry(AVAILABILITY)
        node.archive.queue.on_added({AVAILABILITY})
        assert created.get(timeout=WAIT)[0] == first
        assert eventually(lambda: not tasks(node))


def test_a_receiver_without_the_service_is_an_error_of_the_task(tmp_path: Path) -> None:
    ae = AE("RIS")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server((LOCALHOST, 0), block=False)
    assert server is not None
    with running(tmp_path, **available_to(server.server_address[1])) as node:
        store(node, make_object())
        assert eventually(lambda: any(each.error for each in tasks(node)))
    ae.shutdown()
    assert availability.Unconfirmed.__base__ is OSError


# --- Configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, "the notice 1: name is missing"),
        ({"name": "a", "quiet": 0}, "the notice 'a': quiet must be a number of seconds"),
        ({"name": "a", "command": "ls"}, "the notice 'a': command must be a list"),
        ({"name": "a", "command": ["{study}"]}, "the notice 'a': command must be a list"),
        ({"name": "a", "webhook": "ftp://x"}, "the notice 'a': webhook must be a URL"),
        ({"name": "a", "colour": 1}, "the notice 'a' has no key 'colour'"),
        ({"name": "a", "conditions": {"X": "1"}}, "the notice 'a': conditions: X: this is no"),
    ],
)
def test_mistakes_are_explained(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        merged(Configuration(), {"notices": [table]})
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ([{"name": "a"}], "the notice 'a' has no command, webhook or available_to"),
        (
            [{"name": "a", "available_to": ["RIS"]}],
            "the notice 'a': available_to: there is no [destinations.RIS]; there are: STORESCP",
        ),
        (
            [{"name": "a", "command": ["ls"], "secret_file": "x"}],
            "the notice 'a' has a secret_file, but no webhook",
        ),
        ([{"name": "a", "command": ["ls"]}] * 2, "the notice 'a': there are two of this name"),
    ],
)
def test_notices_that_cannot_work_are_refused(tables: list[dict[str, Any]], text: str) -> None:
    configuration = merged(Configuration(), {"notices": tables})
    with pytest.raises(ConfigurationError) as raised:
        check_notices(configuration)
    assert str(raised.value) == text
