"""A node that forwards to DICOMweb servers by STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_processes import eventually
from pydicom.uid import ImplicitVRLittleEndian
from running_node import LOCALHOST, make_object, running, store
from web_client import Serving, serving

from dicomwire.node.configuration import ConfigurationError, Destination, Route
from dicomwire.node.configuration.reading import load
from dicomwire.node.forwarding import sending
from dicomwire.node.tasks.queue import listed
from dicomwire.web import Client, WebFailure


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for further objects."""
    monkeypatch.setattr(sending, "GATHER", 0.01)
    monkeypatch.setattr(sending, "LINGER", 0.05)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "target") as site:
        yield site


def root(site: Serving) -> str:
    return str(site.client.base_url.join("/dicom-web"))


def uids_in(site: Serving) -> list[str]:
    with Client(root(site)) as client:
        return sorted(str(each.SOPInstanceUID) for each in client.search("instances"))


def test_objects_go_to_a_web_server(target: Serving, tmp_path: Path) -> None:
    destination = Destination(LOCALHOST, 1, url=root(target))
    keys = {"routes": (Route(("WEB",)),), "destinations": {"WEB": destination}}
    with running(tmp_path / "source", **keys) as node:
        sent = [make_object(1), make_object(2, syntax=ImplicitVRLittleEndian)]
        sent.append(make_object(3, EncapsulatedDocument=bytes(300_000)))
        assert store(node, *sent) == [0, 0, 0]
        assert eventually(lambda: not list(listed(node.archive.index)))
    assert uids_in(target) == [each.SOPInstanceUID for each in sent]


def test_an_object_that_is_refused_is_repeated(target: Serving, tmp_path: Path) -> None:
    store(target.node, make_object(1, ImageComments="another"))
    destination = Destination(LOCALHOST, 1, url=root(target))
    keys = {"routes": (Route(("WEB",)),), "destinations": {"WEB": destination}}
    with running(tmp_path / "source", **keys) as node:
        store(node, make_object(1), make_object(2))
        assert eventually(lambda: any(task.error for task in listed(node.archive.index)))
        errors = [task.error for task in listed(node.archive.index) if task.error]
    assert errors == ["the response is 0x0111"]
    assert len(uids_in(target)) == 2


def test_a_server_that_is_away(tmp_path: Path) -> None:
    destination = Destination(LOCALHOST, 1, url=f"http://{LOCALHOST}:1/dicom-web")
    keys = {"routes": (Route(("WEB",)),), "destinations": {"WEB": destination}}
    with running(tmp_path / "source", **keys) as node:
        store(node, make_object(1))
        assert eventually(
            lambda: any("refused" in task.error for task in listed(node.archive.index))
        )


@pytest.mark.parametrize("url", ["archive", "ftp://archive", "http://user@archive", "http://a b/"])
def test_urls_of_destinations_are_checked(tmp_path: Path, url: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f"[destinations.WEB]\nhost = 'web'\nport = 104\nurl = '{url}'\n")
    with pytest.raises(ConfigurationError, match=r"destinations\.WEB\.url must be a URL"):
        load(file)


def test_a_token_is_read_when_it_is_used(tmp_path: Path, target: Serving) -> None:
    token = tmp_path / "token"
    token.write_text("first\nsecond line")
    destination = Destination(LOCALHOST, 1, url=root(target), token_file=str(token))
    with target.node.archive.outgoing.client(destination) as client:
        with pytest.raises(WebFailure, match="401"):  # the server knows no such token
            list(client.search("studies"))
        token.unlink()
        with pytest.raises(FileNotFoundError):
            list(client.search("studies"))
