"""`dicomwire node status` with two nodes on one index, which are killed one after the other."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import node_processes
import pytest
from node_processes import node_process
from postgres_server import PostgresServer

from dicomwire import __version__
from dicomwire.apps.node import main
from dicomwire.node import nodes

LEASE = 2.0
"""Seconds after which a node that does not renew its entry is dead; usually a minute."""


eventually = partial(node_processes.eventually, pause=0.1)


class Status:
    """The command, for the nodes of an index."""

    def __init__(self, url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._options = [f"--index={url}", f"--folder={folder}"]
        self._capsys = capsys

    def text(self) -> tuple[int, str]:
        """Return its exit code, and what it says to people."""
        return main(["status", *self._options]), self._capsys.readouterr().out

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return what it says of each node to programs, by AE title."""
        main(["status", "--json", *self._options])
        found = json.loads(self._capsys.readouterr().out)["nodes"]
        return {node["ae_title"]: node for node in found}

    def states(self) -> dict[str, str]:
        return {title: node["state"] for title, node in self.nodes().items()}


def test_nodes_are_shown_and_those_that_died(
    postgres_server: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "LEASE", LEASE)
    url = postgres_server.new_database()
    status = Status(url, tmp_path, capsys)
    keys: dict[str, Any] = {"index": url, "lease": LEASE}
    with (
        node_process(tmp_path / "one", ae_title="ONE", workers=2, **keys) as one,
        node_process(tmp_path / "two", ae_title="TWO", **keys) as two,
    ):
        assert eventually(lambda: len(status.nodes()["ONE"]["workers"]) == 2)
        before = status.nodes()
        assert {title: (each["port"], each["state"]) for title, each in before.items()} == {
            "ONE": (one.port, "serving"),
            "TWO": (two.port, "serving"),
        }
        assert {each["pid"] for each in before["ONE"]["workers"]} == {*one.workers()}
        assert before["TWO"]["workers"] == []
        assert {each["version"] for each in before.values()} == {__version__}
        beats = {title: each["heartbeat"] for title, each in before.items()}
        assert eventually(
            lambda: all(each["heartbeat"] > beats[title] for title, each in status.nodes().items())
        )
        code, text = status.text()
        assert code == 0
        assert f"ONE at 127.0.0.1, port {one.port}: serving since " in text
        assert f"process {two.process.pid}, version {__version__}\n" in text
        assert "\n  2 workers, 0 associations, spool: " in text
        one.kill()
        assert eventually(lambda: status.states() == {"ONE": "dead", "TWO": "serving"})
        code, text = status.text()
        assert code == 0
        assert f"ONE at 127.0.0.1, port {one.port}: dead on " in text
        assert f"\n  last heartbeat at {status.nodes()['ONE']['heartbeat']}\n" in text
        two.kill()
        assert eventually(lambda: status.states() == {"ONE": "dead", "TWO": "dead"})
        assert status.text()[0] == 1
    postgres_server.drop(url)
