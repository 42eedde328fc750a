"""What tests with peers need: the peers, and an archive of ours for them to use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from archive import Archive, make_images
from peers import Peers


@pytest.fixture(scope="session")
def peers() -> Peers:
    """The peers that this machine has; to ask for a missing one skips, or fails in CI."""
    return Peers()


@pytest.fixture
def archive() -> Archive:
    """An archive that has the images of `make_images`, and serves once there is a `port`."""
    return Archive(make_images())


@pytest.fixture
def port(archive: Archive) -> Iterator[int]:
    """The port that the archive serves on."""
    with archive.serving() as port:
        yield port
