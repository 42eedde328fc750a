"""The page of operators and its JSON: what is wrong, tasks, destinations, associations, log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_node import FIND, LOCALHOST, STUDY, associate, make_object, running, store
from shown_archive import fail
from web_client import Serving, client_of, serving

from dicomwire.node.configuration import Destination
from dicomwire.node.operations import Operations, Peer
from dicomwire.node.web.page.plots import plots_of


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    destinations = {"AWAY": Destination(LOCALHOST, 1), "OTHER": Destination("192.0.2.1", 104)}
    with serving(tmp_path / "archive", destinations=destinations) as serving_node:
        yield serving_node


def text_of(client: httpx.Client, path: str = "/system") -> str:
    return client.get(path).raise_for_status().text


def test_all_is_well(served: Serving) -> None:
    text = text_of(served.client)
    assert "All is well" in text
    assert "No peer is connected" in text
    assert "There is nothing to do" in text
    assert "to look at</span></span>" not in text_of(served.client, "/")


def test_a_destination_that_is_down_is_seen_on_each_page(served: Serving) -> None:
    client = served.client
    store(served.node, *(make_object(number) for number in range(1, 4)))
    wanted = {"destination": "AWAY", "studies": [STUDY]}
    assert client.post("/api/send", json=wanted).json() == {"objects": 3}

    def away() -> dict[str, Any]:
        (found,) = client.get("/api/destinations").json()["destinations"][:1]
        return dict(found)

    while not away()["failures"]:
        threading.Event().wait(0.05)
    found = away()
    assert (found["name"], found["waiting"]) == ("AWAY", 3)
    assert "refused" in found["error"].lower()
    text = text_of(client)
    assert "The destination AWAY is down" in text
    assert "Objects waiting for it: 3. Last error: " in text
    assert '1<span class="unseen"> to look at' in text_of(client, "/")


def test_dead_tasks_are_retried_or_dropped(served: Serving) -> None:
    client = served.client
    ids = [fail(served.node, "of a kind", is_dead=True) for _ in range(4)]
    assert "Failed tasks of the kind of a kind: 4" in text_of(client)
    assert client.post("/api/tasks/retry", json={"ids": ids[:1]}).json() == {"tasks": 1}
    assert client.post("/api/tasks/drop", json={"ids": ids[1:2]}).json() == {"tasks": 1}
    assert client.post("/api/tasks/drop", json={"kind": "another"}).json() == {"tasks": 0}
    listed = client.get("/api/tasks", params={"state": "dead"}).json()
    assert [each["id"] for each in listed["tasks"]] == ids[2:]
    assert listed["counts"]["of a kind"]["dead"] == 2
    assert client.post("/api/tasks/drop", json={}).json() == {"tasks": 2}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"ids": "1"}', b'{"ids": [true]}', b'{"states": ["gone"]}',
             b'{"kind": 1}', b"[" * 100_000],
)  # fmt: skip
def test_a_change_of_tasks_that_makes_no_sense_is_refused(served: Serving, body: bytes) -> None:
    assert served.client.post("/api/tasks/drop", content=body).status_code == 400


def test_a_body_that_is_too_long_is_refused(served: Serving) -> None:
    answer = served.client.post("/api/tasks/drop", content=b" " * (2**20 + 1))
    assert answer.status_code == 413


def test_associations_now(served: Serving) -> None:
    with associate(served.node, FIND, title="WORKSTATION"):
        found = served.client.get("/api/associations").json()
        assert found == {
            "associations": 1,
            "peers": [{"ae_title": "WORKSTATION", "address": LOCALHOST}],
        }
        assert "WORKSTATION" in text_of(served.client)


def test_status_is_what_the_command_prints(served: Serving) -> None:
    store(served.node, make_object())
    found = served.client.get("/api/status").json()
    assert found["objects"]["studies"] == found["objects"]["instances"] == 1
    (node,) = found["nodes"]
    assert (node["state"], node["port"]) == ("serving", served.node.address[1])


def test_a_destination_is_tested_by_an_echo(tmp_path: Path, served: Serving) -> None:
    with running(tmp_path / "other") as other:
        destinations = {"OTHER": Destination(*other.address)}
        with (
            running(tmp_path / "third", http=0, destinations=destinations) as node,
            client_of(node) as client,
        ):
            answer = client.post("/api/destinations/OTHER/echo").json()
            assert answer["answers"]
            assert answer["seconds"] < 10
    answer = served.client.post("/api/destinations/AWAY/echo").json()
    assert not answer["answers"]
    assert "refused" in answer["reason"].lower()
    assert served.client.post("/api/destinations/NOBODY/echo").status_code == 404


def test_the_log_has_the_last_lines_and_none_of_debugging(served: Serving) -> None:
    logger = logging.getLogger("dicomwire.node")
    logger.warning("The disk is %s", "slow\nline")
    logger.debug("Doe^Jane")
    lines = served.client.get("/api/log").json()["lines"]
    assert lines[-1]["level"] == "WARNING"
    assert lines[-1]["text"] == "The disk is slow\\nline"
    assert not any("Doe" in each["text"] for each in lines)


def test_throughput_is_measured_between_two_samples(served: Serving) -> None:
    operations = Operations(served.node.archive, lambda: (2, [Peer("A", "B")]))
    operations.measure()
    assert operations.samples() == []
    store(served.node, *(make_object(number) for number in range(1, 6)))
    operations.measure()
    (sample,) = operations.samples()
    assert sample.objects > 0
    assert sample.bytes > sample.objects * 100
    assert sample.associations == 2
    assert 0 < sample.disk_used <= sample.disk_size
    for _ in range(400):
        operations.measure()
    assert len(operations.samples()) == 360
    assert 10 <= len(operations.samples(is_day=True)) <= 14
    assert served.client.get("/api/samples", params={"of": "day"}).json() == {"samples": []}


def test_a_plot_needs_two_samples(served: Serving) -> None:
    operations = Operations(served.node.archive, lambda: (0, []))
    assert [each.line for each in plots_of(operations.samples())] == [""] * 4
    for _ in range(4):
        operations.measure()
    plots = plots_of(operations.samples())
    assert plots[0].line.startswith("M0.0 96.0L180.0 96.0")
    assert plots[0].most == "at most 0"
    assert plots[3].most.startswith("of ")


def test_destinations_that_are_configured_anew_are_there(served: Serving) -> None:
    archive = served.node.archive
    anew = {"NEW": Destination(LOCALHOST, 104)}
    archive.configuration = replace(archive.configuration, destinations=anew)
    (found,) = served.client.get("/api/destinations").json()["destinations"]
    assert found["name"] == "NEW"
