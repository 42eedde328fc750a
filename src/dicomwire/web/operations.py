"""The transactions of a DICOMweb client, as coroutines over a transport: both faces run them.

The transport of the blocking face never suspends. `client` declares the methods of both faces,
`requests` makes the requests, and `uploads` and `downloads` write and read their bodies.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydicom.dataset import Dataset

from dicomwire.data.storable import Storable
from dicomwire.web import requests
from dicomwire.web.downloads import (
    Frame,
    Name,
    Objects,
    Retrieved,
    Values,
    dataset_in,
    file_sink,
    memory_sink,
)
from dicomwire.web.failures import MOST_OF_A_REASON, WebFailure, reason_in
from dicomwire.web.json_model import LARGEST_ITEM, ArrayReader, BulkData, dataset_of
from dicomwire.web.multipart import Event, Malformed, Parser, Single, boundary_of, media_type
from dicomwire.web.requests import Request, delay_before_repeating
from dicomwire.web.uploads import Stored, Upload, results, uploads

T = TypeVar("T")
R = TypeVar("R", covariant=True)

_JSON_KINDS = (requests.JSON, "application/json")


class Response(Protocol):
    """A response whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    """The names are in lower case."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body; `WebFailure` if it breaks off."""

    async def close(self) -> None:
        """End the response, complete or not."""


class Reader(Protocol[R]):
    """Takes the bytes of a response, and finds datasets or parts in them."""

    def feed(self, data: bytes, /) -> Iterable[R]:
        """Yield what is complete with these bytes."""

    def finish(self) -> Iterable[R]:
        """Yield the rest at the end of the response."""


class Transport(Protocol):
    """Sends requests over HTTP."""

    async def send(self, url: str, request: Request) -> Response:
        """Send a request; return the response when its header fields have arrived.

        Raises
        ------
        WebFailure
        """

    async def wait(self, seconds: float) -> None:
        """Wait before a request is sent again."""

    async def close(self) -> None:
        """Close all connections."""


