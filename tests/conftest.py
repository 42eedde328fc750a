"""What tests of all kinds share, and what none may leave behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from certificates import Certificates

# How long an example takes says how busy the machine is. DICOMWIRE_EXAMPLES=1000 tries more.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("DICOMWIRE_EXAMPLES", "50")),
)
settings.load_profile("untimed")

# A shell lets what it starts in the background ignore SIGINT; programs of tests would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SOON = 10.0
"""Seconds in which what is being removed has to be gone."""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Authorities, and certificates for this machine, in order and not."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files of the tests, and of the processes that they start."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _no_temporary_file_is_left(
    temporary_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A temporary file that a test leaves fails it; the next one begins without."""
    yield
    moment, deadline = threading.Event(), time.monotonic() + SOON
    while (left := sorted(temporary_folder.iterdir())) and time.monotonic() < deadline:
        moment.wait(0.01)  # a thread of the library may be about to remove it
    for path in left:
        path.rename(tmp_path_factory.mktemp("left") / path.name)
    assert not left
