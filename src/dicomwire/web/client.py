"""The DICOMweb clients: `Client` blocks, and `AsyncClient` is for asyncio.

The methods are declared once, in a class that is generic in what they return.
"""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydicom.dataset import Dataset

from dicomwire.data.blocking import run_blocking
from dicomwire.data.storable import Storable
from dicomwire.web import requests
from dicomwire.web.connections import AsyncTransport, BlockingTransport, Token, client_options
from dicomwire.web.downloads import Frame, Name, Retrieved
from dicomwire.web.json_model import BulkData
from dicomwire.web.operations import Operations
from dicomwire.web.requests import ANY_SYNTAX, Keys, Level
from dicomwire.web.uploads import MOST_BYTES, MOST_OBJECTS, Stored

T = TypeVar("T")

ATTEMPTS = 3
"""How often a request is sent if it fails in a way that may pass."""
TIMEOUT = 30.0
"""Seconds to wait for a connection, and for the next bytes."""
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


# The results of the methods. `Client` returns iterators and values, `AsyncClient` asynchronous
# iterators and awaitables.
Datasets = TypeVar("Datasets")
Files = TypeVar("Files")
Frames = TypeVar("Frames")
Results = TypeVar("Results")
Value = TypeVar("Value")
Done = TypeVar("Done")


