"""The DICOMweb client that blocks; `aio` has the one for asyncio, with the same methods."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Self, TypeVar

from pydicom.dataset import Dataset

from dicomwire.data.blocking import run_blocking
from dicomwire.data.storable import Storable
from dicomwire.web.connections import BlockingTransport, Token, client_options
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


def _iterate(results: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yield what an asynchronous generator yields that never suspends."""

    async def following() -> list[T]:
        async for result in results:
            return [result]
        return []

    try:
        while found := run_blocking(following()):
            yield found[0]
    finally:
        run_blocking(results.aclose())


class Client:
    """A client of a DICOMweb server (PS3.18). As a context manager, it closes its connections.

    Any thread may use it. A request that only reads is sent again when the connection is lost, or
    when the server is overloaded; one that stores or deletes only if the server has not begun it.

    Parameters
    ----------
    url : str
        The root of the server's DICOMweb, such as ``https://pacs.example.org/dicom-web``.
    token : str or callable, optional
        A bearer token, or a function that returns the present one.
    auth : tuple of str, optional
        User and password, for basic authentication.
    tls : SSLContext, optional
        For ``https``; by default that of `dicomwire.tls.client_context`.
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
        self._transport = BlockingTransport(client_options(url, token, auth, tls, timeout))
        self._operations = Operations(url, self._transport, attempts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

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
    ) -> Iterator[Dataset]:
        """Search for studies, series or instances (QIDO-RS, PS3.18 Section 10.6).

        Parameters
        ----------
        keys : mapping or Dataset, optional
            Values to match, by keyword or tag; a value may be a list. An element without a value is
            returned, too.
        study, series : str
            Only what is in these.
        include : iterable of str
            More elements to return, by keyword or tag; "all" for all that the server has.
        fuzzy : bool
            Whether names may match by their sound.
        limit, offset : int
            How many matches to return at the most, and how many to leave out before.

        Yields
        ------
        Dataset
            Each match, as soon as it has arrived. If the server limits the number of matches in a
            response, the others are requested, too.

        Raises
        ------
        WebFailure
        """
        arguments = (study, series, include, fuzzy, limit, offset)
        return _iterate(self._operations.search(level, keys, *arguments))

    def metadata(
        self, study: str, series: str = "", instance: str = "", *, bulk_data: BulkData | None = None
    ) -> Iterator[Dataset]:
        """Return the datasets of objects without large values (PS3.18 Section 10.4.1.1.2).

        Parameters
        ----------
        bulk_data : callable, optional
            Returns the bytes of a large value by its tag, its VR and its URL; see `bulk_data`.
            Without it, such elements are empty.

        Raises
        ------
        WebFailure
        """
        return _iterate(self._operations.metadata(study, series, instance, bulk_data))

    def retrieve(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        *,
        transfer_syntax: str | Sequence[str] = ANY_SYNTAX,
    ) -> Iterator[Dataset]:
        """Retrieve objects (WADO-RS, PS3.18 Section 10.4), each in memory.

        Parameters
        ----------
        transfer_syntax : str or sequence of str
            Those to accept; "*": that in which the server has the object.

        Raises
        ------
        WebFailure
        DatasetError
            If an object cannot be decoded.
        """
        return _iterate(self._operations.retrieve(study, series, instance, transfer_syntax))

    def retrieve_to(
        self,
        folder: str | os.PathLike[str],
        study: str,
        series: str = "",
        instance: str = "",
        *,
        transfer_syntax: str | Sequence[str] = ANY_SYNTAX,
        name: Name | None = None,
    ) -> Iterator[Retrieved]:
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
        WebFailure
        OSError
            If a file cannot be written.
        """
        arguments = (study, series, instance, transfer_syntax, name)
        return _iterate(self._operations.retrieve_to(folder, *arguments))

    def frames(
        self,
        study: str,
        series: str,
        instance: str,
        numbers: Iterable[int] = (1,),
        *,
        media_type: str = "application/octet-stream",
        transfer_syntax: str | Sequence[str] = EXPLICIT_LITTLE_ENDIAN,
    ) -> Iterator[Frame]:
        """Retrieve frames by their numbers, from 1: uncompressed by default.

        Raises
        ------
        WebFailure
        """
        arguments = (study, series, instance, numbers, media_type, transfer_syntax)
        return _iterate(self._operations.frames(*arguments))

    def rendered(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        frame: int | None = None,
        *,
        media_type: str = "image/jpeg",
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return an image for display (PS3.18 Section 10.4.1.1.3).

        Parameters
        ----------
        parameters : mapping, optional
            Such as ``{"window": "40,400,linear", "viewport": "512,512", "quality": "90"}``.

        Raises
        ------
        WebFailure
        """
        return self._image(study, series, instance, frame, media_type, "rendered", parameters)

    def thumbnail(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        frame: int | None = None,
        *,
        media_type: str = "image/jpeg",
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return a small image (PS3.18 Section 10.4.1.1.4); see `rendered`."""
        return self._image(study, series, instance, frame, media_type, "thumbnail", parameters)

    def _image(
        self,
        study: str,
        series: str,
        instance: str,
        frame: int | None,
        media_type: str,
        name: str,
        parameters: Mapping[str, str] | None,
    ) -> bytes:
        arguments = (study, series, instance, frame, media_type, name, parameters or {})
        return run_blocking(self._operations.image(*arguments))

    def bulk_data(self, url: str, *, media_type: str = "application/octet-stream") -> bytes:
        """Return a large value, from the URL that the metadata have for it.

        Raises
        ------
        WebFailure
        ValueError
            If the URL is not of this server: it must not get the credentials.
        """
        return run_blocking(self._operations.bulk_data(url, media_type)).data

    def store(
        self,
        objects: Iterable[Storable],
        *,
        study: str = "",
        most_objects: int = MOST_OBJECTS,
        most_bytes: int = MOST_BYTES,
    ) -> Iterator[Stored]:
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
        return _iterate(self._operations.store(objects, study, most_objects, most_bytes))

    def delete(self, study: str, series: str = "", instance: str = "") -> None:
        """Delete a study, a series or an instance, if the server supports that.

        Raises
        ------
        WebFailure
        """
        run_blocking(self._operations.delete(study, series, instance))
