"""What the scenarios are told with: the face that they drive, and something to watch it with.

A scenario says what two ends do and what comes of it. It knows the face only through `face`, so
that other faces can be put to the same tests.
"""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicomwire import AE, Association, Settings, build_context, evt
from dicomwire.threaded.server import AssociationServer
from raw_peer import CT, EXPLICIT, VERIFICATION, WAIT, RawServer

NOTIFICATIONS = [each for each in vars(evt).values() if isinstance(each, evt.NotificationEvent)]
INTERVENTIONS = [each for each in vars(evt).values() if isinstance(each, evt.InterventionEvent)]


ESTABLISHED = (True, False, False, False)
RELEASED = (False, True, False, False)
ABORTED = (False, False, True, False)
REJECTED = (False, False, False, True)


def state(assoc: Association) -> tuple[bool, bool, bool, bool]:
    """Return what the four flags of an association say, to be compared with the above."""
    return assoc.is_established, assoc.is_released, assoc.is_aborted, assoc.is_rejected


@contextmanager
def in_background(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Run `call` beside the block, which may ask for its result; it is over after the block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


@contextmanager
def raw_acceptor(face: Face, *handlers: Any, **options: Any) -> Iterator[Any]:
    """Give a requestor's association and the raw peer that accepted it."""
    with RawServer() as listener:
        with in_background(lambda: face.associate(listener.port, handlers, **options)) as begun:
            peer = listener.take()
            peer.accept()
        with peer:
            yield begun.result(), peer


@contextmanager
def raw_answer(face: Face, *handlers: Any, **options: Any) -> Iterator[Any]:
    """Give the raw peer that has an association request to answer, and the request's future."""
    with (
        RawServer() as listener,
        in_background(lambda: face.associate(listener.port, handlers, **options)) as begun,
        listener.take() as peer,
    ):
        peer.receive()
        yield begun, peer


def make_ct(size: int = 64, instance: str = "1.2.3.4", syntax: str = EXPLICIT) -> Dataset:
    """Return a CT image with `size` bytes of pixels that can be told from each other."""
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = instance
    ds.PatientName = "Doe^Jane"
    ds.Rows = ds.Columns = 1
    ds.BitsAllocated = 16
    ds.add_new("PixelData", "OW", (bytes(range(256)) * (size // 256 + 1))[:size])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def eventually(condition: Callable[[], object], seconds: float = WAIT) -> bool:
    """Wait for what nobody can be waited for about; true when it has come."""
    moment, pause = threading.Event(), 0.002
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        moment.wait(pause)
        pause = min(1.5 * pause, 0.02)  # what takes longer is not to be put off by looking
    return True


def soon_full(server: Any) -> None:
    """Have the system take little from the server of what its peers do not read."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # inherited on accept


class Recorder:
    """Notes what it is told, in order, as the handler of as many events as wanted."""

    def __init__(self, *events: evt.NotificationEvent) -> None:
        self.handlers = [(event, self) for event in events or NOTIFICATIONS]
        self.events: list[evt.Event] = []
        self._told = threading.Condition()

    def __call__(self, event: evt.Event) -> None:
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    @property
    def names(self) -> list[str]:
        """The names of the events so far, without EVT_."""
        return [each.event.name.removeprefix("EVT_") for each in self.events]

    def of(self, *events: evt.NotificationEvent) -> list[evt.Event]:
        return [each for each in self.events if each.event in events]

    def wait_for(self, event: evt.NotificationEvent, count: int = 1) -> evt.Event:
        """Wait until `event` was told `count` times, and return the last of them."""
        with self._told:
            assert self._told.wait_for(lambda: len(self.of(event)) >= count, WAIT), self.names
            return self.of(event)[count - 1]


class Face(ABC):
    """One way to use the library, with defaults that make a scenario short."""

    name: str

    def __init__(self) -> None:
        self.entities: list[AE] = []

    @abstractmethod
    def _make_ae(self, title: str, settings: Settings) -> AE:
        """Return an AE of this face, which can be used from any thread."""

    def ae(self, title: str = "SCU", *, supported: Iterable[str] = (), **settings: object) -> AE:
        ae = self.entity(title, Settings(**settings))
        for uid in supported:
            ae.add_supported_context(uid)
        return ae

    def entity(self, title: str, settings: Settings) -> AE:
        """Return an AE, which is shut down in the end."""
        ae = self._make_ae(title, settings)
        self.entities.append(ae)
        return ae

    def serve(
        self,
        handlers: Iterable[tuple] = (),
        *,
        ae: AE | None = None,
        supported: Iterable[str] = (VERIFICATION, CT),
        address: tuple = ("127.0.0.1", 0),
        receive_to: object = None,
        ssl_context: object = None,
        **settings: object,
    ) -> AssociationServer:
        """Return a running server; `settings` go to its AE."""
        ae = ae or self.ae("SCP", supported=supported, **settings)
        server = ae.start_server(
            address,
            block=False,
            evt_handlers=list(handlers),
            receive_to=receive_to,
            ssl_context=ssl_context,
        )
        assert server is not None
        return server

    def associate(
        self,
        server: AssociationServer | int,
        handlers: Iterable[tuple] = (),
        *,
        ae: AE | None = None,
        contexts: Iterable[object] = (VERIFICATION, CT),
        host: str = "127.0.0.1",
        **options: object,
    ) -> Association:
        """Return an association with `server`; options are of `AE.associate` or of Settings."""
        known = ("ae_title", "max_pdu", "ext_neg", "bind_address", "tls_args", "window")
        arguments = {name: options.pop(name) for name in known if name in options}
        ae = ae or self.ae(**options)
        return ae.associate(
            host,
            server if isinstance(server, int) else server.server_address[1],
            [build_context(each) if isinstance(each, str) else each for each in contexts],
            evt_handlers=list(handlers),
            **arguments,
        )

    @abstractmethod
    def threads(self) -> list[threading.Thread]:
        """Return the threads that associations are attended by."""

    @abstractmethod
    def leftovers(self, server: AssociationServer, silent: int = 0) -> list[object]:
        """Return what of past associations is still there, once what is to end has ended.

        `silent` is the number of connections that are there without an association.
        """

    def is_quiet(self, server: AssociationServer) -> bool:
        """Wait until no connection of the server is open, and return whether that came."""
        return eventually(lambda: not server._connections and not server.active_associations)

    def close(self) -> None:
        for ae in self.entities:
            ae.shutdown()
        for ae in self.entities:
            for association in ae.active_associations:
                association.join(WAIT)
            assert not ae.active_associations


class Threaded(Face):
    """The threaded face."""

    name = "threaded"

    def _make_ae(self, title: str, settings: Settings) -> AE:
        return AE(title, settings)

    def threads(self) -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name.startswith("dicomwire")]

    def leftovers(self, server: AssociationServer, silent: int = 0) -> list[object]:
        for thread in self.threads():
            if "pool" in thread.name:
                thread.join(WAIT)
        threads = [each for each in self.threads() if each.name != "dicomwire-watcher"]
        waiting = range(len(server._waiting) + server._negotiating)
        return [*threads, *list(server._new_connections)[silent:], *waiting]


class Outstanding:
    """How many requests of an association have not been answered, and the most there were."""

    def __init__(self, assoc: Any) -> None:
        self._now = self.most = 0
        assoc.bind(evt.EVT_DIMSE_SENT, self._count, [1])
        assoc.bind(evt.EVT_DIMSE_RECV, self._count, [-1])

    def _count(self, event: evt.Event, change: int) -> None:
        self._now += change
        self.most = max(self.most, self._now)