class Operations:
    """The transactions of DICOMweb with one server (PS3.18 Chapter 10).

    Parameters
    ----------
    url : str
        The root of the server's DICOMweb, below which ``/studies`` is.
    """

    def __init__(self, url: str, transport: Transport, attempts: int) -> None:
        self._root = url.rstrip("/")
        self._transport = transport
        self._attempts = attempts

    # --- Search ---

    async def search(
        self, request_for: Callable[[int | None, int], Request], limit: int | None, offset: int
    ) -> AsyncGenerator[Dataset, None]:
        """Yield matches; ask for more while the server says that there are."""
        while True:
            request = request_for(limit, offset)
            response = await self._open(request)
            found = 0
            datasets = self._read(request, _array_of, dataset_of, response)
            async with aclosing(datasets):
                async for ds in datasets:
                    found += 1
                    yield ds
            if limit is not None:
                limit -= found
            has_more = "additional results" in response.headers.get("warning", "").lower()
            if not (has_more and found) or (limit is not None and limit <= 0):
                return
            offset += found

    def metadata(
        self, request: Request, bulk_data: BulkData | None
    ) -> AsyncGenerator[Dataset, None]:
        """Yield the metadata of objects."""
        return self._read(request, _array_of, partial(dataset_of, bulk_data=bulk_data))

    # --- Retrieve ---

    async def retrieve(self, request: Request) -> AsyncGenerator[Dataset, None]:
        """Yield objects, each in memory."""
        async with aclosing(self._read(request, _parts_of, Objects(memory_sink).take)) as found:
            async for head, payload in found:
                yield dataset_in(head, payload)

    async def retrieve_to(
        self, request: Request, folder: str | os.PathLike[str], name: Name | None
    ) -> AsyncGenerator[Retrieved, None]:
        """Write objects into files, and yield each when it is complete."""
        objects = Objects(file_sink(folder, name))
        try:
            async with aclosing(self._read(request, _parts_of, objects.take)) as found:
                async for head, payload in found:
                    sop_class, uid, syntax = map(str, head[:3])
                    path = Path(payload.path or "")
                    yield Retrieved(path, sop_class, uid, syntax, payload.size)
        finally:
            objects.discard()

    def frames(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Yield frames, in the order of the request."""
        return self._read(request, _parts_of, Values().take)

    async def value(self, request: Request) -> bytes:
        """Return an image, or the value of an element."""
        async with aclosing(self._read(request, _parts_of, Values().take)) as values:
            async for value in values:
                return value.data
        raise WebFailure("the response is empty", url=self._root + request.path)

    async def bulk_data(self, url: str, media: str) -> bytes:
        """Return the value of an element, from the URL in its metadata."""
        if not url.startswith(f"{self._root}/"):
            raise ValueError("the URL is not of this server")  # which must not get our credentials
        accept = f"{requests.multipart_accept(media, '')}, {media};q=0.9"
        path = url.removeprefix(self._root)
        return await self.value(Request("GET", path, headers={"Accept": accept}))

    async def _read(
        self,
        request: Request,
        reader_of: Callable[[Response], Reader[R] | None],
        take: Callable[[R], T | None],
        response: Response | None = None,
    ) -> AsyncGenerator[T, None]:
        """Yield what `take` returns for what the reader finds in a response, but for None."""
        response = response or await self._open(request)
        try:
            if (reader := reader_of(response)) is None:
                return
            async with aclosing(response.chunks()) as chunks:
                async for chunk in chunks:
                    for each in reader.feed(chunk):
                        if (found := take(each)) is not None:
                            yield found
            for each in reader.finish():
                if (found := take(each)) is not None:
                    yield found
        except Malformed as fault:
            raise self._failure(request, response, str(fault)) from None
        finally:
            await response.close()

    # --- Store and delete ---

    async def store(
        self, items: Iterable[Storable], study: str, most_objects: int, most_bytes: int
    ) -> AsyncGenerator[Stored, None]:
        """Yield the result for each object."""
        unreachable: WebFailure | None = None
        for upload in uploads(items, most_objects, most_bytes):
            if isinstance(upload, Stored):
                yield upload
                continue
            found = results(upload, None, unreachable) if unreachable else None
            for stored in found or await self._stored(upload, study):
                if isinstance(stored.failure, WebFailure) and stored.failure.is_unreachable:
                    unreachable = stored.failure
                yield stored

    async def _stored(self, upload: Upload, study: str) -> list[Stored]:
        request = upload.request(study)
        try:
            response = await self._send(request)
            try:
                body = await _beginning(response, LARGEST_ITEM)
            finally:
                await response.close()
        except (WebFailure, OSError, ValueError) as error:
            return results(upload, None, error)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        module = _module(body) if kind in _JSON_KINDS else None
        reason = reason_in(response.headers, body)
        if response.status < 300:
            reason = "the response does not say whether the object is stored"
        failure = self._failure(request, response, reason)
        found = results(upload, module, failure)
        if response.status == 200 and not body:
            return [replace(each, status=0, failure=None, is_stored=True) for each in found]
        return found

    async def delete(self, request: Request) -> None:
        """Delete objects."""
        await (await self._open(request)).close()

    # --- Requests ---

    async def _open(self, request: Request) -> Response:
        """Return the response to a request that succeeds; raise `WebFailure` otherwise."""
        response = await self._send(request)
        if 200 <= response.status < 300:
            return response
        try:
            body = await _beginning(response, MOST_OF_A_REASON)
        finally:
            await response.close()
        raise self._failure(request, response, reason_in(response.headers, body))

    async def _send(self, request: Request) -> Response:
        """Return the response to a request, which is sent again if that may help."""
        url = requests.target(self._root, request)
        for attempt in count():
            is_last = attempt + 1 >= self._attempts
            try:
                response = await self._transport.send(url, request)
            except WebFailure as failure:
                is_sent = not failure.is_unreachable
                delay = delay_before_repeating(request, attempt, None, {}, is_sent)
                if is_last or delay is None:
                    raise
            else:
                delay = delay_before_repeating(
                    request, attempt, response.status, response.headers, True
                )
                if response.status < 300 or is_last or delay is None:
                    return response
                await response.close()
            await self._transport.wait(delay)
        raise AssertionError

    def _failure(self, request: Request, response: Response, reason: str) -> WebFailure:
        return WebFailure(reason, status=response.status, url=self._root + request.path)


def _array_of(response: Response) -> Reader[Any] | None:
    """Return a reader of datasets; None for a response that has no content."""
    return None if response.status == 204 else ArrayReader()


def _parts_of(response: Response) -> Reader[Event]:
    """Return a reader of parts; a response that is not multipart counts as one."""
    field = response.headers.get("content-type", "application/octet-stream")
    kind = media_type(field)
    return Parser(boundary_of(kind)) if kind.name.startswith("multipart/") else Single(field)


async def _beginning(response: Response, most: int) -> bytes:
    """Return a body, or its first bytes."""
    found = bytearray()
    async with aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            found += chunk
            if len(found) > most:
                break
    return bytes(found[:most])


def _module(body: bytes) -> Mapping[str, Any] | None:
    """Return the dataset of a response; some servers put it into an array."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else None
