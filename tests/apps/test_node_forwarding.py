"""`node send` and `node routes`, and what `node tasks` says of destinations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from dicomwire.apps.node import main
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.index.writer import Index
from dicomwire.node.tasks.queue import NewTask, Queue, State, listed

Capture = pytest.CaptureFixture[str]
CONFIGURATION = """
[destinations.AI]
host = "127.0.0.1"
port = 104
[destinations.PACS]
host = "127.0.0.1"
port = 105

[[routes]]
name = "CT to the AI service"
to = ["AI"]
when = "study"
quiet = 60
[routes.conditions]
Modality = "CT"
calling_title = {not = "TEST*"}

[[routes]]
to = ["PACS", "AI"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def image() -> str:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    return path


def test_an_object_that_matches(config: Path, image: str, capsys: Capture) -> None:
    assert main(["routes", "-c", str(config), "--try", image, "--from-title", "CT1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "the route 'CT to the AI service': matches: to AI, when its study has been quiet for 60 s",
        "the route 2: matches: to PACS, each object at once",
        "  AI gets the object by the route 'CT to the AI service'",
    ]


def test_an_object_that_does_not_match_and_why(config: Path, image: str, capsys: Capture) -> None:
    assert (
        main(["routes", "-c", str(config), "--try", image, "--from-title", "TEST1", "--json"]) == 0
    )
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["matches"] is False
    assert first["reasons"] == ["calling_title is 'TEST1', which does not fit {'not': 'TEST*'}"]
    assert (second["matches"], second["to"]) == (True, ["PACS", "AI"])


def test_routes_are_listed(config: Path, capsys: Capture) -> None:
    assert main(["routes", "-c", str(config)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "the route 2: to PACS, AI, each object at once"


def test_without_routes_nothing_matches(image: str, capsys: Capture) -> None:
    assert main(["routes", "--try", image]) == 1
    assert capsys.readouterr().out == "The configuration has no routes\n"


def test_a_file_that_is_no_object(config: Path, capsys: Capture) -> None:
    assert main(["routes", "-c", str(config), "--try", str(config)]) == 1
    assert str(config) in capsys.readouterr().err


def test_a_route_to_nowhere_is_named(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[[routes]]\nname = "X"\nto = ["NOWHERE"]')
    assert main(["-c", str(path)]) == 1
    assert "the route 'X': to: there is no [destinations.NOWHERE]" in capsys.readouterr().err


def test_a_study_is_sent(config: Path, image: str, capsys: Capture) -> None:
    assert main(["import", "-c", str(config), image]) == 0
    folder = config.parent / "archive"
    with Index(Sqlite(folder / "index.sqlite")) as index:
        Queue(index, "").drop(states=[State.WAITING])
    study = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
    assert main(["send", "-c", str(config), "--study", study, "--to", "PACS"]) == 0
    assert main(["send", "-c", str(config), "--study", "1.2", "--to", "PACS"]) == 1
    assert main(["send", "-c", str(config), "--study", study, "--to", "NONE"]) == 1
    captured = capsys.readouterr()
    assert "1 object will be sent to PACS when the archive serves; see: node tasks" in captured.out
    assert "The archive has no such objects" in captured.out
    assert (
        "There is no destination 'NONE' in the configuration; there are: AI, PACS" in captured.err
    )
    with Index(Sqlite(folder / "index.sqlite")) as index:
        (task,) = listed(index)
    assert (task.kind, task.payload["uid"]) == (
        "send:PACS",
        "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322",
    )


def test_tasks_shows_what_waits_by_destination(config: Path, capsys: Capture) -> None:
    folder = config.parent / "archive"
    folder.mkdir()
    with Index(Sqlite(folder / "index.sqlite")) as index:
        queue = Queue(index, "test")
        with index.writing() as writer:
            objects = [NewTask("send:PACS", {"uid": f"1.{number}"}) for number in range(3)]
            queue.add(writer, [*objects, NewTask("send:AI", {}, "x", float("inf"))])
            queue.add(writer, [NewTask("destination:PACS", {}, "PACS")])
        (turn,) = queue.take("destination:PACS", 1)
        with index.writing() as writer:
            queue.fail(writer, turn, "refused", 60, 4)
    assert main(["tasks", "-c", str(config)]) == 0
    ai, pacs = capsys.readouterr().out.splitlines()
    assert ai == "to AI: 0 objects waiting, 1 until their series or study is quiet"
    assert pacs.startswith("to PACS: 3 objects waiting, next attempt at 20")
    assert pacs.endswith(": refused")
    assert main(["tasks", "-c", str(config), "--json"]) == 0
    facts = [json.loads(line)["destination"] for line in capsys.readouterr().out.splitlines()]
    assert [(each["name"], each["waiting"], each["failures"]) for each in facts] == [
        ("AI", 0, 0),
        ("PACS", 3, 4),
    ]
    assert main(["tasks", "-c", str(config), "--kind", "send:PACS"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
