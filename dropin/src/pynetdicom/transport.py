"""The server, and the request handler that makes an association for each connection."""

from __future__ import annotations

import logging
from typing import Any

from dicomwire.association import Association
from dicomwire.errors import ConnectionLost
from dicomwire.session.ends import AddressInformation as AddressInformation
from dicomwire.threaded.server import AssociationServer as _AssociationServer, NewConnection
from pynetdicom._globals import MODE_ACCEPTOR as MODE_ACCEPTOR

_LOGGER = logging.getLogger("pynetdicom")


class RequestHandler:
    """Makes the association for one connection; `make_server(request_handler=…)` takes a subclass.

    `setup`, `handle` and `finish` are called when the connection is announced, or asks for an
    association. A connection whose `handle` makes no association is closed.

    Attributes
    ----------
    request : socket.socket
    client_address : tuple
        That of the peer, as sockets have it.
    server : AssociationServer
    """

    def __init__(self, request: Any, client_address: Any, server: AssociationServer) -> None:
        self.request = request
        self.client_address = client_address
        self.server = server
        self._made: Association | None = None

    @property
    def ae(self) -> Any:
        """The AE of the server."""
        return self.server.ae

    @property
    def local(self) -> AddressInformation:
        """Our address."""
        return AddressInformation.from_tuple(self.request.getsockname())

    @property
    def remote(self) -> AddressInformation:
        """The address of the peer."""
        return AddressInformation.from_tuple(self.client_address)

    def setup(self) -> None:
        """Do nothing, before `handle`."""

    def handle(self) -> None:
        """Make the association that serves the connection."""
        self._create_association()

    def finish(self) -> None:
        """Do nothing, after `handle`."""

    def _create_association(self) -> Association:
        """Return the association that is going to serve the connection."""
        self._made = self.server.new_acceptor()
        return self._made


class AssociationServer(_AssociationServer):
    """Accepts associations for an AE; see `dicomwire.threaded.server.AssociationServer`."""

    remembers = False  # the request handler of the program makes each association

    def __init__(
        self, *args: Any, request_handler: type[RequestHandler] | None = None, **kwargs: Any
    ) -> None:
        self.RequestHandlerClass = request_handler or RequestHandler
        super().__init__(*args, **kwargs)

    def new_association(self, connection: NewConnection) -> Association:
        """Return the association that the request handler makes for a connection."""
        opened = connection.connection
        handler = self.RequestHandlerClass(opened.socket, opened.remote, self)
        try:
            handler.setup()
            try:
                handler.handle()
            finally:
                handler.finish()
            association = handler._made
        except Exception:
            _LOGGER.exception("The request handler for %s failed", opened.peer)
            association = None
        serving = association or self.new_acceptor()
        serving.start_serving(opened, self.connection_closed)
        if association is None:
            text = "no association was made by the request handler"
            serving.abandon(ConnectionLost(text, stage="associate", peer=opened.peer))
        return serving


ThreadedAssociationServer = AssociationServer
