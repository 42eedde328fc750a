"""UIDs are those of pydicom in tests of the core, as programs have them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from coverage import Coverage

from dicomwire.registry.uids import use_pydicom

use_pydicom()


class Measuring:
    """Measures coverage only while a test runs that does the same each time.

    To trace the examples that Hypothesis finds, which differ, and what pytest does between the
    tests, takes longer than all of the tests.
    """

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        coverage.stop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        if item.get_closest_marker("hypothesis"):
            return (yield)
        self._coverage.start()
        try:
            return (yield)
        finally:
            self._coverage.stop()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Now the modules are imported; `Measuring` goes on, unless others are to be measured, too."""
    coverage, here = Coverage.current(), Path(__file__).parent
    if coverage is not None and all(item.path.parent == here for item in session.items):
        session.config.pluginmanager.register(Measuring(coverage))
