"""The numbers of a node: counted in all of its processes, and told to Prometheus."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_node import associate, make_object, store
from web_client import serving
from web_site import WebSite, web_site

from dicomwire.node.counts import BUCKETS, Counts
from dicomwire.node.users import UserRight
from dicomwire.sop_class import Verification

Numbers = dict[tuple[str, ...], float]


def numbers_of(text: str) -> Numbers:
    """Return the samples of a page of metrics, by name and values of their sorted labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def line(service: str, status: str, level: int = logging.INFO) -> logging.LogRecord:
    """Return the log line of an operation."""
    record = logging.LogRecord("dicomwire", level, "", 0, "", (), None)
    record.dicom = {"service": service, "status": status, "message_id": 7}
    return record


@pytest.fixture
def counts() -> Iterator[Counts]:
    with closing(Counts(2)) as counts:
        counts.join()
        yield counts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    with web_site(tmp_path_factory.mktemp("node")) as site:
        site.store("1.2.3.4.5")
        site.add("prometheus", UserRight.WATCH)
        site.add("jane", UserRight.SEE)
        yield site


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("0x0000", "success"),
        ("0xB000", "warning"),
        ("0xA700", "failure"),
        ("0x0124", "failure"),
        ("0x1234", "failure"),
        ("0xFE00", "cancel"),
    ],
)
def test_an_operation_is_counted_by_its_line_in_the_log(
    counts: Counts, status: str, outcome: str
) -> None:
    counts.handle(line("C-STORE", status))
    found = counts.totals().operations
    assert {key: number for key, number in found.items() if number} == {("C-STORE", outcome): 1}


def test_other_lines_are_not_counted(counts: Counts) -> None:
    counts.handle(line("HTTP GET", "200"))
    counts.handle(line("C-STORE", "0xA700", logging.ERROR))
    counts.handle(logging.LogRecord("dicomwire", logging.INFO, "", 0, "", (), None))
    assert not any(counts.totals().operations.values())


def test_a_line_after_the_end_is_no_error() -> None:
    counts = Counts()
    counts.join()
    counts.close()
    counts.handle(line("C-STORE", "0x0000"))
    counts.accepted()


def test_times_are_counted_in_classes(counts: Counts) -> None:
    for seconds in (0.0005, 0.001, 0.004, 100.0):
        counts.committed(seconds, 0.0)
    times = counts.totals().steps["objects"]
    assert len(times.classes) == len(BUCKETS) + 1
    assert times.classes[:3] == (2, 0, 1)
    assert times.classes[-1] == 1
    assert times.seconds == pytest.approx(100.0055)


@pytest.mark.parametrize(("message_id", "number"), [(7, 1), (8, 0)])
def test_the_time_of_a_request_ends_with_its_line_in_the_log(
    counts: Counts, message_id: int, number: int
) -> None:
    counts.began(message_id)
    for _ in range(2):
        counts.handle(line("C-STORE", "0xB000"))
    found = {labels: sum(times.classes) for labels, times in counts.totals().times.items()}
    assert found.pop(("C-STORE", "warning")) == number
    assert not any(found.values())


def test_all_processes_count_and_what_a_dead_one_has_counted_stays(counts: Counts) -> None:
    def work() -> None:
        counts.join()
        counts.accepted()
        counts.committed(0.25, 0.5)

    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        process = fork.Process(target=work)
        process.start()
        process.join()
    counts.accepted()
    assert counts.totals().associations == 3
    assert counts.totals().steps["index"].seconds == 1.0


def test_the_numbers_are_for_users_with_the_right_to_watch(site: WebSite) -> None:
    response = site.ask("GET", "/metrics", "prometheus")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert site.ask("GET", "/metrics", "jane").status_code == 403
    assert site.ask("GET", "/metrics").status_code == 401


def test_the_numbers_have_no_names_of_the_archive(site: WebSite) -> None:
    site.ask("GET", "/dicom-web/studies/1.2.3/series?PatientName=Doe", "jane")
    site.ask("GET", "/dicom-web/nothing/Doe^John", "jane")
    site.ask("PURGE", "/dicom-web/studies", "jane")
    text = site.ask("GET", "/metrics", "prometheus").text
    assert "Doe" not in text
    assert "1.2.3" not in text
    assert "PURGE" not in text
    numbers = numbers_of(text)
    path = "/dicom-web/studies/{study}/series"
    assert numbers["dicomwire_http_requests_total", "GET", path, "200"] == 1
    assert numbers["dicomwire_http_request_seconds_count", "GET", path, "2xx"] == 1
    assert numbers["dicomwire_http_requests_total", "GET", "/{name:path}", "404"] == 1
    assert numbers["dicomwire_http_requests_total", "", "", "405"] == 1
    assert numbers["dicomwire_stored", "instance"] == 1
    assert numbers["dicomwire_stored_bytes",] > 100
    assert numbers["dicomwire_disk_free_bytes",] > 0


@pytest.mark.only_with("folder", "a fork of the process of the tests cannot use a bucket")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_counts_what_peers_do(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicomwire")
    with serving(tmp_path, workers=workers) as site:
        for number in range(3):
            assert store(site.node, make_object(number)) == [0]
        with associate(site.node, Verification) as association:
            association.send_c_echo()
        numbers = numbers_of(site.client.get("/metrics").text)
    assert numbers["dicomwire_associations_accepted_total",] == 4
    assert numbers["dicomwire_operations_total", "success", "C-ECHO"] == 1
    assert numbers["dicomwire_operations_total", "success", "C-STORE"] == 3
    assert numbers["dicomwire_operations_total", "failure", "C-STORE"] == 0
    assert numbers["dicomwire_operation_seconds_count", "success", "C-STORE"] == 3
    assert numbers["dicomwire_commit_seconds_count", "objects"] == 3
    assert numbers["dicomwire_commit_seconds_count", "index"] == 3
    assert numbers["dicomwire_stored", "instance"] == 3
    assert numbers["dicomwire_nodes",] == 1


def test_operations_that_are_not_counted_are_left_out(
    site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for level, is_there in ((logging.INFO, True), (logging.WARNING, False)):
        monkeypatch.setattr(logging.getLogger("dicomwire"), "level", level)
        logging.getLogger("dicomwire").manager._clear_cache()  # type: ignore[attr-defined]
        text = site.ask("GET", "/metrics", "prometheus").text
        assert ("dicomwire_operations_total" in text) is is_there
        assert ("dicomwire_operation_seconds" in text) is is_there
