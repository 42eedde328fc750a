"""The face under test, and what must never happen in any scenario."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from scenario import Threaded


@pytest.fixture
def face() -> Iterator[Threaded]:
    threaded = Threaded()
    yield threaded
    threaded.close()


@pytest.fixture(autouse=True)
def _no_internal_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a peer or a handler does may come out as an error of the library's own."""
    caplog.set_level(logging.INFO, "dicomwire")
    yield
    records = [each for when in ("setup", "call") for each in caplog.get_records(when)]
    assert not [each.getMessage() for each in records if "internal error" in each.getMessage()]
