"""The services that have buckets: S3 of two makes, and those of Google and Microsoft, or nearly.

No emulator of Google's service knows its XML interface, by which objects are stored. But that is
made like S3: moto answers its requests, once they have a signature of S3.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
from buckets import BUCKET, LOCALHOST, STARTED, moto, variables

from free_ports import free_port

AZURITE = os.environ.get("TEST_AZURITE", "")
"""The program `azurite-blob`: its installation takes 186 MB, and its start some seconds."""


class Service(NamedTuple):
    """A service that runs, and has the bucket `BUCKET`."""

    scheme: str
    variables: Mapping[str, str]
    """Its endpoint, and credentials."""

    def new_url(self) -> str:
        """Return a URL that no other test uses."""
        return f"{self.scheme}://{BUCKET}/{os.urandom(8).hex()}"


def _s3(fixture: str) -> Callable[[pytest.FixtureRequest], Service]:
    return lambda request: Service("s3", variables(request.getfixturevalue(fixture)))


SERVICES: dict[str, Callable[[pytest.FixtureRequest], Service]] = {
    "seaweedfs": _s3("seaweedfs_port"),
    "moto": _s3("moto_port"),
    "google": lambda request: request.getfixturevalue("google"),
}
"""Where a test stores that has the fixture `service`."""
if AZURITE:
    SERVICES["azure"] = lambda request: request.getfixturevalue("azure")


# --- Google -----------------------------------------------------------------------------------

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=node/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _as_google(application: Application) -> Application:
    """Let an S3 server take requests for Google; it does not verify signatures."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["HTTP_AUTHORIZATION"] = _SIGNED
        if environ["REQUEST_METHOD"] != "DELETE":
            return application(environ, start_response)
        # S3 answers with success also if there is no such object.
        found: list[Any] = []
        looking = {**environ, "REQUEST_METHOD": "GET"}
        content = [*application(looking, lambda *answer: found.extend(answer))]
        if found[0].startswith("404"):
            start_response(*found)
            return content
        return application(environ, start_response)

    return serve


@contextmanager
def google() -> Iterator[Service]:
    """Run what stands for Google Cloud Storage."""
    with moto(_as_google) as port:
        account = {
            "gcs_base_url": f"http://{LOCALHOST}:{port}",
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        key = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "AWS_ALLOW_HTTP": "true"}
        yield Service("gs", key)


# --- Microsoft --------------------------------------------------------------------------------

_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that each Azurite has; its documentation has the key."""


@contextmanager
def azure() -> Iterator[Service]:
    """Run Azurite, Microsoft's emulator of Azure Blob Storage."""
    port = free_port()
    address = "--blobHost", LOCALHOST, "--blobPort", str(port)
    options = "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"
    with subprocess.Popen([AZURITE, *address, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _make_container(port, process)
            yield Service(
                "az",
                {
                    "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
                    "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
                    "AZURE_STORAGE_ENDPOINT": f"http://{LOCALHOST}:{port}/{_ACCOUNT}",
                    "AWS_ALLOW_HTTP": "true",
                },
            )
        finally:
            process.kill()


def _make_container(port: int, process: subprocess.Popen[bytes]) -> None:
    """Make the container, when Azurite has started."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in headers.items())
    signed += f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}\nrestype:container"
    digest = hmac.digest(base64.b64decode(_KEY), signed.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    deadline, moment = time.monotonic() + STARTED, threading.Event()
    while True:
        connection = http.client.HTTPConnection(LOCALHOST, port)
        try:
            connection.request("PUT", f"/{_ACCOUNT}/{BUCKET}?restype=container", headers=headers)
            assert connection.getresponse().status == HTTPStatus.CREATED
            return
        except ConnectionRefusedError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            moment.wait(0.1)
        finally:
            connection.close()
