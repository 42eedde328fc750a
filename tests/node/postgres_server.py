"""A PostgreSQL of the tests' own, in a temporary folder, and databases with the tables of an index.

It listens on a socket of its folder only, and syncs nothing: see `PostgresServer.start` for tests
of what is durable.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest

from dicomwire.node.index.postgres import Postgres
from dicomwire.node.index.writer import Index

_TEMPORARY = tempfile.gettempdir()
"""Others may enter it: PostgreSQL does not run as root, so that its folder is of another user."""
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "lc_messages": "C",
}


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs: Debian's are not on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """A server, and the databases in it."""

    def __init__(self) -> None:
        folder = binaries()
        if folder is None:
            if os.environ.get("CI"):
                pytest.fail("PostgreSQL is not installed")
            pytest.skip("PostgreSQL is not installed")
        self._binaries = folder
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="dicomwire-postgres-", dir=_TEMPORARY))
        if os.getuid() == 0:
            shutil.chown(self.folder, self._user)
        self._numbers = count(1)
        self._run(
            *("initdb", "--pgdata", str(self._data), "--auth", "trust", "--username", "postgres"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            **self._options(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert done.returncode == 0, done.stderr.decode()

    def _options(self) -> dict[str, object]:
        options: dict[str, object] = {"cwd": self.folder}
        if os.getuid() == 0:
            options |= {"user": self._user, "group": self._user, "extra_groups": []}
        return options

    def start(self, **settings: str) -> None:
        """Start it, and return when it answers; `settings` take the place of the usual ones."""
        options = [f"-c {name}={value}" for name, value in (_OPTIONS | settings).items()]
        options.append(f"-k {self.folder}")
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", *self._where(), "--log", log, "-o", " ".join(options))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends all connections, "immediate" is a crash."""
        self._run("pg_ctl", "stop", *self._where(), "--mode", mode)

    def kill(self) -> None:
        """End all its processes by kill -9, and wait until they are gone."""
        server = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        processes = [server, *map(int, children)]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        moment = threading.Event()
        while any(Path(f"/proc/{process}").exists() for process in processes):
            moment.wait(0.01)

    def _where(self) -> tuple[str, ...]:
        return "--pgdata", str(self._data), "--wait", "--timeout", "30", "--silent"

    def remove(self) -> None:
        """Stop it if it runs, and remove its folder."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Return the URL of a database, as for the key `index` of a configuration."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Make a database with the tables of an empty index, and return its URL."""
        name = f"test_{next(self._numbers)}"
        with self._connected() as connection:
            if name == "test_1":
                connection.execute("CREATE DATABASE empty_index")
                Index(Postgres(self.url("empty_index"))).close()
            connection.execute(f"CREATE DATABASE {name} TEMPLATE empty_index STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database."""
        name = url.partition("@/")[2].partition("?")[0]
        with self._connected() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _connected(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder), user="postgres", dbname="postgres", autocommit=True
        )
