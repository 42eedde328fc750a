"""What tests of all kinds share, and what none may leave behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from certificates import Certificates

# How long an example takes says how busy the machine is. TEST_EXAMPLES=1000 tries more.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("TEST_EXAMPLES", "30")),
)
settings.load_profile("untimed")

# A shell lets what it starts in the background ignore SIGINT; programs of tests would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Servers of tests are on this machine, whatever proxy the environment has.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# Bytecode is kept, also where the environment says otherwise: it is what pytest makes of the tests,
# in each process of it, and what each process that a test starts would compile again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _is_fit_for_tests(folder: str) -> bool:
    """Whether files and programs of tests can be there, and have room: they take 1 GB."""
    if not os.access(folder, os.W_OK):
        return False
    system = os.statvfs(folder)
    return not system.f_flag & os.ST_NOEXEC and system.f_bavail * system.f_frsize > 4 << 30


# The archive syncs what it acknowledges: milliseconds for each file on a disk, nothing in memory.
if "TMPDIR" not in os.environ and _is_fit_for_tests("/dev/shm"):
    os.environ["TMPDIR"] = tempfile.tempdir = "/dev/shm"

SOON = 10.0
"""Seconds in which threads, processes and files that are about to go have to be gone."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage collections leave out what pytest finds here, which stays until the end.

    Those are 400,000 objects, and a quarter of a second for each collection that a test makes.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


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


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds, or for `SOON`."""
    moment, deadline = threading.Event(), time.monotonic() + SOON
    while not condition() and time.monotonic() < deadline:
        moment.wait(0.01)


class Running:
    """The threads and processes that run besides those from before the tests.

    Attributes
    ----------
    since : dict
        The test after which each was there first, which has started it or needed what did.
    """

    def __init__(self) -> None:
        self._others = self._all()
        self.since: dict[object, str] = {}

    @staticmethod
    def _all() -> set[object]:
        # The threads of the library end by themselves, after a while.
        threads = [each for each in threading.enumerate() if "dicomwire-" not in each.name]
        return {*threads, *_children()}

    def look(self, test: str) -> bool:
        """Look who runs after `test`; true if nobody does."""
        now = self._all() - self._others
        self.since = {each: self.since.get(each, test) for each in now}
        return not now


def _children() -> Iterator[str]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):  # none, which is quick; or no such system
        return
    for thread in os.listdir("/proc/self/task"):
        with (
            contextlib.suppress(OSError),  # the thread has ended
            open(f"/proc/self/task/{thread}/children") as file,
        ):
            yield from (f"process {number}" for number in file.read().split())


class Leftovers:
    """Looks after each test, and after what fixtures do in the end, for what is left.

    In a hook, since two more fixtures take a sixth of what pytest does for a short test.
    """

    def __init__(self, folder: Path, running: Running, paths: pytest.TempPathFactory) -> None:
        self._folder = folder
        self._running = running
        self._paths = paths

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """A temporary file that a test leaves fails it; the next one begins without."""
        try:
            return (yield)
        finally:
            self._running.look(item.nodeid)
            # A thread may be about to remove one.
            wait_until(lambda: not os.listdir(self._folder))
            left = sorted(self._folder.iterdir())
            for path in left:
                path.rename(self._paths.mktemp("left") / path.name)
            assert not left


@pytest.fixture(scope="session", autouse=True)
def running(
    temporary_folder: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Running]:
    """Find threads and processes that are left at the end, and the tests that they are of.

    Not after each test, since fixtures of a module or of the session start some, when first used.
    """
    running = Running()
    pytestconfig.pluginmanager.register(Leftovers(temporary_folder, running, tmp_path_factory))
    yield running
    wait_until(lambda: running.look("the end"))
    assert running.since == {}
