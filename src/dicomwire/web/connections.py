"""Sends requests with httpx, blocking and for asyncio; see `operations.Transport`."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

import httpx

from dicomwire.implementation import IMPLEMENTATION_VERSION_NAME
from dicomwire.tls import client_context
from dicomwire.web.failures import WebFailure
from dicomwire.web.requests import Request

Token = str | Callable[[], str]
"""A bearer token, or a function that returns the present one."""

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def client_options(
    url: str,
    token: Token | None,
    auth: tuple[str, str] | None,
    tls: ssl.SSLContext | None,
    timeout: float | None,
) -> dict[str, Any]:
    """Return the arguments of httpx's clients.

    Raises
    ------
    ValueError
        If the URL is not one of HTTP, has a password in it, or both kinds of credentials are given.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("the URL must begin with http:// or https://, and a host")
    if parsed.userinfo:
        raise ValueError("the URL has a user in it; give user and password apart from it")
    if token is not None and auth is not None:
        raise ValueError("give either a token or user and password")
    is_secure = parsed.scheme == "https"
    return {
        "auth": auth if token is None else _Bearer(token),
        "headers": {"User-Agent": IMPLEMENTATION_VERSION_NAME},
        # Making a context takes a while: not for servers without TLS.
        "verify": (tls or client_context()) if is_secure else False,
        "timeout": timeout,
        "follow_redirects": False,
    }


class _Bearer(httpx.Auth):
    """Adds a bearer token (RFC 6750 Section 2.1)."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add it to a request."""
        token = self._token if isinstance(self._token, str) else self._token()
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


def _headers(request: Request) -> dict[str, str]:
    headers = dict(request.headers)
    if request.length is not None:
        headers["Content-Length"] = str(request.length)
    return headers


def _failure(url: str, error: Exception) -> WebFailure:
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        reason = f"no answer in time ({type(error).__name__})"
    return WebFailure(
        reason, url=url.partition("?")[0], is_unreachable=isinstance(error, _NOT_SENT)
    )


@contextlib.contextmanager
def _failures(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise _failure(url, error) from error


class _Response:
    """A response of httpx; see `operations.Response`."""

    def __init__(self, url: str, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers  # case does not matter in it
        self._response = response
        self._url = url


class _BlockingResponse(_Response):
    async def chunks(self) -> AsyncGenerator[bytes, None]:
        with _failures(self._url):
            for chunk in self._response.iter_bytes():
                yield chunk

    async def close(self) -> None:
        self._response.close()


class BlockingTransport:
    """Sends requests, and blocks meanwhile; any thread may use it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._client = httpx.Client(**options)
        self._closed = threading.Event()  # `close` sets it: a pause before a retry ends

    async def send(self, url: str, request: Request) -> _BlockingResponse:
        """Send a request."""
        with _failures(url):
            content = None if request.body is None else request.body()
            made = self._client.build_request(
                request.method, url, headers=_headers(request), content=content
            )
            return _BlockingResponse(url, self._client.send(made, stream=True))

    async def wait(self, seconds: float) -> None:
        """Wait; `close` of another thread ends it."""
        self._closed.wait(seconds)

    async def close(self) -> None:
        """Close all connections."""
        self._closed.set()
        self._client.close()


class _AsyncResponse(_Response):
    async def chunks(self) -> AsyncGenerator[bytes, None]:
        with _failures(self._url):
            async for chunk in self._response.aiter_bytes():
                yield chunk

    async def close(self) -> None:
        await self._response.aclose()


class AsyncTransport:
    """Sends requests on an event loop."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._client = httpx.AsyncClient(**options)

    async def send(self, url: str, request: Request) -> _AsyncResponse:
        """Send a request. Files are read on the loop: the page cache takes less than a thread."""
        with _failures(url):
            content = None if request.body is None else _asynchronous(request.body())
            made = self._client.build_request(
                request.method, url, headers=_headers(request), content=content
            )
            return _AsyncResponse(url, await self._client.send(made, stream=True))

    async def wait(self, seconds: float) -> None:
        """Wait; cancelling the task ends it."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _asynchronous(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
