"""The DICOMweb client for asyncio; `client` has the one that blocks, with the same methods.

The docstrings of `client.Client` describe the parameters.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Self

from pydicom.dataset import Dataset

from dicomwire.data.storable import Storable
from dicomwire.web.client import ATTEMPTS, EXPLICIT_LITTLE_ENDIAN, TIMEOUT
from dicomwire.web.connections import AsyncTransport, Token, client_options
from dicomwire.web.downloads import Frame, Name, Retrieved
from dicomwire.web.json_model import BulkData
from dicomwire.web.operations import Operations
from dicomwire.web.requests import ANY_SYNTAX, Keys, Level
from dicomwire.web.uploads import MOST_BYTES, MOST_OBJECTS, Stored


class AsyncClient:
    """A client of a DICOMweb server, as `client.Client`, whose methods are awaited or iterated.

    Leave a generator by `aclose`, or read it to its end, so that its connection is free again.
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
        self._transport = AsyncTransport(client_options(url, token, auth, tls, timeout))
        self._operations = Operations(url, self._transport, attempts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

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
    ) -> AsyncGenerator[Dataset, None]:
        """Search for studies, series or instances (QIDO-RS, PS3.18 Section 10.6)."""
        arguments = (study, series, include, fuzzy, limit, offset)
        return self._operations.search(level, keys, *arguments)

    def metadata(
        self, study: str, series: str = "", instance: str = "", *, bulk_data: BulkData | None = None
    ) -> AsyncGenerator[Dataset, None]:
        """Return the datasets of objects without large values (PS3.18 Section 10.4.1.1.2)."""
        return self._operations.metadata(study, series, instance, bulk_data)

    def retrieve(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        *,
        transfer_syntax: str | Sequence[str] = ANY_SYNTAX,
    ) -> AsyncGenerator[Dataset, None]:
        """Retrieve objects (WADO-RS, PS3.18 Section 10.4), each in memory."""
        return self._operations.retrieve(study, series, instance, transfer_syntax)

    def retrieve_to(
        self,
        folder: str | os.PathLike[str],
        study: str,
        series: str = "",
        instance: str = "",
        *,
        transfer_syntax: str | Sequence[str] = ANY_SYNTAX,
        name: Name | None = None,
    ) -> AsyncGenerator[Retrieved, None]:
        """Retrieve objects into files, with constant memory; see `retrieve`."""
        arguments = (study, series, instance, transfer_syntax, name)
        return self._operations.retrieve_to(folder, *arguments)

    def frames(
        self,
        study: str,
        series: str,
        instance: str,
        numbers: Iterable[int] = (1,),
        *,
        media_type: str = "application/octet-stream",
        transfer_syntax: str | Sequence[str] = EXPLICIT_LITTLE_ENDIAN,
    ) -> AsyncGenerator[Frame, None]:
        """Retrieve frames by their numbers, from 1: uncompressed by default."""
        arguments = (study, series, instance, numbers, media_type, transfer_syntax)
        return self._operations.frames(*arguments)

    async def rendered(
        self,
        study: str,
        series: str = "",
        instance: str = "",
        frame: int | None = None,
        *,
        media_type: str = "image/jpeg",
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return an image for display (PS3.18 Section 10.4.1.1.3)."""
        return await self._image(study, series, instance, frame, media_type, "rendered", parameters)

    async def thumbnail(
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
        return await self._image(
            study, series, instance, frame, media_type, "thumbnail", parameters
        )

    async def _image(
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
        return await self._operations.image(*arguments)

    async def bulk_data(self, url: str, *, media_type: str = "application/octet-stream") -> bytes:
        """Return a large value, from the URL that the metadata have for it."""
        return (await self._operations.bulk_data(url, media_type)).data

    def store(
        self,
        objects: Iterable[Storable],
        *,
        study: str = "",
        most_objects: int = MOST_OBJECTS,
        most_bytes: int = MOST_BYTES,
    ) -> AsyncGenerator[Stored, None]:
        """Store objects (STOW-RS, PS3.18 Section 10.5)."""
        return self._operations.store(objects, study, most_objects, most_bytes)

    async def delete(self, study: str, series: str = "", instance: str = "") -> None:
        """Delete a study, a series or an instance, if the server supports that."""
        await self._operations.delete(study, series, instance)
