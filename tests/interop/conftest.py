"""What tests with peers need: the peers, and an archive of ours for them to use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import archive as archive_module
import pytest
from archive import Archive, make_images
from peers import Peers

import dicomwire
from dicomwire import Settings

sys.path.append(str(Path(__file__).parents[1] / "scenarios"))

from aio_face import Asyncio


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    """The peers that this machine has; to ask for a missing one skips, or fails in CI."""
    with pytest.MonkeyPatch.context() as patch:
        # Without it DCMTK leaves Nagle's algorithm on, and waits 40 ms and more for each message.
        patch.setenv("TCP_NODELAY", "1")
        yield Peers()


@pytest.fixture
def archive() -> Archive:
    """An archive that has the images of `make_images`, and serves once there is a `port`."""
    return Archive(make_images())


@pytest.fixture
def port(archive: Archive) -> Iterator[int]:
    """The port that the archive serves on."""
    with archive.serving() as port:
        yield port


@pytest.fixture(params=["threaded", "asyncio"])
def our_face(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have what is ours in a test be of either face."""
    if request.param == "threaded":
        yield
        return
    face = Asyncio()

    def make_ae(title: str = "DICOMWIRE", settings: Settings | None = None) -> object:
        return face.entity(title, settings or Settings())

    for module in (archive_module, request.module, dicomwire):
        monkeypatch.setattr(module, "AE", make_ae, raising=False)
    yield
    face.close()
