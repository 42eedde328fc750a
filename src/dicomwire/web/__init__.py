"""DICOMweb as a client (PS3.18): `Client`, and `AsyncClient` for asyncio.

They need httpx: ``pip install 'dicomwire[webclient]'``. The other modules do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomwire.web.client import AsyncClient, Client
    from dicomwire.web.downloads import Frame, Retrieved
    from dicomwire.web.failures import WebFailure
    from dicomwire.web.uploads import Stored

_MODULE_OF = {
    "AsyncClient": "client",
    "Client": "client",
    "Frame": "downloads",
    "Retrieved": "downloads",
    "Stored": "uploads",
    "WebFailure": "failures",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dicomwire.web' has no attribute {name!r}")
    value = getattr(import_module(f"dicomwire.web.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = ["AsyncClient", "Client", "Frame", "Retrieved", "Stored", "WebFailure"]
