"""A bucket for an archive's objects: SeaweedFS in a temporary folder, durable as it comes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import HOST, NotInstalledError, RunFailedError, free_port, serving

PARTS = ("s3", "s3.port.grpc", "master", "volume", "filer")
"""The servers in its process; but for S3, each has a second port, which is 10,000 higher."""
HIGHEST = 50_000


@contextmanager
def bucket(folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a server in `folder`, which is made; give the URL, and the file with its address."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("weed", path=path)
    if program is None:
        raise NotInstalledError("SeaweedFS is not installed")
    (folder / "data").mkdir(parents=True)
    ports = {part: _free_pair() for part in PARTS}
    command = [
        *(program, "server", "-s3", f"-dir={folder / 'data'}", f"-ip={HOST}", f"-ip.bind={HOST}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=64", "-volume.preStopSeconds=0"),
        *(f"-{part if '.' in part else part + '.port'}={port}" for part, port in ports.items()),
    ]
    variables = folder / "variables"
    address = f"http://{HOST}:{ports['s3']}"
    variables.write_text(
        f"AWS_ENDPOINT_URL={address}\nAWS_ALLOW_HTTP=true\nAWS_REGION=us-east-1\n"
        "AWS_ACCESS_KEY_ID=any\nAWS_SECRET_ACCESS_KEY=any\n"
    )
    with serving(command, ports["s3"], folder / "log") as server:
        make = "s3.bucket.create -name archive\n"
        shell = [program, "shell", f"-master={HOST}:{ports['master']}"]
        done = subprocess.run(shell, input=make, capture_output=True, text=True)
        if done.returncode:
            raise RunFailedError(f"the bucket cannot be made: {done.stderr}")
        try:
            yield "s3://archive/objects", variables
        finally:
            server.process.kill()  # to end by itself takes it longer than `serving` waits


def _free_pair() -> int:
    """Return a free port below those that the system gives to clients, for the second one."""
    while (port := free_port()) > HIGHEST:
        pass
    return port
