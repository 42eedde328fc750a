"""What each kind of user may do at each endpoint: a table of all requests and their statuses.

A user with a filter gets the same response for a study that is hidden as for one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from spooling import encoded
from starlette.routing import compile_path
from web_site import ELSEWHERE, WebSite, web_site

from dicomwire.data.file_meta import file_head
from dicomwire.node import web
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import Endpoint

SEE, STORE, SEND, DELETE, ADMINISTER, WATCH = UserRight
SEEN, HIDDEN, UNKNOWN = "1.2.3", "1.2.9", "1.2.8"
SECRETS = ("Secret", "SECRET", HIDDEN)
WEB = "/dicom-web"
STUDY = f"{WEB}/studies/STUDY"
SERIES = f"{STUDY}/series/STUDY.4"
INSTANCE = f"{SERIES}/instances/STUDY.4.5"
WADO = "/wado?requestType=WADO&studyUID=STUDY&seriesUID=STUDY.4&objectUID=STUDY.4.5"
TABLE: list[tuple[UserRight | None, str, str, int, int]] = [
    # The right; method and path; the status for a study that is seen, and one that is not.
    (None, "GET", "/health", 200, 200),
    (None, "GET", "/ready", 200, 200),
    (None, "GET", "/login", 200, 200),
    (None, "GET", "/login?next=/study/STUDY", 200, 200),
    (None, "POST", "/login", 415, 415),
    (None, "POST", "/logout", 303, 303),
    (None, "GET", "/static/page.css", 200, 200),
    (None, "GET", "/static/..%2Fviews.py", 404, 404),
    (None, "GET", "/static/nothing", 404, 404),
    (None, "OPTIONS", WEB, 200, 200),
    (None, "OPTIONS", f"{WEB}/", 200, 200),
    (None, "GET", "/nothing", 404, 404),
    (None, "PUT", f"{WEB}/studies", 405, 405),
    (SEE, "GET", f"{WEB}/studies", 200, 200),
    (SEE, "GET", f"{WEB}/studies?includefield=all", 200, 200),
    (SEE, "GET", f"{WEB}/studies?StudyInstanceUID=STUDY", 200, 200),
    (SEE, "GET", f"{WEB}/studies?StudyDescription=SECRET", 200, 200),
    (SEE, "GET", f"{WEB}/studies?PatientName=S*", 200, 200),
    (SEE, "GET", f"{WEB}/studies?PatientName=Secret&fuzzymatching=true", 200, 200),
    (SEE, "GET", f"{WEB}/studies?limit=1&offset=1", 200, 200),
    (SEE, "GET", f"{WEB}/series", 200, 200),
    (SEE, "GET", f"{WEB}/series?StudyInstanceUID=STUDY", 200, 200),
    (SEE, "GET", f"{WEB}/instances", 200, 200),
    (SEE, "GET", f"{WEB}/instances?SOPInstanceUID=STUDY.4.5", 200, 200),
    (SEE, "GET", f"{STUDY}/series", 200, 200),
    (SEE, "GET", f"{STUDY}/instances", 200, 200),
    (SEE, "GET", f"{SERIES}/instances", 200, 200),
    (SEE, "HEAD", STUDY, 200, 404),
    (SEE, "GET", STUDY, 200, 404),
    (SEE, "GET", SERIES, 200, 404),
    (SEE, "GET", INSTANCE, 200, 404),
    (SEE, "GET", f"{WEB}/studies/{SEEN}/series/STUDY.4", 200, 404),
    (SEE, "GET", f"{WEB}/studies/{SEEN}/series/{SEEN}.4/instances/STUDY.4.5", 200, 404),
    (SEE, "GET", f"{STUDY}/metadata", 200, 404),
    (SEE, "GET", f"{SERIES}/metadata", 200, 404),
    (SEE, "GET", f"{INSTANCE}/metadata", 200, 404),
    (SEE, "GET", f"{INSTANCE}/bulkdata/7FE00010", 404, 404),
    (SEE, "GET", f"{INSTANCE}/frames/1", 406, 404),
    (SEE, "GET", f"{STUDY}/rendered", 406, 404),
    (SEE, "GET", f"{SERIES}/rendered", 406, 404),
    (SEE, "GET", f"{INSTANCE}/rendered", 406, 404),
    (SEE, "GET", f"{INSTANCE}/frames/1/rendered", 406, 404),
    (SEE, "GET", f"{STUDY}/thumbnail", 406, 404),
    (SEE, "GET", f"{SERIES}/thumbnail", 406, 404),
    (SEE, "GET", f"{INSTANCE}/thumbnail", 406, 404),
    (SEE, "GET", f"{INSTANCE}/frames/1/thumbnail", 406, 404),
    (SEE, "GET", f"{WADO}&contentType=application/dicom", 200, 404),
    (SEE, "GET", WADO, 200, 404),
    (SEE, "GET", "/wado", 400, 400),
    (SEE, "GET", "/", 200, 200),
    (SEE, "GET", "/?q=Secret", 200, 200),
    (SEE, "GET", "/results", 200, 200),
    (SEE, "GET", "/results?q=Secret&sort=-date", 200, 200),
    (SEE, "GET", "/study/STUDY", 200, 404),
    (SEE, "GET", "/view/STUDY", 200, 404),
    (SEE, "GET", "/api/studies", 200, 200),
    (SEE, "GET", "/api/studies?q=Secret", 200, 200),
    (SEE, "GET", "/api/studies/STUDY", 200, 404),
    (SEE, "GET", "/api/studies/STUDY/series/STUDY.4", 200, 404),
    (SEE, "GET", "/api/names", 200, 200),
    (SEE, "GET", "/api/zip?study=STUDY", 200, 404),
    (SEE, "GET", "/viewer?StudyInstanceUIDs=STUDY", 404, 404),
    (STORE, "GET", "/upload", 200, 200),
    (STORE, "POST", f"{WEB}/studies", 415, 415),
    (STORE, "POST", STUDY, 415, 415),
    (SEND, "POST", "/api/send", 400, 400),
    (DELETE, "POST", "/api/delete", 400, 400),
    (DELETE, "DELETE", STUDY, 0, 404),
    (DELETE, "DELETE", SERIES, 0, 404),
    (DELETE, "DELETE", INSTANCE, 0, 404),
    (DELETE, "DELETE", f"{WEB}/studies/{SEEN}/series/STUDY.4/instances/STUDY.4.5", 0, 404),
    (ADMINISTER, "GET", "/system", 200, 200),
    (ADMINISTER, "GET", "/system/now", 200, 200),
    (ADMINISTER, "GET", "/api/status", 200, 200),
    (ADMINISTER, "GET", "/api/tasks", 200, 200),
    (ADMINISTER, "POST", "/api/tasks/retry", 400, 400),
    (ADMINISTER, "POST", "/api/tasks/drop", 400, 400),
    (ADMINISTER, "GET", "/api/destinations", 200, 200),
    (ADMINISTER, "POST", "/api/destinations/NOBODY/echo", 404, 404),
    (ADMINISTER, "GET", "/api/associations", 200, 200),
    (ADMINISTER, "GET", "/api/samples", 200, 200),
    (ADMINISTER, "GET", "/api/log", 200, 200),
    (WATCH, "GET", "/metrics", 200, 200),
]
"""A path with a study makes two more requests: for one that is hidden, and an unknown one."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    with web_site(tmp_path_factory.mktemp("node")) as site:
        fill(site)
        for right in UserRight:
            site.add(str(right), right)
        site.add("none")
        rights = [right for right in UserRight if right is not ADMINISTER]
        site.add("filtered", *rights, studies=("StudyDescription=Open",))
        yield site


