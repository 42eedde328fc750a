"""Servers that several modules of tests use: each is started once, by the first test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from buckets import moto, seaweedfs


@pytest.fixture(scope="session")
def seaweedfs_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a SeaweedFS; see `buckets.variables` and `buckets.new_url`."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server.port


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of a moto."""
    with moto() as port:
        yield port