class Transactions(ABC, Generic[Datasets, Files, Frames, Results, Value, Done]):
    """The methods of both clients. All raise `WebFailure` if a request fails, except `store`.

    A request that only reads is sent again when the connection is lost, or when the server is
    overloaded; one that stores or deletes only if the server has not begun it.

    Parameters
    ----------
    url : str
        The root of the server's DICOMweb, such as ``https://pacs.example.org/dicom-web``.
    token : str or callable, optional
        A bearer token, or a function that returns the present one.
    auth : tuple of str, optional
        User and password, for basic authentication.
    tls : SSLContext, optional
        For ``https``; by default `dicomwire.tls.client_context()`.
    timeout : float or None
        Seconds to wait for a connection and for the next bytes; None: for ever.
    attempts : int
        How often a request is sent at the most.

    Raises
    ------
    ValueError
        If the URL is not one of HTTP, or has a user in it.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        auth: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float | None = TIMEOUT,
        attempts: int = ATTEMPTS,
    ) -> None:
        options = client_options(url, token, auth, tls, timeout)
        self._transport = self._transport_class(options)
        self._operations = Operations(url, self._transport, attempts)

    # --- Implemented by each face ---

    _transport_class: ClassVar[type[BlockingTransport | AsyncTransport]]

    @staticmethod
    @abstractmethod
    def _iterate(results: AsyncGenerator[Any, None]) -> Any:
        """Return an iterator over the results of an operation."""

    @staticmethod
    @abstractmethod
    def _perform(operation: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of an operation, or the awaitable of it."""

    # --- The transactions ---

    def close(self) -> Done:
        """Close all connections."""
        done: Done = self._perform(self._transport.close())
        return done

    def search(
        self,
        level: Level = "studies",
        keys: Keys | None = None,
        *,
        study: str = "",
        series: str = "",
        include: Iterable[str] = (),
        fuzzy: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Datasets:
        """Search for studies, series or instances (QIDO-RS, PS3.18 Section 10.6).

        Parameters
        ----------
        keys : mapping or Dataset, optional
            Values to match, by keyword or tag; a value may be a list. An element without a value is
            returned, too.
        study, series : str
            Search only in this study or series.
        include : iterable of str
            More elements to return, by keyword or tag; "all" for all that the server has.
        fuzzy : bool
            Whether names may match by their sound.
        limit, offset : int
            The most matches to return, and the number of matches to skip first.

        Yields
        ------
        Dataset
            Each match, as soon as it has arrived. If the server limits the number of matches in a
            response, the others are requested, too.
        """
        include = [include] if isinstance(include, str) else list(include)
        request_for = partial(requests.search, level, keys, study, series, include, fuzzy)
        found: Datasets = self._iterate(self._operations.search(request_for, limit, offset))
        return found

    def metadata(
        self, study: str, series: str = "", instance: str = "", *, bulk_data: BulkData | None = None
    ) -> Datasets:
        """Return the datasets of objects without large values (PS3.18 Section 10.4.1.1.2).

        Parameters
        ----------
        bulk_data : callable, optional
            Returns the bytes of a large value by its tag, its VR and its URL; see `bulk_data`.
            Without it, such elements are empty.
        """
        request = requests.metadata(study, series, instance)
        found: Datasets = self._iterate(self._operations.metadata(request, bulk_data))
        return found

    def retrieve(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        *,
        transfer_syntax: str | Sequence[str] = ANY_SYNTAX,
    ) -> Datasets:
        """Retrieve objects (WADO-RS, PS3.18 Section 10.4), each in memory.

        Parameters
        ----------
        transfer_syntax : str or sequence of str
            The transfer syntaxes to accept; "*" for the one that the server has.

        Raises
        ------
        DatasetError
            If an object cannot be decoded.
        """
        request = requests.retrieve(study, series, instance, transfer_syntax)
        found: Datasets = self._iterate(self._operations.retrieve(request))
        return found

    def retrieve_to(
        self,
        folder: str | os.PathLike[str],
        study: str,
        series: str = "",
        instance: str = "",
        *,
        transfer_syntax: str | Sequence[str] = ANY_SYNTAX,
        name: Name | None = None,
    ) -> Files:
        """Retrieve objects into files, with constant memory; see `retrieve`.

        An incomplete file has a hidden name, and is removed if the connection is lost.

        Parameters
        ----------
        folder : path
            It must exist.
        name : callable, optional
            Returns the name of a file, by the UIDs of its object; by default
            ``<SOP Instance UID>.dcm``. A file of the same name is replaced.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        request = requests.retrieve(study, series, instance, transfer_syntax)
        found: Files = self._iterate(self._operations.retrieve_to(request, folder, name))
        return found

    def frames(
        self,
        study: str,
        series: str,
        instance: str,
        numbers: Iterable[int] = (1,),
        *,
        media_type: str = "application/octet-stream",
        transfer_syntax: str | Sequence[str] = EXPLICIT_LITTLE_ENDIAN,
    ) -> Frames:
        """Retrieve frames by their numbers, from 1: uncompressed by default."""
        arguments = (study, series, instance, numbers, media_type, transfer_syntax)
        found: Frames = self._iterate(self._operations.frames(requests.frames(*arguments)))
        return found

    def rendered(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        frame: int | None = None,
        *,
        media_type: str = "image/jpeg",
        parameters: Mapping[str, str] | None = None,
    ) -> Value:
        """Return an image for display (PS3.18 Section 10.4.1.1.3).

        Parameters
        ----------
        parameters : mapping, optional
            Such as ``{"window": "40,400,linear", "viewport": "512,512", "quality": "90"}``.
        """
        image = (study, series, instance, frame)
        request = requests.rendered(*image, media_type, "rendered", parameters)
        value: Value = self._perform(self._operations.value(request))
        return value

    def thumbnail(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        frame: int | None = None,
        *,
        media_type: str = "image/jpeg",
        parameters: Mapping[str, str] | None = None,
    ) -> Value:
        """Return a small image (PS3.18 Section 10.4.1.1.4); see `rendered`."""
        image = (study, series, instance, frame)
        request = requests.rendered(*image, media_type, "thumbnail", parameters)
        value: Value = self._perform(self._operations.value(request))
        return value

    def bulk_data(self, url: str, *, media_type: str = "application/octet-stream") -> Value:
        """Return a large value, from the URL that the metadata have for it.

        Raises
        ------
        ValueError
            If the URL is not of this server: it must not get the credentials.
        """
        value: Value = self._perform(self._operations.bulk_data(url, media_type))
        return value

    def store(
        self,
        objects: Iterable[Storable],
        *,
        study: str = "",
        most_objects: int = MOST_OBJECTS,
        most_bytes: int = MOST_BYTES,
    ) -> Results:
        """Store objects (STOW-RS, PS3.18 Section 10.5).

        Files are streamed. Each request has several objects, and their results come together.

        Parameters
        ----------
        objects : iterable
            Paths, datasets, files that are in memory or open, or streams.
        study : str
            The Study Instance UID of all objects; the server refuses others.
        most_objects, most_bytes : int
            Limits for a request. A larger object has a request of its own.

        Yields
        ------
        Stored
            The result for each object. Failures are in it; none is raised.
        """
        limits = (most_objects, most_bytes)
        found: Results = self._iterate(self._operations.store(objects, study, *limits))
        return found

    def delete(self, study: str, series: str = "", instance: str = "") -> Done:
        """Delete a study, a series or an instance, if the server supports that."""
        request = requests.delete(study, series, instance)
        done: Done = self._perform(self._operations.delete(request))
        return done


class Client(
    Transactions[
        Iterator[Dataset], Iterator[Retrieved], Iterator[Frame], Iterator[Stored], bytes, None
    ]
):
    """A client of a DICOMweb server (PS3.18) whose methods block; any thread may use it.

    All methods raise `WebFailure` if a request fails, except `store`. As a context manager, it
    closes its connections.
    """

    _transport_class = BlockingTransport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _iterate(results: AsyncGenerator[T, None]) -> Iterator[T]:
        async def following() -> list[T]:
            async for result in results:
                return [result]
            return []

        try:
            while found := run_blocking(following()):
                yield found[0]
        finally:
            run_blocking(results.aclose())

    @staticmethod
    def _perform(operation: Coroutine[Any, Any, T]) -> T:
        return run_blocking(operation)


class AsyncClient(
    Transactions[
        AsyncGenerator[Dataset, None],
        AsyncGenerator[Retrieved, None],
        AsyncGenerator[Frame, None],
        AsyncGenerator[Stored, None],
        Coroutine[Any, Any, bytes],
        Coroutine[Any, Any, None],
    ]
):
    """A client of a DICOMweb server (PS3.18) whose methods are awaited or iterated.

    Its methods are those of `Client`. As an asynchronous context manager, it closes its
    connections. Leave a generator by `aclose`, or read it to its end, so that its connection is
    free again.
    """

    _transport_class = AsyncTransport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @staticmethod
    def _iterate(results: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        return results

    @staticmethod
    def _perform(operation: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        return operation
