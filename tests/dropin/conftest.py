"""What the tests of the drop-in run programs with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
from dropin_processes import DROP_IN, PROGRAMS, REAL, Implementation, Server, end

# What is in there is for a process that has the drop-in, and run in one by test_inside.
collect_ignore = [] if find_spec("pynetdicom") else ["inside"]


@pytest.fixture(scope="session", autouse=True)
def _forkers() -> Iterator[None]:
    """End the processes that programs are forked from."""
    yield
    for each in (DROP_IN, REAL):
        if "forker" in vars(each):
            each.forker.end()


@pytest.fixture
def drop_in() -> Implementation:
    """Give the drop-in."""
    return DROP_IN


@pytest.fixture(params=[DROP_IN, REAL], ids=lambda implementation: implementation.name)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Give the drop-in, and for comparison the real pynetdicom."""
    found: Implementation = request.param
    if not os.access(found.python, os.X_OK):
        missing = pytest.fail if os.environ.get("CI", "").lower() in ("true", "1") else pytest.skip
        missing(f"{found.python}, PYNETDICOM_PYTHON: no Python")
    return found


@pytest.fixture
def serve(implementation: Implementation) -> Iterator[Callable[..., Server]]:
    """Give what starts a server program."""
    servers: list[Server] = []

    def begin(program: str, *args: object) -> Server:
        servers.append(Server(implementation, program, *args))
        return servers[-1]

    yield begin
    for server in servers:
        end(server.process)


@pytest.fixture
def client(implementation: Implementation) -> Callable[..., str]:
    """Give what runs a client program, and returns what it prints."""
    return lambda program, *args: implementation.run(PROGRAMS / program, *args)