def fill(site: WebSite) -> None:
    """Store two studies of one patient, and an object of another."""
    site.store(f"{SEEN}.4.5", **study(SEEN, StudyDescription="Open"))
    site.store(f"{HIDDEN}.4.5", **study(HIDDEN, StudyDescription="SECRET"))
    site.store(f"{HIDDEN}.4.6", **study(f"{HIDDEN}.1", PatientID="P2", PatientName="Secret^Name"))


def study(uid: str, **values: str) -> dict[str, str]:
    """Return the attributes of an object in a study."""
    return {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.4", **values}


def requests() -> Iterator[tuple[UserRight | None, str, str, int]]:
    for right, method, path, seen, hidden in TABLE:
        if seen:
            yield right, method, path.replace("STUDY", SEEN), seen
        if "STUDY" in path:
            for uid in (HIDDEN, UNKNOWN):
                yield right, method, path.replace("STUDY", uid), hidden


def status(site: WebSite, method: str, path: str, *user: str) -> int:
    return site.ask(method, path, *user).status_code


def test_the_table_has_all_endpoints_and_a_hundred_requests(site: WebSite) -> None:
    def answers(endpoint: Endpoint) -> bool:
        fits = compile_path(endpoint.path)[0].match
        return any(
            endpoint.right is right and method == endpoint.method and fits(path.partition("?")[0])
            for right, method, path, *_ in TABLE
        )

    missing = [each[:3] for each in site.application.endpoints if not answers(each)]
    assert missing == []
    assert len(list(requests())) >= 100


def test_only_these_modules_use_the_index_without_the_filter_of_a_user() -> None:
    """What they tell is of the whole archive: its health and numbers, and its tasks.

    `found` notes that what a user has found is used.
    """
    here = Path(web.__file__).parent
    found = {
        path.relative_to(here).as_posix()
        for path in here.rglob("*.py")
        if "archive.index" in path.read_text()
    }
    allowed = {
        *("gate.py", "health.py", "metrics.py", "found.py"),
        *("page/problems.py", "page/system.py"),
    }
    assert found - allowed == set()


@pytest.mark.parametrize("address", ["127.0.0.1", ELSEWHERE])
def test_nobody_may_do_what_needs_a_right(site: WebSite, address: str) -> None:
    for right, method, path, expected in requests():
        expected = expected if right is None else 401
        assert status(site, method, path, "", address) == expected, path


@pytest.mark.parametrize("name", ["none", *UserRight])
def test_a_user_may_do_what_the_right_allows(site: WebSite, name: str) -> None:
    for right, method, path, expected in requests():
        if right not in (None, name):
            assert status(site, method, path, name) == 403, path
        elif HIDDEN not in path and method != "DELETE":
            assert status(site, method, path, name) == expected, path


def test_a_user_with_a_filter_sees_nothing_of_other_studies(site: WebSite) -> None:
    for right, method, path, expected in requests():
        response = site.ask(method, path, "filtered")
        assert response.status_code == (403 if right is ADMINISTER else expected), path
        text = response.text
        if HIDDEN in path:
            unknown = site.ask(method, path.replace(HIDDEN, UNKNOWN), "filtered")
            assert unknown.text == text.replace(HIDDEN, UNKNOWN)
            assert dict(unknown.headers) == dict(response.headers)
            text = text.replace(HIDDEN, UNKNOWN)
        elif "Secret" in path or "SECRET" in path:
            text = text.replace('value="Secret"', "").replace("q=Secret", "")
        assert not [secret for secret in SECRETS if secret in text], path


def test_counts_are_those_of_visible_studies(site: WebSite) -> None:
    path = f"{WEB}/studies?includefield=NumberOfPatientRelatedStudies"
    for user, studies in (("see", {1, 2}), ("filtered", {1})):
        found = site.ask("GET", path, user).json()
        assert {each["00201200"]["Value"][0] for each in found} == studies


def stow(site: WebSite, user: str, *objects: bytes, path: str = f"{WEB}/studies") -> httpx.Response:
    """Store objects by STOW-RS."""
    head = b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + each for each in objects) + b"\r\n--x--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    return site.ask("POST", path, user, content=body, headers={"content-type": kind})


