"""What is done with chosen studies by the JSON API: which ones are meant, and what may not be."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from running_node import make_object, store
from web_client import Serving, serving

from dicomwire.node.deletion import protect
from dicomwire.node.users import UserRight, Users


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    """An archive with the studies 1.1 to 1.3."""
    with serving(tmp_path / "archive") as serving_node:
        objects = (
            make_object(1, study=f"1.{number}", PatientID=f"P{number}") for number in (1, 2, 3)
        )
        store(serving_node.node, *objects)
        yield serving_node


def studies(client: httpx.Client) -> list[str]:
    """Return the studies that there are."""
    answer = client.get("/api/studies", params={"sort": "received"}).json()
    return [each["study_instance_uid"] for each in answer["studies"]]


def test_listed_studies_are_deleted(served: Serving) -> None:
    answer = served.client.post("/api/delete", json={"studies": ["1.1", "1.3", "1.9"]})
    assert answer.json().items() >= {"studies": 2, "objects": 2}.items()
    assert studies(served.client) == ["1.2"]


def test_the_studies_of_a_search_are_deleted(served: Serving) -> None:
    answer = served.client.post("/api/delete", json={"search": "q=P2&sort=patient"})
    assert answer.json()["studies"] == 1
    assert studies(served.client) == ["1.1", "1.3"]


def test_nothing_is_deleted_with_a_protected_study(served: Serving) -> None:
    protect(served.node.archive.index, ["1.2"])
    answer = served.client.post("/api/delete", json={"studies": ["1.1", "1.2"]})
    assert answer.status_code == 409
    assert answer.json()["detail"] == "the study is protected"
    assert len(studies(served.client)) == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"studies": []}, 400), ({"studies": "1.1"}, 400), ({"studies": [1]}, 400),
     ({"search": 1}, 400), ({"studies": ["1.9"]}, 404), ({"search": "q=nobody"}, 404)],
)  # fmt: skip
def test_a_choice_of_nothing_is_refused(served: Serving, body: dict[str, Any], status: int) -> None:
    for path in ("/api/delete", "/api/send"):
        answer = served.client.post(path, json={"destination": "STORESCP", **body})
        assert answer.status_code == status
    assert len(studies(served.client)) == 3


def test_an_unknown_destination_is_refused(served: Serving) -> None:
    answer = served.client.post("/api/send", json={"destination": "X", "studies": ["1.1"]})
    assert answer.status_code == 400


def test_studies_are_downloaded_as_a_zip(served: Serving) -> None:
    answer = served.client.get("/api/zip", params={"study": ["1.1", "1.3"]}).raise_for_status()
    assert answer.headers["content-type"] == "application/zip"
    assert "dicom.zip" in answer.headers["content-disposition"]
    assert uids_in(answer.content) == ["1.1.1.1", "1.3.1.1"]
    searched = served.client.get("/api/zip", params={"q": "P2"}).raise_for_status()
    assert uids_in(searched.content) == ["1.2.1.1"]
    everything = served.client.get("/api/zip").raise_for_status()
    assert len(uids_in(everything.content)) == 3
    assert served.client.get("/api/zip", params={"study": "1.9"}).status_code == 404


def uids_in(data: bytes) -> list[str]:
    """Return the UIDs of the objects in a ZIP."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        names = [name for name in file.namelist() if name != "DICOMDIR"]
        return sorted(str(dcmread(file.open(name)).SOPInstanceUID) for name in names)


def of_user(served: Serving, name: str, *rights: UserRight, studies: tuple[str, ...] = ()) -> None:
    """Make the client that of a user."""
    users = Users(served.node.configuration.folder / "users.json")
    users.add(name, rights, studies)
    served.client.headers["Authorization"] = f"Bearer {users.add_token(name, 60)}"


def test_a_user_sees_and_deletes_only_own_studies(served: Serving) -> None:
    of_user(served, "jane", UserRight.SEE, UserRight.DELETE, studies=("PatientID=P2",))
    assert studies(served.client) == ["1.2"]
    assert uids_in(served.client.get("/api/zip").content) == ["1.2.1.1"]
    assert served.client.get("/study/1.1").status_code == 404
    assert served.client.get("/api/studies/1.1").status_code == 404
    assert served.client.get("/api/studies/1.1/series/1.1.1").status_code == 404
    answer = served.client.post("/api/delete", json={"studies": ["1.1", "1.2"]})
    assert answer.json()["studies"] == 1
    of_user(served, "root", *UserRight)
    assert studies(served.client) == ["1.1", "1.3"]


def test_a_user_is_shown_what_the_rights_allow(served: Serving) -> None:
    of_user(served, "jane", UserRight.SEE)
    text = served.client.get("/").text + served.client.get("/study/1.1").text
    assert "jane" in text
    assert "Log out" in text
    for hidden in ("Upload", "System", "Send to", "Delete"):
        assert hidden not in text
    for path in ("/system", "/upload", "/api/status", "/api/tasks", "/api/log"):
        assert served.client.get(path).status_code == 403
    for path in ("/api/delete", "/api/send", "/api/tasks/drop"):
        assert served.client.post(path, json={}).status_code == 403
