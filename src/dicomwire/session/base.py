"""The association of both faces, as programs see it: two ends, settings, handlers and sinks.

`lifecycle` has its beginning and end; each face adds the methods that send requests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicomwire.data.file_head import file_head
from dicomwire.data.sinks import DiscardSink, FileSink, MemorySink, Sink, SpoolSink
from dicomwire.events import Binding, EventType, Handlers
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import quick_uid
from dicomwire.services.port import Incoming
from dicomwire.session.agreements import Agreement
from dicomwire.session.ends import MODE_ACCEPTOR, MODE_REQUESTOR, ServiceUser
from dicomwire.session.engine_association import Refuse
from dicomwire.session.requests import Requesting
from dicomwire.settings import Settings, Timeout

ReceiveTo = str | Path | Callable[[Message], str | Path | Sink]
"""Where received objects go: a folder, or a function from the C-STORE-RQ to a path or a `Sink`."""

_WITHOUT_DATASET = (Command.C_STORE_RSP, Command.C_ECHO_RSP, Command.N_DELETE_RSP)
"""Messages that have no dataset; if a peer sends one nevertheless, it is discarded."""

_is_uid = re.compile(r"[0-9]+(\.[0-9]+)*").fullmatch


class BaseAssociation(Requesting):
    """An association with a peer, on either face."""

    is_established: bool
    """Whether messages can be exchanged."""
    is_released: bool
    """Whether the association is over, by a release."""
    is_aborted: bool
    """Whether the association is over, by an abort or the loss of the connection."""
    is_rejected: bool
    """Whether the acceptor rejected the association."""
    network_timeout_response: str
    """How the association ends after the network timeout: by "A-ABORT" or "A-RELEASE"."""
    receive_to: ReceiveTo | None
    """Where to write objects received by C-STORE, while they arrive."""
    refuse: Refuse | None = None
    """Called with the command set of each request (a `Message`), before its dataset is received.

    If it returns a failure status (an int, or a Dataset with Status), the request is answered with
    that and its dataset is not kept; None serves the request. It must not block. If it raises an
    exception, that is logged, and the answer is 0x0110.
    """

    def __init__(
        self,
        ae: Any,
        mode: str,
        *,
        handlers: Handlers | None = None,
        settings: Settings | None = None,
        server: Any = None,
        agreement: Agreement | None = None,
    ) -> None:
        if mode not in (MODE_REQUESTOR, MODE_ACCEPTOR):
            raise ValueError(f"mode is 'requestor' or 'acceptor', not {mode!r}")
        super().__init__(ae, mode, handlers or Handlers(), settings or ae.settings, agreement)
        self.server = server
        """The server that accepted the association; None if this end requested it."""
        self.receive_to = server.receive_to if server is not None else None

    @property
    def ae(self) -> Any:
        """The AE that this end belongs to."""
        return self._ae

    @property
    def peer_gone(self) -> bool:
        """Whether the association has ended; looks at what has arrived, without waiting."""
        self._port.look()
        return self._port.is_over

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        return self._port.is_cancelled(message_id)

    # --- The two ends ---

    @property
    def is_requestor(self) -> bool:
        """Whether this end requested the association."""
        return self._mode == MODE_REQUESTOR

    @property
    def is_acceptor(self) -> bool:
        """Whether this end accepted the association."""
        return self._mode == MODE_ACCEPTOR

    @property
    def _ends(self) -> tuple[ServiceUser, ServiceUser]:
        if self.is_requestor:
            return self.requestor, self.acceptor
        return self.acceptor, self.requestor

    @property
    def local(self) -> dict[str, Any]:
        """Title and address of this end; see `ServiceUser.info`."""
        return self._ends[0].info

    @property
    def remote(self) -> dict[str, Any]:
        """Title and address of the peer; see `ServiceUser.info`."""
        return self._ends[1].info

    # --- Settings ---

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches of this association."""
        return self._port.settings

    def update_settings(self, **changes: Any) -> None:
        """Change settings of this association alone; see `Settings`."""
        port = self._port
        port.settings = replace(port.settings, **changes)
        port.deadline_changed()

    acse_timeout = Timeout()
    """Seconds to wait for an answer to an association or release request."""
    connection_timeout = Timeout()
    """Seconds to wait for the TCP connection."""
    dimse_timeout = Timeout()
    """Seconds to wait for each DIMSE message."""
    network_timeout = Timeout()
    """Seconds without a message after which the association ends."""

    def set_timeout(self, name: str, value: float | None) -> None:
        """Set a timeout of this association alone."""
        self.update_settings(**{name: value})

    # --- Events ---

    def bind(self, event: EventType, handler: Callable[..., Any], args: Any = None) -> None:
        """Bind `handler` to `event`, from now on; see `events.Handlers.bind`."""
        self.handlers.bind(event, handler, args)
        self._port.observe()

    def unbind(self, event: EventType, handler: Callable[..., Any]) -> None:
        """Undo the binding of `handler` to `event`."""
        self.handlers.unbind(event, handler)
        self._port.observe()

    def get_handlers(self, event: EventType) -> list[Binding] | Binding:
        """Return the bindings of `event`: a list, or one pair for an intervention event."""
        return self.handlers.get_handlers(event)

    def get_events(self) -> list[EventType]:
        """Return the events that have a handler, sorted by name."""
        return self.handlers.get_events()

    @property
    def files_stored(self) -> bool:
        """Whether the library writes objects received by C-STORE to files."""
        return self.receive_to is not None

    # --- Received datasets ---

    def open_sink(self, incoming: Incoming) -> Sink:
        """Return the sink for the dataset of `incoming`."""
        settings, request = self._port.settings, incoming.message
        if request.command is not Command.C_STORE_RQ:
            if request.command in _WITHOUT_DATASET:
                return DiscardSink(settings.limits.identifier)
            return MemorySink(settings.limits.identifier, self._memory)
        if self.receive_to is None:
            return SpoolSink(
                settings.spool_threshold,
                settings.store_ceiling,
                memory=self._memory,
                files=self._spool,
            )
        class_uid, instance_uid = (
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
        )
        name: str | None = None
        if callable(self.receive_to):
            if not (_is_uid(class_uid) and _is_uid(instance_uid)):
                request = _with_harmless_uids(request)
            place = self.receive_to(request)
            if not isinstance(place, (str, Path)):  # a union is made anew each time
                return place
            folder, name = _split(place)
        else:
            folder = str(self.receive_to)
        head = file_head(class_uid, instance_uid, str(incoming.context.transfer_syntax[0]))
        return FileSink(folder, name, head, settings.store_ceiling)


def _split(place: str | Path) -> tuple[str, str]:
    """Return the folder and the name of a path."""
    if os.name == "posix":  # what `os.path.split` does for most paths, in less time
        folder, separator, name = str(place).rpartition(os.sep)
        if folder or not separator:
            return folder or os.curdir, name
    folder, name = os.path.split(place)
    return folder or os.curdir, name


def _with_harmless_uids(request: Message) -> Message:
    """Return a copy that is safe for file names: characters that no UID has become "_"."""
    harmless = {
        keyword: quick_uid(re.sub(r"[^0-9.]|\.(?=\.)", "_", str(getattr(request, keyword))))
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")
    }
    return replace(request, **harmless)  # type: ignore[arg-type]