def test_objects_are_stored_in_visible_studies_only(site: WebSite) -> None:
    def file(uid: str, note: str = "", **values: str) -> bytes:
        return file_head("1.2.840.10008.5.1.4.1.1.2", uid, "1.2.840.10008.1.2.1") + encoded(
            uid, note, **values
        )

    taken = f"{HIDDEN}.4.5"
    refused = [
        file("1.2.7.1", **study("1.2.7", StudyDescription="Other")),
        file("1.2.7.2", **study(HIDDEN, StudyDescription="Open")),
        file(taken, "other", **study(SEEN, StudyDescription="Open")),
    ]
    for each in refused:
        response = stow(site, "filtered", each)
        assert response.status_code == 403
        (failed,) = response.json()["00081198"]["Value"]
        assert failed["00081197"]["Value"] == [0x0124]
        assert not [secret for secret in ("SECRET", "Secret") if secret in response.text]
    good = file("1.2.7.3", **study("1.2.7", StudyDescription="Open"))
    assert stow(site, "filtered", good).status_code == 200
    assert status(site, "GET", f"{WEB}/studies/1.2.7", "filtered") == 200
    assert stow(site, "see", good).status_code == 403
    assert stow(site, "", good).status_code == 401


def test_what_is_visible_can_be_sent_and_deleted_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with web_site(tmp_path_factory.mktemp("node")) as site:
        fill(site)
        site.add("filtered", DELETE, SEND, studies=("StudyDescription=Open",))
        site.add("see", SEE)
        for uid in (HIDDEN, f"{HIDDEN}.1"):
            assert status(site, "DELETE", f"{WEB}/studies/{uid}", "filtered") == 404
            for path in ("/api/delete", "/api/send"):
                for chosen in ({"studies": [uid]}, {"search": "q=Secret"}):
                    body = {"destination": "STORESCP", **chosen}
                    assert site.ask("POST", path, "filtered", json=body).status_code == 404
        everything = {"destination": "STORESCP", "search": ""}
        response = site.ask("POST", "/api/send", "filtered", json=everything)
        assert response.json() == {"objects": 1}
        assert site.ask("POST", "/api/send", "see", json=everything).status_code == 403
        assert status(site, "DELETE", f"{WEB}/studies/{SEEN}", "see") == 403
        assert status(site, "DELETE", f"{WEB}/studies/{SEEN}", "filtered") < 300
        assert status(site, "GET", f"{WEB}/studies/{SEEN}", "see") == 404
        assert status(site, "GET", f"{WEB}/studies/{HIDDEN}", "see") == 200
