"""The face under test, and what must never happen in any scenario."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from aio_face import Asyncio
from hostile import under_test
from scenario import Face, Threaded

from forked_programs import Forker


def _with_uvloop() -> Face:
    try:
        import uvloop
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("uvloop is not installed")
    return Asyncio("uvloop", uvloop.new_event_loop)


FACES = {"threaded": Threaded, "asyncio": Asyncio, "uvloop": _with_uvloop}
ON_UVLOOP = (
    "test_attacks_connections",
    "test_deadlines",
    "test_nothing_left",
    "test_pipelining",
    "test_query",
    "test_retrieve",
    "test_storing",
    "test_tls",
    "test_tls_profiles",
    "test_vanishing_peer",
)
"""Modules that have most of what depends on the loop; with --all-faces it is put to all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faces", action="store_true", help="all scenarios on uvloop, too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "threaded_only(reason): a scenario of the threaded face")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put every scenario to every face that can play it."""
    if "face" in metafunc.fixturenames:
        threads_alone = metafunc.definition.get_closest_marker("threaded_only")
        faces = ["threaded"] if threads_alone else ["threaded", "asyncio"]
        on_uvloop = metafunc.module.__name__ in ON_UVLOOP
        if not threads_alone and (on_uvloop or metafunc.config.getoption("--all-faces", False)):
            faces.append("uvloop")
        metafunc.parametrize("face", faces, indirect=True)


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    face = FACES[request.param]()
    under_test.append(face)
    yield face
    under_test.pop()
    face.close()


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """What servers in processes of their own are forked from."""
    forker = Forker(modules=("dicomwire.aio", "dicomwire.threaded.server"))
    yield forker
    forker.end()


@pytest.fixture(autouse=True)
def _no_internal_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a peer or a handler does may come out as an error of the library's own."""
    caplog.set_level(logging.INFO, "dicomwire")
    yield
    records = [each for when in ("setup", "call") for each in caplog.get_records(when)]
    assert not [each.getMessage() for each in records if "internal error" in each.getMessage()]
