"""The DICOMweb client, on both faces: its requests, and what it makes of responses."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

import dicomwire.web
from dicomwire import Stream
from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import FileFormatError, file_head, parse_file_meta
from dicomwire.web import AsyncClient, Client, Frame, Stored, WebFailure
from dicomwire.web.multipart import (
    END_OF_CONTENT,
    Parser,
    Part,
    boundary_of,
    media_type,
    message_end,
    part_head,
)

ROOT = "http://archive/dicom-web"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JSON = {"Content-Type": "application/dicom+json"}
MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
Handler = Callable[[httpx.Request], httpx.Response]


def dataset(uid: str = "1.2.3", pixels: int = 0) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = uid
    ds.PatientName = "Doe^Jane"
    if pixels:
        ds.add_new("PixelData", "OW", bytes(pixels))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    return ds


def dicom_file(uid: str = "1.2.3", pixels: int = 0) -> bytes:
    return file_head(CT, uid, EXPLICIT) + encode_dataset(dataset(uid, pixels), EXPLICIT)


class Face:
    """A client of either face whose requests a function answers.

    Attributes
    ----------
    requests : list of httpx.Request
    waits : list of float
        The seconds that it would have waited before it sent a request again.
    """

    def __init__(self, kind: type[Client] | type[AsyncClient], handler: Handler) -> None:
        self._kind = kind
        self._handler = handler
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return self._handler(request)

    def _client(self, **options: Any) -> Any:
        client = self._kind(options.pop("url", ROOT), **options)
        transport: Any = client._transport

        async def wait(seconds: float) -> None:
            self.waits.append(seconds)

        transport.wait = wait
        is_blocking = self._kind is Client
        inner = httpx.Client if is_blocking else httpx.AsyncClient
        before = transport._client
        transport._client = inner(transport=httpx.MockTransport(self._answer), auth=before.auth)
        if is_blocking:
            before.close()
        else:
            asyncio.run(before.aclose())
        return client

    def __call__(
        self, method: str, *args: Any, of: dict[str, Any] | None = None, **keys: Any
    ) -> Any:
        """Call a method; return its result, or the list of what it yields."""
        client = self._client(**(of or {}))
        if self._kind is Client:
            with client:
                result = getattr(client, method)(*args, **keys)
                return list(result) if isinstance(result, Iterator) else result
        return asyncio.run(self._run(client, method, args, keys))

    async def _run(self, client: AsyncClient, method: str, args: Any, keys: Any) -> Any:
        async with client:
            result = getattr(client, method)(*args, **keys)
            if inspect.isasyncgen(result):
                return [each async for each in result]
            return await result

    @property
    def urls(self) -> list[str]:
        return [str(request.url).removeprefix(ROOT) for request in self.requests]


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Callable[[Handler], Face]:
    return lambda handler: Face(request.param, handler)


Faces = Callable[[Handler], Face]


def answering(*responses: httpx.Response | Exception) -> Handler:
    waiting = list(responses)

    def answer(request: httpx.Request) -> httpx.Response:
        response = waiting.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return answer


def matches(*uids: str, **fields: str) -> httpx.Response:
    items = [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]
    return httpx.Response(200, json=items, headers={**JSON, **fields})


def parts(*contents: bytes, kind: str = "application/dicom", end: bytes | None = None) -> bytes:
    head = part_head("b", {"Content-Type": kind})
    body = b"".join(head + content + END_OF_CONTENT for content in contents)
    return body + (message_end("b") if end is None else end)


# --- Search -----------------------------------------------------------------------------------


def test_search_yields_datasets(face: Faces) -> None:
    client = face(answering(matches("1.2", "1.3")))
    found = client(
        "search", "studies", {"PatientName": "Doe*", "StudyDate": "20260101-", "00100020": ""}
    )
    assert [match.StudyInstanceUID for match in found] == ["1.2", "1.3"]
    assert client.urls == ["/studies?PatientName=Doe*&StudyDate=20260101-&includefield=00100020"]
    assert client.requests[0].headers["accept"] == "application/dicom+json"


@pytest.mark.parametrize(
    ("arguments", "keys", "url"),
    [
        ([], {}, "/studies"),
        (["series"], {"study": "1.2"}, "/studies/1.2/series"),
        (["instances"], {"study": "1.2", "series": "1.3"}, "/studies/1.2/series/1.3/instances"),
        ([], {"include": "all", "fuzzy": True}, "/studies?includefield=all&fuzzymatching=true"),
        (["studies"], {"include": ["A", "B"], "limit": 5, "offset": 10},
         "/studies?includefield=A&includefield=B&limit=5&offset=10"),
        (["series", {"SeriesInstanceUID": ["1", "2"]}], {}, "/series?SeriesInstanceUID=1,2"),
        (["studies", {"PatientName": "A&B=C d"}], {}, "/studies?PatientName=A%26B%3DC%20d"),
    ],
)  # fmt: skip
def test_urls_of_searches(
    face: Faces, arguments: list[Any], keys: dict[str, Any], url: str
) -> None:
    client = face(answering(matches()))
    assert client("search", *arguments, **keys) == []
    assert client.urls == [url]


def test_the_keys_of_a_search_may_be_an_identifier(face: Faces) -> None:
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.PatientName = "Doe^J*"
    keys.StudyDate = ""
    keys.ReferencedStudySequence = [Dataset()]
    keys.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2"
    client = face(answering(httpx.Response(204)))
    assert client("search", "studies", keys) == []
    assert client.urls == [
        "/studies?ReferencedStudySequence.ReferencedSOPInstanceUID=1.2&PatientName=Doe^J*"
        "&includefield=StudyDate"
    ]


def test_a_search_goes_on_while_the_server_has_more(face: Faces) -> None:
    more = "299 http://archive: There are 1 additional results that can be requested"
    client = face(answering(matches("1", "2", warning=more), matches("3")))
    assert len(client("search")) == 3
    assert client.urls == ["/studies", "/studies?offset=2"]
    client = face(answering(matches("1", "2", warning=more)))
    assert len(client("search", limit=2)) == 2


@pytest.mark.parametrize("body", [b"", b"[{}", b"{}", b"[1]", b"\xff", b'[{"x": 1}]', b"<html>"])
def test_a_response_that_is_no_array_of_datasets(face: Faces, body: bytes) -> None:
    with pytest.raises(WebFailure):
        face(answering(httpx.Response(200, content=body, headers=JSON)))("search")


def test_metadata_with_large_values(face: Faces) -> None:
    item = {
        "00080018": {"vr": "UI", "Value": ["1.2.3"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": f"{ROOT}/bulk/1"},
    }
    response = httpx.Response(200, json=[item], headers=JSON)
    client = face(answering(response, response))
    [found] = client("metadata", "1.2")
    assert client.urls == ["/studies/1.2/metadata"]
    assert not found.PixelData
    [found] = client("metadata", "1.2", bulk_data=lambda tag, vr, url: url.encode())
    assert found.PixelData == f"{ROOT}/bulk/1".encode()


# --- Retrieve ---------------------------------------------------------------------------------


def test_objects_are_retrieved_into_files(face: Faces, tmp_path: Path) -> None:
    body = parts(dicom_file("1.2.1"), dicom_file("1.2.2", pixels=300_000))
    client = face(answering(httpx.Response(200, content=body, headers=MULTIPART)))
    found = client("retrieve_to", tmp_path, "1.2", "1.3")
    assert client.urls == ["/studies/1.2/series/1.3"]
    assert client.requests[0].headers["accept"].endswith("; transfer-syntax=*")
    assert [each.path.name for each in found] == ["1.2.1.dcm", "1.2.2.dcm"]
    assert found[1].path.read_bytes() == dicom_file("1.2.2", pixels=300_000)
    assert found[1].sop_class_uid == CT
    assert found[1].size > 300_000


def test_an_object_that_is_not_complete_leaves_no_file(face: Faces, tmp_path: Path) -> None:
    body = parts(dicom_file("1.2.1"), dicom_file("1.2.2", pixels=300_000), end=b"")[:-100_000]
    client = face(answering(httpx.Response(200, content=body, headers=MULTIPART)))
    with pytest.raises(WebFailure, match="ends before"):
        client("retrieve_to", tmp_path, "1.2")
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.1.dcm"]


def test_no_text_of_the_server_is_a_path(face: Faces, tmp_path: Path) -> None:
    heads = [file_head(CT, uid, EXPLICIT) for uid in ("../../x", "..x", "/x", "")]
    body = parts(*(head + encode_dataset(dataset(), EXPLICIT) for head in heads))
    client = face(answering(httpx.Response(200, content=body, headers=MULTIPART)))
    found = client("retrieve_to", tmp_path, "1.2")
    assert [each.path.parent for each in found] == [tmp_path] * 4
    assert len(list(tmp_path.iterdir())) == 4
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_a_program_may_name_the_files(face: Faces, tmp_path: Path) -> None:
    client = face(answering(httpx.Response(200, content=parts(dicom_file()), headers=MULTIPART)))
    client("retrieve_to", tmp_path, "1.2", name=lambda head: f"CT.{head.sop_instance_uid}")
    assert [path.name for path in tmp_path.iterdir()] == ["CT.1.2.3"]


def test_objects_are_retrieved_into_memory(face: Faces) -> None:
    client = face(answering(httpx.Response(200, content=parts(dicom_file()), headers=MULTIPART)))
    [found] = client("retrieve", "1.2", transfer_syntax=[EXPLICIT, "1.2.840.10008.1.2"])
    assert (found.SOPInstanceUID, found.file_meta.TransferSyntaxUID) == ("1.2.3", EXPLICIT)
    assert client.requests[0].headers["accept"] == (
        f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT}, '
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2'
    )


def test_a_response_may_be_one_object(face: Faces) -> None:
    headers = {"Content-Type": "application/dicom"}
    client = face(answering(httpx.Response(200, content=dicom_file(), headers=headers)))
    assert len(client("retrieve", "1.2", "1.3", "1.4")) == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>", "text/html"),
        (parts(b"nonsense" * 100), MULTIPART["Content-Type"]),
        (parts(b""), MULTIPART["Content-Type"]),
        (parts(b"x", kind="image/jpeg"), MULTIPART["Content-Type"]),
        (b"nonsense", MULTIPART["Content-Type"]),
        (b"", "multipart/related"),
    ],
)
def test_responses_that_are_no_objects(
    face: Faces, content: bytes, kind: str, tmp_path: Path
) -> None:
    response = httpx.Response(200, content=content, headers={"Content-Type": kind})
    with pytest.raises(WebFailure):
        face(answering(response))("retrieve_to", tmp_path, "1.2")
    assert list(tmp_path.iterdir()) == []


def test_frames(face: Faces) -> None:
    kind = f"application/octet-stream; transfer-syntax={EXPLICIT}"
    response = httpx.Response(200, content=parts(b"one", b"two", kind=kind), headers=MULTIPART)
    client = face(answering(response))
    found = client("frames", "1", "2", "3", [1, 5])
    assert found == [Frame(data, "application/octet-stream", EXPLICIT) for data in (b"one", b"two")]
    assert client.urls == ["/studies/1/series/2/instances/3/frames/1,5"]


def test_images(face: Faces) -> None:
    image = httpx.Response(200, content=b"JPEG", headers={"Content-Type": "image/jpeg"})
    client = face(answering(image, image))
    assert client("rendered", "1", "2", "3", 4, parameters={"window": "40,400,linear"}) == b"JPEG"
    assert client("thumbnail", "1") == b"JPEG"
    assert client.urls == [
        "/studies/1/series/2/instances/3/frames/4/rendered?window=40,400,linear",
        "/studies/1/thumbnail",
    ]
    assert client.requests[0].headers["accept"] == "image/jpeg"


def test_bulk_data_comes_from_this_server_only(face: Faces) -> None:
    content = parts(b"value", kind="application/octet-stream")
    client = face(answering(httpx.Response(200, content=content, headers=MULTIPART)))
    assert client("bulk_data", f"{ROOT}/bulk/1") == b"value"
    for url in ("http://other/dicom-web/bulk/1", f"{ROOT}evil/1", "/bulk/1"):
        with pytest.raises(ValueError, match="not of this server"):
            client("bulk_data", url)


@pytest.mark.parametrize("uid", ["../1", "1/2", "1?x", "a", ""])
def test_what_is_no_uid_is_not_sent(face: Faces, uid: str) -> None:
    client = face(answering())
    with pytest.raises(ValueError, match="UID"):
        client("delete", uid)
    with pytest.raises(ValueError, match="needs its study"):
        client("search", "series", series="1.2")


# --- Store and delete -------------------------------------------------------------------------


def received(request: httpx.Request) -> dict[str, bytes]:
    """Return the files of a request by their SOP Instance UIDs."""
    kind = media_type(request.headers["content-type"])
    assert (kind.name, kind.parameters["type"]) == ("multipart/related", "application/dicom")
    files: list[bytes] = []
    for event in Parser(boundary_of(kind)).feed(request.content):
        if isinstance(event, Part):
            assert event.headers == {"content-type": "application/dicom"}
            files.append(b"")
        elif isinstance(event, memoryview):
            files[-1] += event
    return {str(parse_file_meta(file).sop_instance_uid): file for file in files}


def module(stored: dict[str, int], failed: dict[str, int], *others: int) -> dict[str, Any]:
    def item(uid: str, tag: str, code: int) -> dict[str, Any]:
        uids = {"00081155": {"vr": "UI", "Value": [uid]}}
        return {**uids, **({tag: {"vr": "US", "Value": [code]}} if code else {})}

    sequences = {
        "00081199": [item(uid, "00081196", code) for uid, code in stored.items()],
        "00081198": [item(uid, "00081197", code) for uid, code in failed.items()],
        "0008119A": [item("", "00081197", code) for code in others],
    }
    return {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items()}


def store_all(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=module(dict.fromkeys(received(request), 0), {}), headers=JSON)


def test_objects_of_all_kinds_are_stored(face: Faces, tmp_path: Path) -> None:
    large, opened = tmp_path / "large", tmp_path / "opened"
    large.write_bytes(dicom_file("1.2.2", pixels=300_000))
    opened.write_bytes(dicom_file("1.2.6", pixels=300_000))
    small = tmp_path / "small"
    small.write_bytes(dicom_file("1.2.3"))
    encoded = encode_dataset(dataset("1.2.5"), EXPLICIT)
    with opened.open("rb") as file:
        items = [
            dataset("1.2.1"),
            str(large),
            small,
            dicom_file("1.2.4"),
            Stream(CT, "1.2.5", EXPLICIT, [encoded[:50], encoded[50:]]),
            file,
        ]
        client = face(store_all)
        results = client("store", items)
    assert results == [
        Stored(item, f"1.2.{number}", 0, None, "", True) for number, item in enumerate(items, 1)
    ]
    files = [received(request) for request in client.requests]
    assert [list(each) for each in files] == [
        ["1.2.1", "1.2.2", "1.2.3", "1.2.4"],
        ["1.2.5"],
        ["1.2.6"],
    ]
    assert files[0]["1.2.1"] == dicom_file("1.2.1")
    assert files[0]["1.2.2"] == large.read_bytes()
    declared = ["content-length" in request.headers for request in client.requests]
    assert declared == [True, False, True]  # the stream has no length


def test_requests_have_a_length_and_a_study(face: Faces) -> None:
    client = face(store_all)
    assert client("store", [dicom_file()], study="1.9")[0].is_stored
    assert client.urls == ["/studies/1.9"]
    assert int(client.requests[0].headers["content-length"]) == len(client.requests[0].content)


def test_many_objects_are_several_requests(face: Faces) -> None:
    client = face(store_all)
    items = [dicom_file(f"1.2.{n}", pixels=1000) for n in range(10)]
    assert all(each.is_stored for each in client("store", items, most_objects=4))
    assert [len(received(request)) for request in client.requests] == [4, 4, 2]
    client = face(store_all)
    assert all(each.is_stored for each in client("store", items, most_bytes=3000))
    assert [len(received(request)) for request in client.requests] == [2] * 5


def test_each_object_has_its_result(face: Faces) -> None:
    answer = module({"1.2.1": 0, "1.2.2": 0xB000}, {"1.2.3": 0x0111}, 0xC000)
    client = face(answering(httpx.Response(202, json=answer, headers=JSON)))
    items = [dicom_file(f"1.2.{n}") for n in (1, 2, 3, 4, 5)]
    *known, unknown = client("store", items)
    assert [(each.status, each.is_stored) for each in known] == [
        (0, True),
        (0xB000, True),
        (0x0111, False),
        (0xC000, False),
    ]
    assert unknown.status is None
    assert "does not say" in str(unknown.failure)


def test_what_cannot_be_sent_does_not_hinder_the_others(face: Faces, tmp_path: Path) -> None:
    client = face(store_all)
    no_file = tmp_path / "text"
    no_file.write_text("no DICOM")
    unusable = [tmp_path / "missing", no_file, Dataset(), 5]
    results = client("store", [*unusable, dicom_file()])
    assert [result.item for result in results[:-1]] == unusable
    kinds = [type(result.failure) for result in results]
    assert kinds == [FileNotFoundError, FileFormatError, AttributeError, TypeError, type(None)]
    assert results[-1].is_stored


def test_a_failed_request_is_the_failure_of_its_objects(face: Faces) -> None:
    problem = httpx.Response(413, json={"detail": "too large"})
    client = face(answering(problem, store_all_later()))
    results = client("store", [dicom_file("1.2.1"), dicom_file("1.2.2")], most_objects=1)
    failure = results[0].failure
    assert isinstance(failure, WebFailure)
    assert (failure.status, failure.reason) == (413, "too large")
    assert results[1].is_stored


def store_all_later() -> httpx.Response:
    return httpx.Response(200, json=module({"1.2.2": 0}, {}), headers=JSON)


def test_a_server_that_is_away_is_asked_once_for_all(face: Faces) -> None:
    client = face(answering(*[httpx.ConnectError("refused")] * 3))
    results = client("store", [dicom_file(f"1.2.{n}") for n in range(4)], most_objects=1)
    assert [str(each.failure) for each in results] == [f"refused ({ROOT}/studies)"] * 4
    assert len(client.requests) == 3


def test_delete(face: Faces) -> None:
    client = face(answering(httpx.Response(204), httpx.Response(404, json={"detail": "gone"})))
    client("delete", "1.2", "1.3")
    with pytest.raises(WebFailure, match="404 Not Found: gone"):
        client("delete", "1.2")
    assert [request.method for request in client.requests] == ["DELETE"] * 2


# --- Failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, {}, "401 Unauthorized: the server gave no reason"),
        (400, {"json": {"detail": "no\nline\x1b"}}, "400 Bad Request: no line"),
        (500, {"json": {"Message": "Orthanc says"}}, "Orthanc says"),
        (500, {"json": ["x"]}, '["x"]'),
        (403, {"text": "plain"}, "403 Forbidden: plain"),
        (404, {"html": "<p>x"}, "404 Not Found: the server gave no reason"),
        (599, {"text": "x" * 1000}, "599 unknown status: " + "x" * 300 + " "),
        (302, {"headers": {"Location": "http://other"}}, "302 Found"),
    ],
)
def test_a_failure_has_status_and_reason(
    face: Faces, status: int, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(WebFailure) as caught:
        face(answering(httpx.Response(status, **body)))("search")
    assert text in str(caught.value)
    assert caught.value.status == status
    assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


@pytest.mark.parametrize(
    ("url", "status", "is_advised"),
    [
        ("http://archive", 404, True),
        ("http://archive/", 200, True),  # the server has another API there
        ("http://archive", 403, False),
        (ROOT, 404, False),
    ],
)
def test_an_url_without_the_root_is_pointed_out(
    face: Faces, url: str, status: int, is_advised: bool
) -> None:
    answer = httpx.Response(status, json=["an id"])
    with pytest.raises(WebFailure) as caught:
        face(answering(answer))("search", of={"url": url})
    assert ("may lack the root" in str(caught.value)) is is_advised


def test_requests_that_read_are_repeated(face: Faces) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "7"})
    client = face(answering(httpx.ReadError("lost"), busy, matches("1.2")))
    assert len(client("search")) == 1
    assert client.waits == [0.5, 7.0]
    client = face(answering(*[httpx.Response(502)] * 3))
    with pytest.raises(WebFailure, match="502"):
        client("search")


def test_requests_that_store_or_delete_are_repeated_only_before_they_are_served(
    face: Faces,
) -> None:
    lost = httpx.ReadError("lost")
    client = face(answering(lost))
    assert str(client("store", [dicom_file()])[0].failure) == f"lost ({ROOT}/studies)"
    with pytest.raises(WebFailure):
        face(answering(lost))("delete", "1.2")
    client = face(answering(httpx.ConnectError("x"), httpx.Response(429), store_all_later()))
    assert client("store", [dicom_file("1.2.2")])[0].is_stored
    assert client.waits == [0.5, 1.0]


def test_a_stream_is_sent_once(face: Faces) -> None:
    stream = Stream(CT, "1.2.2", EXPLICIT, iter([encode_dataset(dataset("1.2.2"), EXPLICIT)]))
    client = face(answering(httpx.ConnectError("x"), httpx.Response(503)))
    [stored] = client("store", [stream])
    assert "503" in str(stored.failure)
    assert len(client.requests) == 2


def test_a_connection_that_times_out(face: Faces) -> None:
    client = face(answering(httpx.ConnectTimeout("")))
    with pytest.raises(WebFailure, match="no answer in time") as caught:
        client("search", of={"attempts": 1})
    assert caught.value.is_unreachable


def test_credentials(face: Faces) -> None:
    client = face(answering(*[matches()] * 3))
    tokens = iter(["first", "second"])
    client("search", of={"token": "secret"})
    client("search", of={"token": lambda: next(tokens)})
    client("search", of={"auth": ("user", "password")})
    fields = [request.headers["authorization"] for request in client.requests]
    assert fields == ["Bearer secret", "Bearer first", "Basic dXNlcjpwYXNzd29yZA=="]


@pytest.mark.parametrize("url", ["", "archive", "ftp://archive", "http://", "http://u:p@archive/"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_urls_that_are_refused(kind: type[Client] | type[AsyncClient], url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        kind(url)


def test_the_package_has_its_names() -> None:
    assert set(dicomwire.web.__all__) <= set(dir(dicomwire.web))
    with pytest.raises(AttributeError):
        dicomwire.web.nonsense  # noqa: B018
