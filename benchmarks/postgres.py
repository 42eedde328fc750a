"""A PostgreSQL for an archive's index: in a temporary folder, and durable as it comes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import NotInstalledError, RunFailedError


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, if it is installed: Debian's are not on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    return Path(path).parent if path else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a server in `folder`, which is made; give the URL of its database."""
    where = programs()
    if where is None:
        raise NotInstalledError("PostgreSQL is not installed")
    folder.mkdir()
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # as which it does not run
        shutil.chown(folder, "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}

    def run(program: str, *arguments: str) -> None:
        command = [str(where / program), "--pgdata", str(folder / "data"), *arguments]
        with (folder / "log").open("ab") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **user
            )
        if done.returncode:
            raise RunFailedError(f"{program} failed: {(folder / 'log').read_text()}")

    options = f"-c listen_addresses= -k {folder}"
    # What it makes here is the same each time, and need not be durable before the run.
    run("initdb", "--no-sync", "--auth", "trust", "--username", "postgres", "--encoding", "UTF8")
    run("pg_ctl", "start", "--wait", "--log", str(folder / "server.log"), "-o", options)
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "stop", "--wait", "--mode", "immediate")  # the folder is removed next
