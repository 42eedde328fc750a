"""DICOMweb over an index alone, without a node and without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx

from dicomwire.node.configuration import Configuration
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.web.app import application
from dicomwire.node.web.endpoints import Site
from dicomwire.node.web.threads import Threads

JSON_TYPE = "application/dicom+json"
XML_TYPE = 'multipart/related; type="application/dicom+xml"'


class Client:
    """Sends requests to an application; paths begin below `base_url`."""

    base_url = "http://localhost:8042/dicom-web"

    def __init__(self, application: Any) -> None:
        self._application = application

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Return the response to a request."""

        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(self._application)
            async with httpx.AsyncClient(transport=transport, base_url=self.base_url) as client:
                return await client.get(path, **options)

        return asyncio.run(get())


@contextmanager
def searching(index: IndexReader) -> Iterator[Client]:
    """Return a client of DICOMweb that searches an index."""
    with closing(Threads(2)) as threads:
        known = {"archive": SimpleNamespace(index=index), "configuration": Configuration()}
        yield Client(application(cast(Site, SimpleNamespace(threads=threads, **known))))


def values(result: dict[str, Any], tag: str) -> list[Any]:
    """Return the values of an attribute in a result."""
    found: list[Any] = result[tag].get("Value", [])
    return found


def parameters(keys: dict[str, Any], above: str = "") -> dict[str, str]:
    """Return the query parameters for keys by keyword."""
    found: dict[str, str] = {}
    for name, value in keys.items():
        if isinstance(value, dict):
            found |= parameters(value, f"{above}{name}.")
        else:
            found[above + name] = "" if value == b"" else str(value)
    return found
