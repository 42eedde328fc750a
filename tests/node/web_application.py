"""DICOMweb over an index alone, without a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.web.serving import WebServer

JSON_TYPE = "application/dicom+json"
XML_TYPE = 'multipart/related; type="application/dicom+xml"'


@contextmanager
def searching(index: IndexReader) -> Iterator[httpx.Client]:
    """Return a client of DICOMweb that searches an index; its paths begin below /dicom-web."""
    archive = cast(Archive, SimpleNamespace(index=index))
    with WebServer(archive, Configuration(http=0)) as server:
        server.start()
        host, port = server.address
        try:
            url = f"http://{host}:{port}/dicom-web"
            with httpx.Client(base_url=url, trust_env=False) as client:
                yield client
        finally:
            server.stop(5)


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
