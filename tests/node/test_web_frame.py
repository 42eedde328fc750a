"""How a node serves HTTP: start, limits, errors and end, whatever the endpoints are."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from backends import configuration_of
from running_node import running
from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from web_client import Serving, connected, received, serving

from dicomwire.node.server import Node
from dicomwire.node.web import app
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.multipart import BodyPart, Multipart
from dicomwire.node.web.serving import CannotListen

ASKED = threading.Event()
MAY_ANSWER = threading.Event()


def refuse(request: Request, site: Site) -> Response:
    raise Problem(400, "the sentence", {"X-Field": "value"})


def fail(request: Request, site: Site) -> Response:
    raise ValueError("Doe^Jane")


def lose_index(request: Request, site: Site) -> Response:
    raise OperationalError("SELECT 'Doe^Jane'", None, Exception("disk I/O error"))


def lose_disk(request: Request, site: Site) -> Response:
    raise OSError(5, "Input/output error", "/secret/path")


def break_off(request: Request, site: Site) -> Response:
    def pieces() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError("gone")

    return StreamingResponse(site.threads.iterate(pieces()))


def endless(request: Request, site: Site) -> Response:
    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            ASKED.set()

    return StreamingResponse(site.threads.iterate(pieces()))


def slow(request: Request, site: Site) -> Response:
    ASKED.set()
    assert MAY_ANSWER.wait(10)
    return PlainTextResponse("done")


async def count(request: Request, site: Site) -> Response:
    return PlainTextResponse(str(sum([len(piece) async for piece in request.stream()])))


ENDPOINTS = [
    Endpoint("GET", f"/{each.__name__}", None, each)
    for each in (refuse, fail, lose_index, lose_disk, break_off, endless, slow)
]


@pytest.fixture(scope="module", autouse=True)
def endpoints() -> Iterator[None]:
    """Endpoints that fail in all ways."""
    more = (*ENDPOINTS, Endpoint("POST", "/count", None, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "ENDPOINTS", (*app.ENDPOINTS, *more))
        yield


@pytest.fixture(autouse=True)
def events() -> None:
    ASKED.clear()
    MAY_ANSWER.clear()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("node")) as running:
        yield running


def test_health_and_readiness(site: Serving) -> None:
    assert site.client.get("/health").text == "ok\n"
    assert site.client.get("/ready").text == "ready\n"


def test_head_is_answered_without_a_body(site: Serving) -> None:
    answer = site.client.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_each_response_has_a_date(site: Serving) -> None:
    assert site.client.get("/health").headers["date"].endswith("GMT")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/health/", 404), ("POST", "/health", 405)],
)
def test_a_request_without_endpoint(site: Serving, method: str, path: str, status: int) -> None:
    answer = site.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_wrong_method_is_told_the_allowed_ones(site: Serving) -> None:
    assert "GET" in site.client.post("/health").headers["allow"]


def test_a_refusal_has_a_sentence(site: Serving) -> None:
    answer = site.client.get("/refuse")
    assert answer.status_code == 400
    assert answer.json() == {"title": "Bad Request", "status": 400, "detail": "the sentence"}
    assert answer.headers["x-field"] == "value"


@pytest.mark.parametrize(
    ("path", "status", "line"),
    [
        ("/fail", 500, "A request of HTTP failed: ValueError in dicomwire.node.web."),
        ("/lose_index", 503, "The index cannot be read: disk I/O error"),
        (
            "/lose_disk",
            503,
            "A request of HTTP failed: OSError in dicomwire.node.web.",
        ),
    ],
)
def test_a_failure_of_ours_is_one_line_in_the_log(
    site: Serving, caplog: pytest.LogCaptureFixture, path: str, status: int, line: str
) -> None:
    with caplog.at_level(logging.INFO, "dicomwire"):
        answer = site.client.get(path)
    assert answer.status_code == status
    assert "Doe" not in answer.text
    assert "secret" not in answer.text
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage().startswith(line)
    assert "Doe" not in caplog.text


def test_a_response_that_fails_on_the_way_is_not_completed(site: Serving) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        site.client.get("/break_off")
    assert site.client.get("/health").is_success


def test_an_iterator_is_closed_when_the_client_leaves(site: Serving) -> None:
    with site.client.stream("GET", "/endless") as answer:
        next(answer.iter_bytes())
    assert ASKED.wait(10)


def test_a_body_is_received_in_pieces(site: Serving) -> None:
    pieces = (b"x" * 100_000 for _ in range(20))
    assert site.client.post("/count", content=pieces).text == "2000000"


def test_no_body_is_made_for_head(site: Serving) -> None:
    assert site.client.head("/endless").status_code == 200


def test_the_capabilities_are_described(site: Serving) -> None:
    answer = site.client.options("/dicom-web/")
    assert answer.headers["content-type"] == "application/vnd.sun.wadl+xml"
    resources = next(iter(ElementTree.fromstring(answer.content)))
    assert resources.attrib["base"] == f"{site.client.base_url}/dicom-web"
    described = {*_described(resources, "/dicom-web")}
    known = {
        (each.method, each.path.replace(":path}", "}"))
        for each in app.ENDPOINTS
        if each.path.startswith("/dicom-web/") and each.method != "OPTIONS"
    }
    assert described == known
    refused = site.client.options("/dicom-web", headers={"Accept": "text/html"})
    assert refused.status_code == 406


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}/dicom-web"),
        ("localhost:80", "http://localhost:80/dicom-web"),
        ("[::1]:9", "http://[::1]:9/dicom-web"),
    ],
)
def test_urls_are_those_that_the_client_knows(site: Serving, host: str, base: str) -> None:
    answer = site.client.options("/dicom-web/", headers={"Host": host})
    assert f'<resources base="{base.format(port=site.client.base_url.port)}">' in answer.text


def _described(resource: ElementTree.Element, above: str) -> Iterator[tuple[str, str]]:
    for child in resource:
        if child.tag.endswith("resource"):
            path = f"{above}/{child.attrib['path']}"
            for inner in child:
                if inner.tag.endswith("method"):
                    yield inner.attrib["name"], path
            yield from _described(child, path)


# --- Limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("request_line", ["nonsense\r\n\r\n", f"GET /{'x' * 40_000} HTTP/1.1\r\n"])
def test_what_is_no_request_is_refused(site: Serving, request_line: str) -> None:
    with connected(site.node) as connection:
        connection.sendall(request_line.encode())
        assert received(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHo"])
def test_a_head_must_arrive_in_time(tmp_path: Path, sent: bytes) -> None:
    with serving(tmp_path, acse_timeout=0.1) as site, connected(site.node) as connection:
        connection.sendall(sent)
        assert received(connection) == b""


def test_a_body_must_proceed(tmp_path: Path) -> None:
    with serving(tmp_path, network_timeout=0.1) as site, connected(site.node) as connection:
        connection.sendall(b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12")
        assert received(connection) == b""


def test_a_response_must_be_taken(tmp_path: Path) -> None:
    with serving(tmp_path, network_timeout=0.1) as site, connected(site.node) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ASKED.wait(10)


def test_a_long_answer_in_the_making_is_no_fault_of_the_client(tmp_path: Path) -> None:
    timeouts = {"network_timeout": 0.05, "acse_timeout": 0.05}
    with serving(tmp_path, **timeouts) as site, connected(site.node) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert ASKED.wait(10)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        MAY_ANSWER.set()
        connection.settimeout(10)
        assert received(connection).endswith(b"done")


def test_connections_are_limited(tmp_path: Path) -> None:
    with serving(tmp_path, http_connections=1) as site, connected(site.node):
        assert site.client.get("/health").status_code == 503


@pytest.mark.skipif(sys.platform != "linux", reason="others have one address of loopback")
def test_one_address_does_not_get_all_connections(tmp_path: Path) -> None:
    with serving(tmp_path, http_connections=4) as site, ExitStack() as opened:
        held = [opened.enter_context(connected(site.node)) for _ in range(3)]
        for connection in held:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert site.client.get("/health").status_code == 503
        other = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=site.client.base_url, transport=other) as client:
            assert client.get("/health").status_code == 200


# --- Start and end ----------------------------------------------------------------------------


def test_without_the_key_there_is_no_http(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        assert node.http_address is None


def test_a_port_in_use_is_named(tmp_path: Path, site: Serving) -> None:
    assert site.node.http_address is not None
    port = site.node.http_address[1]
    node = Node(configuration_of(tmp_path / "other", http=port))
    with pytest.raises(CannotListen, match=f"port {port}: Address already in use"):
        node.start()


def test_an_address_that_others_reach_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, http_address="0.0.0.0") as site:
        assert site.client.get("/health").status_code == 200
    assert "is not encrypted" in caplog.text
    assert "until there are users" in caplog.text


def test_a_stop_lets_requests_end(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(site.client.get("/slow")))
        asking.start()
        assert ASKED.wait(10)
        stopping = threading.Thread(target=site.node.stop)
        stopping.start()
        wait_until_it_refuses(site)
        MAY_ANSWER.set()
        asking.join()
        stopping.join()
    assert answers[0].text == "done"


def wait_until_it_refuses(site: Serving) -> None:
    """Return when the node accepts no more connections."""
    with suppress(httpx.TransportError):
        while True:
            httpx.get(f"{site.client.base_url}/health", trust_env=False)


def test_a_stop_ends_what_does_not_end(tmp_path: Path) -> None:
    with serving(tmp_path, stop_timeout=0.1) as site:
        with site.client.stream("GET", "/endless") as answer:
            next(answer.iter_bytes())
            site.node.stop()
        assert ASKED.is_set()


@pytest.mark.only_with("folder", "a fork of the process of the tests cannot use a bucket")
def test_a_node_with_workers_serves_http(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as site:
        assert site.client.get("/ready").is_success


# --- Parts ------------------------------------------------------------------------------------


def test_a_body_of_several_parts() -> None:
    body = Multipart("text/plain")
    parts = [BodyPart({"Content-Type": "text/plain"}, [b"a", b"b"]), BodyPart({}, [])]
    written = b"".join(body.pieces(parts)).decode()
    boundary = body.media_type.rpartition("boundary=")[2]
    assert body.media_type.startswith('multipart/related; type="text/plain"; boundary=')
    assert written == (
        f"--{boundary}\r\nContent-Type: text/plain\r\n\r\nab\r\n"
        f"--{boundary}\r\n\r\n\r\n--{boundary}--\r\n"
    )
