"""The application of a node without sockets: requests of any user, from any address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from backends import configuration_of
from spooling import CT, EXPLICIT, encoded, spooled

from dicomwire.node import users as users_module
from dicomwire.node.archive import Archive
from dicomwire.node.counts import Counts
from dicomwire.node.heads import Origin
from dicomwire.node.operations import Operations
from dicomwire.node.pixels.renderers import Renderers
from dicomwire.node.users import UserRight, Users
from dicomwire.node.web.app import application
from dicomwire.node.web.endpoints import Site
from dicomwire.node.web.threads import Threads

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.7"
PASSWORD = "correct horse"


class WebSite:
    """An archive with its application.

    Attributes
    ----------
    archive : Archive
    users : Users
    tokens : dict
        A token of each user.
    """

    def __init__(self, archive: Archive, application: Any, users: Users) -> None:
        self.archive = archive
        self.users = users
        self.tokens: dict[str, str] = {}
        self.application = application

    def add(self, name: str, *rights: UserRight, studies: tuple[str, ...] = ()) -> None:
        """Add a user, with a password and a token."""
        self.users.add(name, rights, studies, PASSWORD)
        self.tokens[name] = self.users.add_token(name, 600)

    def store(self, uid: str, **values: Any) -> None:
        """Store an object."""
        payload = spooled(self.archive.spool, encoded(uid, **values))
        try:
            assert self.archive.committer.store(payload, Origin(CT, uid, EXPLICIT)) == 0
        finally:
            payload.discard()

    def ask(
        self,
        method: str,
        path: str,
        user: str = "",
        address: str = HERE,
        host: str = "localhost:8042",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Return the response to a request of a user by token, or of nobody."""
        fields = {"host": host, **(headers or {})}
        if user:
            fields["authorization"] = f"Bearer {self.tokens[user]}"

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.application, client=(address, 50000))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, headers=fields, **more)

        return asyncio.run(send())

    def call(
        self,
        method: str = "GET",
        path: str = "/",
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: Sequence[bytes] = (),
    ) -> tuple[int, bytes]:
        """Return status and body of the response to a request that no client would send."""
        pieces = [*body, b""]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(errors="replace"),
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"localhost"), *headers],
            "client": (HERE, 50000),
            "server": (HERE, 8042),
        }
        status, sent = 0, b""

        async def receive() -> dict[str, Any]:
            if not pieces:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += message.get("body", b"")

        asyncio.run(self.application(scope, receive, send))
        return status, sent


@contextmanager
def web_site(folder: Path, **keys: Any) -> Iterator[WebSite]:
    """Open an archive in `folder`, and yield its application, whose passwords cost no time."""
    configuration = configuration_of(folder, **keys)
    with (
        pytest.MonkeyPatch.context() as patch,
        Archive(configuration, "owner") as archive,
        closing(Renderers()) as renderers,
        closing(Threads(4)) as threads,
        closing(Counts()) as counts,
    ):
        patch.setattr(users_module, "_COST", 2)
        operations = Operations(archive, lambda: (0, ()))  # takes no samples
        site = Site(
            *(archive, configuration, threads, renderers, operations, (HERE, 11112)),
            counts=counts,
        )
        yield WebSite(archive, application(site), Users(folder / "users.json"))
        archive.converters.close()
