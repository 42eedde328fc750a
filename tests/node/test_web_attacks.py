"""Requests that are meant to break something: each has the right status, and never 500.

TEST_EXAMPLES has the number of generated requests of each kind.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spooling import encoded
from web_client import Serving, connected, received, serving
from web_site import WebSite, web_site

from dicomwire.data.file_meta import file_head

EXAMPLES = settings(
    max_examples=int(os.environ.get("TEST_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
WEB = "/dicom-web"
INSTANCE = f"{WEB}/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5"
PATHS = [
    f"{WEB}/studies",
    f"{WEB}/series",
    f"{WEB}/studies/1.2.3/instances",
    f"{WEB}/studies/1.2.3",
    INSTANCE,
    f"{INSTANCE}/metadata",
    f"{INSTANCE}/frames/1",
    f"{INSTANCE}/rendered",
    f"{INSTANCE}/thumbnail",
    f"{INSTANCE}/bulkdata/7FE00010",
    "/wado",
    "/",
    "/results",
    "/study/1.2.3",
    "/api/studies",
    "/api/names",
    "/api/tasks",
    "/login",
]
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["..", "1.2.3", "%", "*", "\\", "\0", "\ud800", "1" * 300, "-1", "1e9", "99999999999999999999"]
)
NAMES = (
    st.sampled_from(
        [
            *(
                "limit",
                "offset",
                "includefield",
                "fuzzymatching",
                "PatientName",
                "StudyDate",
                "00100010",
            ),
            *("ModalitiesInStudy", "StudyInstanceUID", "0040A730.0040A043", "7FE00010", "orderby"),
            *("window", "viewport", "quality", "annotation", "accept", "charset", "iccprofile"),
            *("requestType", "studyUID", "seriesUID", "objectUID", "contentType", "frameNumber"),
            *("q", "from", "to", "modality", "sort", "start", "state", "kind", "next"),
        ]
    )
    | TEXTS
)
ACCEPTS = st.sampled_from(
    [
        "*/*",
        "image/jpeg;q=0",
        "image/*;q=x",
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        'multipart/related; type="image/jpeg"; transfer-syntax=1.2',
        "multipart/related; type=",
        "application/dicom+json, application/dicom+xml;q=0.5",
        '"; ;=;,,',
        "a/b" * 500,
    ]
)
RANGES = st.sampled_from(["", "bytes", "items=0-1"]) | st.builds(
    lambda ranges: f"bytes={ranges}",
    st.lists(
        st.from_regex(r"[0-9]{0,22}-[0-9]{0,22}", fullmatch=True), min_size=1, max_size=20
    ).map(",".join),
)
BYTES = st.binary(max_size=60) | TEXTS.map(lambda text: text.encode(errors="replace"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    with web_site(tmp_path_factory.mktemp("node")) as site:
        pixels = {"Rows": 8, "Columns": 8, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
        pixels |= {"SamplesPerPixel": 1, "PixelRepresentation": 0}
        site.store("1.2.3.4.5", pixels=64, PhotometricInterpretation="MONOCHROME2", **pixels)
        yield site


def check(site: WebSite, caplog: pytest.LogCaptureFixture, *request: object, **more: object) -> int:
    """Send a request; it is our fault in no way, whatever it has."""
    caplog.clear()
    status, body = site.call(*request, **more)  # type: ignore[arg-type]
    assert 200 <= status < 500, (status, body)
    assert b"Traceback" not in body
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    return status


def quoted(text: str) -> bytes:
    """Return text for a query string, of which a client escapes some characters."""
    return text.encode(errors="surrogatepass").replace(b"&", b"%26").replace(b"#", b"%23")


@EXAMPLES
@given(st.sampled_from(PATHS), st.lists(st.tuples(NAMES, TEXTS), max_size=5), BYTES)
def test_queries(
    site: WebSite,
    caplog: pytest.LogCaptureFixture,
    path: str,
    parameters: list[tuple[str, str]],
    rest: bytes,
) -> None:
    query = b"&".join(quoted(name) + b"=" + quoted(value) for name, value in parameters)
    check(site, caplog, "GET", path, query + rest)


@EXAMPLES
@given(st.sampled_from(PATHS), st.lists(TEXTS, max_size=4))
def test_paths(site: WebSite, caplog: pytest.LogCaptureFixture, path: str, more: list[str]) -> None:
    check(site, caplog, "GET", "/".join([path, *more]))
    check(site, caplog, "DELETE", "/".join([WEB, "studies", "9", *more]))


@EXAMPLES
@given(
    st.sampled_from(PATHS),
    ACCEPTS | TEXTS,
    RANGES | TEXTS,
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"if-range", b"if-none-match", b"cookie", b"x-forwarded-for", b"accept-charset"]
            ),
            BYTES,
        ),
        max_size=3,
    ),
)
def test_header_fields(
    site: WebSite,
    caplog: pytest.LogCaptureFixture,
    path: str,
    accept: str,
    ranges: str,
    more: list[tuple[bytes, bytes]],
) -> None:
    fields = [
        (b"accept", accept.encode(errors="replace")),
        (b"range", ranges.encode(errors="replace")),
    ]
    check(site, caplog, "GET", path, headers=[*fields, *more])


FILE = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.9", "1.2.840.10008.1.2.1") + encoded("1.2.9")
BODY = (
    b"--x\r\nContent-Type: application/dicom\r\n\r\n" + FILE + b"\r\n--x\r\n"
    b"Content-Type: application/dicom\r\nContent-Length: 3\r\n\r\nabc\r\n--x--\r\n"
)
KINDS = st.sampled_from(
    [
        b'multipart/related; type="application/dicom"; boundary=x',
        b'multipart/related; type="application/dicom+json"; boundary=x',
        b'multipart/related; type="application/dicom+xml"; boundary="x"',
        b'multipart/related; type="application/dicom"; boundary=' + b"y" * 100,
        b"multipart/related; boundary",
        b"application/x-www-form-urlencoded",
        b"",
    ]
)


@EXAMPLES
@given(
    KINDS,
    st.integers(0, len(BODY)),
    st.integers(0, 20),
    BYTES,
    st.lists(st.integers(0, len(BODY)), max_size=5),
)
def test_bodies(
    site: WebSite,
    caplog: pytest.LogCaptureFixture,
    kind: bytes,
    at: int,
    removed: int,
    inserted: bytes,
    cuts: list[int],
) -> None:
    changed = BODY[:at] + inserted + BODY[at + removed :]
    places = [0, *sorted(cuts), len(changed)]
    pieces = [changed[i:j] for i, j in pairwise(places)]
    for path in (f"{WEB}/studies", f"{WEB}/studies/1.2.3", "/login"):
        check(site, caplog, "POST", path, headers=[(b"content-type", kind)], body=pieces)
    site.call("DELETE", f"{WEB}/studies/1.2.3/series/1.2.3.4/instances/1.2.9")


VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)


@EXAMPLES
@given(VALUES)
def test_json(site: WebSite, caplog: pytest.LogCaptureFixture, value: object) -> None:
    body = json.dumps(value).encode()
    for path in ("/api/tasks/retry", "/api/tasks/drop"):
        check(site, caplog, "POST", path, body=[body])


def test_nothing_is_left_in_the_spool(site: WebSite) -> None:
    """The last test of this module: requests that break off have given all back."""
    folder = site.archive.configuration.folder / "spool"
    assert [each for each in folder.rglob("*") if each.is_file() and each.name != "lock"] == []
    assert site.call("GET", f"{WEB}/studies")[0] == 200


# --- What the server gets before the application ----------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("node")) as running:
        yield running


HOST = b"Host: localhost\r\n"
SECOND = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"Content-Length: +5\r\n\r\nabcde",
        b"Content-Length: 0x5\r\n\r\nabcde",
        b"Content-Length: 5, 6\r\n\r\nabcde",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n\r\n",
        b"Host: evil.example\r\n\r\n",
        b"X-Field: a\0b\r\n\r\n",
        b"X Field: a\r\n\r\n",
        b": a\r\n\r\n",
    ],
    ids=repr,
)
def test_a_request_of_two_readings_is_refused_and_nothing_after_it_is_read(
    node: Serving, head: bytes
) -> None:
    with connected(node.node) as connection:
        connection.sendall(b"POST /dicom-web/studies HTTP/1.1\r\n" + HOST + head + SECOND)
        connection.shutdown(socket.SHUT_WR)
        answers = received(connection)
    assert answers.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 415")), answers
    assert b"200 OK" not in answers


@pytest.mark.parametrize("field", [b"X: y\r\n", b"X-Field: " + b"y" * 1000 + b"\r\n"])
def test_a_flood_of_header_fields_is_refused(node: Serving, field: bytes) -> None:
    with connected(node.node) as connection:
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST)
            connection.sendall(field * (100_000 // len(field)))
        except (BrokenPipeError, ConnectionResetError):
            return
        assert received(connection)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")


def test_a_client_that_leaves_frees_its_slot(tmp_path: Path) -> None:
    with serving(tmp_path, http_connections=3) as site:
        for _ in range(10):
            with connected(site.node) as connection:
                connection.sendall(
                    b"POST /dicom-web/studies HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n"
                    b'Content-Type: multipart/related; type="application/dicom"; boundary=x\r\n'
                    b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + FILE[:500]
                )
        until = time.monotonic() + 10
        while site.client.get("/health").status_code != 200:
            assert time.monotonic() < until, "a slot is lost"
