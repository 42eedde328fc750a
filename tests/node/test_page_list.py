"""The list of studies and a study, as HTML and as JSON: what is found, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from shown_archive import HEAD, HEART, KNEE, REPORT, shown
from web_client import serving

from dicomwire.node.web.page import people


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with shown(tmp_path_factory.mktemp("shown") / "archive") as served:
        yield served.client


def found(client: httpx.Client, **parameters: Any) -> list[str]:
    """Return the UIDs of the studies in a list."""
    answer = client.get("/api/studies", params=parameters).raise_for_status().json()
    return [each["study_instance_uid"] for each in answer["studies"]]


@pytest.mark.parametrize(
    ("parameters", "studies"),
    [
        ({}, [HEAD, HEART, KNEE, REPORT]),
        ({"sort": "date"}, [REPORT, KNEE, HEART, HEAD]),
        ({"sort": "patient"}, [REPORT, HEAD, KNEE, HEART]),
        ({"sort": "-received"}, [REPORT, HEART, KNEE, HEAD]),
        ({"sort": "no such column"}, [HEAD, KNEE, HEART, REPORT]),
        ({"q": "doe"}, [HEAD]),
        ({"q": "jane DOE"}, [HEAD]),
        ({"q": "doe müller"}, []),
        ({"q": "muller"}, [KNEE]),
        ({"q": "山田"}, [HEART]),
        ({"q": "acc"}, [HEAD, KNEE]),
        ({"q": "ACC77"}, [HEAD]),
        ({"q": "y2"}, [HEART]),
        ({"q": "knee"}, [KNEE]),
        ({"q": HEAD}, [HEAD]),
        ({"q": "%"}, []),
        ({"q": "^"}, []),
        ({"q": "&"}, [REPORT]),
        ({"from": "2025-01-01"}, [HEAD, HEART]),
        ({"from": "20240101", "to": "2025-03-01"}, [HEART, KNEE]),
        ({"to": "2024-12-31"}, [KNEE]),
        ({"to": "yesterday"}, [HEAD, HEART, KNEE, REPORT]),
        ({"modality": "MR"}, [KNEE]),
        ({"modality": "MR", "q": "doe"}, []),
        ({"start": "2"}, [KNEE, REPORT]),
        ({"limit": "1"}, [HEAD]),
    ],
)
def test_a_list_has_the_studies_that_are_wanted(
    client: httpx.Client, parameters: dict[str, str], studies: list[str]
) -> None:
    assert found(client, **parameters) == studies


def test_a_list_says_how_many_studies_there_are_beyond_the_page(client: httpx.Client) -> None:
    first = client.get("/api/studies", params={"limit": 1}).json()
    assert first["total"] == 4
    assert first["studies"][0] == {
        "study_instance_uid": HEAD,
        "study_date": "20250402",
        "study_time": "103000",
        "accession_number": "ACC77",
        "study_description": "Head",
        "patient_id": "P1",
        "patient_name": "Doe^Jane",
        "patient_birth_date": "19800131",
        "patient_sex": "F",
        "modalities": ["CT"],
        "series": 1,
        "instances": 10,
    }
    assert client.get("/api/studies", params={"start": 9}).json() == {"total": 4, "studies": []}


def test_a_study_has_its_series_and_they_have_their_instances(client: httpx.Client) -> None:
    study = client.get(f"/api/studies/{HEAD}").json()
    assert study["patient_name"] == "Doe^Jane"
    (series,) = study["series"]
    assert series["series_instance_uid"] == f"{HEAD}.1"
    assert series["instances"] == 10
    assert series["bytes"] > 10 * 64 * 64 * 2
    listed = client.get(f"/api/studies/{HEAD}/series/{HEAD}.1").json()["instances"]
    assert [each["instance_number"] for each in listed] == [str(each) for each in range(1, 11)]
    clip = client.get(f"/api/studies/{HEART}/series/{HEART}.1").json()["instances"]
    assert [each["frames"] for each in clip] == [4]


@pytest.mark.parametrize("path", ["/api/studies/1.9", f"/api/studies/{HEAD}/series/1.9"])
def test_what_is_not_there_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_names_of_tags(client: httpx.Client) -> None:
    answer = client.get("/api/names", params={"tags": "00100010,00091001,x,7FE00010"})
    assert answer.json() == {"00100010": "Patient's Name", "7FE00010": "Pixel Data"}


@pytest.mark.parametrize("path", ["/", "/results", f"/study/{HEAD}", f"/view/{HEAD}", "/upload"])
def test_a_page_is_protected_and_small(client: httpx.Client, path: str) -> None:
    answer = client.get(path).raise_for_status()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(
        r"<script(?! type=\"module\" src=)| style=| on[a-z]+=|https?://", answer.text
    )
    assert len(answer.content) < 50_000


def test_texts_of_senders_are_no_html(client: httpx.Client) -> None:
    text = client.get("/").text
    assert "&lt;b&gt;Report &amp; more&lt;/b&gt;" in text
    assert "<b>Report" not in text


def test_a_page_writes_names_and_dates_as_people_do(client: httpx.Client) -> None:
    text = client.get(f"/study/{HEART}").text
    assert "Yamada, Tarou" in text
    assert "山田 太郎" in text
    assert "やまだ たろう" in text
    assert "1 Mar 2025" in text
    assert "45 y old then" in client.get(f"/study/{HEAD}").text


def test_a_study_that_is_not_there_is_a_page_that_says_so(client: httpx.Client) -> None:
    answer = client.get("/study/1.9")
    assert answer.status_code == 404
    assert "There is no such study" in answer.text


def test_what_fails_is_a_page_for_people_and_json_for_programs(client: httpx.Client) -> None:
    html = {"Accept": "text/html,*/*"}
    answer = client.get("/nothing", headers=html)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client.get("/nothing").json()["status"] == 404
    for path in ("/api/studies/1.9", "/dicom-web/studies/1.9", "/static/nothing"):
        assert client.get(path, headers=html).headers["content-type"] != "text/html; charset=utf-8"


@pytest.mark.parametrize("name", ["page.css", "api.js", "icon.svg"])
def test_static_files(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/static/{name}").raise_for_status()
    again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["page.html", "..%2f__init__.py", "%2e%2e", "x.css", "api.js%00"])
def test_no_other_file_is_sent(client: httpx.Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_an_empty_archive_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path / "archive") as served:
        text = served.client.get("/").text
        assert "The archive is empty" in text
        assert "storescu 127.0.0.1" in text
        assert "No study is like this" in served.client.get("/?q=doe").text


def test_the_parts_of_a_name() -> None:
    assert people.person_name("Doe^Jane^Q^Dr^MD").main == "Doe, Dr Jane Q, MD"
    assert people.person_name("Doe").main == "Doe"
    assert people.person_name("=山田^太郎") == ("山田 太郎", "", "")
    assert people.person_name("Hong^Gildong=洪^吉洞=홍^길동") == (
        "Hong, Gildong",
        "洪 吉洞",
        "홍 길동",
    )
    assert people.person_name("^^") == ("", "", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [("20240301", "1 Mar 2024"), ("2024.03.01", "1 Mar 2024"), ("202403", "Mar 2024"),
     ("2024", "2024"), ("", ""), ("20241301", "20241301"), ("soon", "soon")],
)  # fmt: skip
def test_dates(value: str, text: str) -> None:
    assert people.day(value) == text


def test_times_ages_and_sizes() -> None:
    assert [people.clock(each) for each in ("103000.5", "10", "10:30", "")] == [
        "10:30", "10:00", "10:30", "",
    ]  # fmt: skip
    assert people.age("20240315", "20250314") == "11 mo"
    assert people.age("19800131", "20250130") == "44 y"
    assert people.age("", "20250130") == people.age("20250101", "20240101") == ""
    assert [people.size(each) for each in (0, 999, 1500, 2.5e6, 123e6, 4e13)] == [
        "0 bytes", "999 bytes", "2 kB", "2.5 MB", "123 MB", "40.0 TB",
    ]  # fmt: skip
    assert people.count(1234567) == "1\u202f234\u202f567"
