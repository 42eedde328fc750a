"""What the attack tests share: a server under attack, raw sockets that misbehave, evil bytes.

An attack is made inside `with victim.attacked():`, at whose end the victim has to be unharmed.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import ssl
import struct
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import scenario
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian
from scenario import Face

from dicomwire import AE, Association, Settings, evt
from dicomwire.session.buffers import give_buffer, take_buffer
from dicomwire.sop_class import CTImageStorage, Verification
from dicomwire.threaded.watcher import watcher

sys.path.insert(0, str(Path(__file__).parents[1] / "protocol"))

from upper_layer_bytes import (
    ASSOCIATE_RQ,
    COMMAND,
    CT_STORAGE,
    IMPLICIT_LITTLE,
    LAST,
    RELEASE_RQ,
    VERIFICATION,
    command_set,
    data_pdu,
    element,
    item,
    pdu,
    pdv,
    us,
)

HOST = "127.0.0.1"
LENGTHS = (0, 1, 0xFFFF, 2**31, 2**32 - 1)
"""What a length field may claim, whatever is there."""
DATASET = struct.pack("<HHI", 0x0010, 0x0010, 8) + b"DOE^JOHN"
"""Patient's Name in implicit VR little endian; it must never be seen in the log."""

TLSArguments = tuple[ssl.SSLContext, str | None]

under_test: list[Face] = []
"""The face that servers under attack and clients of hostile ones are of."""

QUICK = Settings(
    acse_timeout=2.0, tls_timeout=2.0, network_timeout=5.0, dimse_timeout=2.0, close_timeout=0.5
)

PATIENT = replace(
    QUICK, acse_timeout=60.0, tls_timeout=60.0, dimse_timeout=60.0, network_timeout=60.0
)
"""What does not come by itself within any of these deadlines does not come SOON either."""
SOON = 10.0
"""Seconds that what happens at once may take on a busy machine."""

eventually = partial(scenario.eventually, seconds=20.0)
"""Memory is traced meanwhile, by which all takes longer than in other scenarios."""

ACCEPT = pdu(
    2,
    ASSOCIATE_RQ[6:99]
    + b"\x21\0\0\x19\1\0\0\0\x40\0\0\x111.2.840.10008.1.2"
    + b"\x21\0\0\x19\3\0\0\0\x40\0\0\x111.2.840.10008.1.2"
    + b"\x50\0\0\x08\x51\0\0\x04\0\0\x3f\xfe",
)

ECHO = data_pdu(
    pdv(
        1,
        COMMAND | LAST,
        command_set(
            element(0x0002, VERIFICATION + b"\0"),
            us(0x0100, 0x0030),
            us(0x0110, 7),
            us(0x0800, 0x0101),
        ),
    )
)


def an_ae(settings: Settings = PATIENT) -> AE:
    """Return an AE of the face under test."""
    return under_test[-1].entity("DICOMWIRE", settings)


def store_command(instance: bytes = b"1.2.3.4.5") -> bytes:
    """The command set of a C-STORE-RQ."""
    if len(instance) % 2:
        instance += b"\0"
    return command_set(
        element(0x0002, CT_STORAGE + b"\0"),
        us(0x0100, 0x0001),
        us(0x0110, 8),
        us(0x0700, 0),
        us(0x0800, 0x0001),
        element(0x1000, instance),
    )


def store(instance: bytes = b"1.2.3.4.5", dataset: bytes = DATASET) -> bytes:
    """A whole C-STORE-RQ, in one PDU for the command and one for the dataset."""
    command = data_pdu(pdv(3, COMMAND | LAST, store_command(instance)))
    return command + data_pdu(pdv(3, LAST, dataset))


def left_since(before: int) -> int:
    """How many bytes of memory are in use beyond those `before`."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


class Attacker:
    """A raw connection to a server; what it reads it returns, and nothing surprises it."""

    was_reset = False
    """Whether the connection ended with a reset, which may lose what was sent before it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=40)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *chunks: bytes) -> Attacker:
        """Send each of `chunks`; a peer that is gone is no surprise."""
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                self.socket.sendall(chunk)
        return self

    def receive(self, size: int) -> bytes:
        """Return `size` bytes, or what there was before the end."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while len(data) < size and (more := self.socket.recv(size - len(data))):
                data += more
        return data

    def receive_pdu(self) -> bytes:
        """Return the next PDU, or what there was of it before the end."""
        head = self.receive(6)
        return head + self.receive(int.from_bytes(head[2:6], "big")) if len(head) == 6 else head

    def receive_until(self, last: bytes) -> bytes:
        """Return all PDUs up to `last`, or up to the end."""
        data = b""
        while more := self.receive_pdu():
            data += more
            if more == last:
                break
        return data

    def associate(self, request: bytes = ASSOCIATE_RQ) -> Attacker:
        """Have an association accepted."""
        self.send(request)
        answer = self.receive_pdu()
        assert answer[:1] == b"\2", answer
        return self

    def rest(self) -> bytes:
        """Return all that comes before the server closes the connection."""
        data = b""
        try:
            while more := self.socket.recv(65536):
                data += more
        except ConnectionError:
            self.was_reset = True
        return data

    def reset(self) -> None:
        """Vanish with a TCP reset, as a machine does that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Entry(NamedTuple):
    """A line of the log, without the objects that it was made of."""

    level: int
    text: str
    has_traceback: bool


class Log(logging.Filter):
    """Takes what "dicomwire" logs and hands none of it on: pytest would keep exceptions alive."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._logger = logging.getLogger("dicomwire")
        self._level = level
        self.entries: list[Entry] = []

    def filter(self, record: logging.LogRecord) -> bool:
        entry = Entry(record.levelno, record.getMessage(), record.exc_info is not None)
        self.entries.append(entry)
        return False

    def __enter__(self) -> Log:
        self._before = self._logger.level
        self._logger.setLevel(self._level)
        self._logger.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeFilter(self)
        self._logger.setLevel(self._before)


class Victim:
    """A server under attack, and what it must be like after each."""

    def __init__(self, ae: AE, server: Any, log: Log) -> None:
        self.ae = ae
        self.server = server
        self.port: int = server.server_address[1]
        self.stored: list[Any] = []
        self.tls_args: TLSArguments | None = None
        self.log = log

    def attacker(self) -> Attacker:
        return Attacker(self.port)

    def good_client(self) -> None:
        """A client that behaves is served, at once."""
        began = time.monotonic()
        ae = AE(settings=PATIENT)
        ae.add_requested_context(Verification)
        with ae.associate(HOST, self.port, tls_args=self.tls_args) as assoc:
            assert assoc.is_established, assoc.failure
            assert assoc.send_c_echo().Status == 0
        assert assoc.is_released
        assert time.monotonic() - began < SOON

    def told(self) -> list[str]:
        """What the log says has happened: warnings and errors, and dropped connections."""
        return [
            entry.text
            for entry in self.log.entries
            if entry.level >= logging.WARNING or entry.text.startswith("A connection from")
        ]

    @contextlib.contextmanager
    def attacked(
        self, lines: int | None = 1, peak: int = 4 << 20, kept: int = 1 << 20
    ) -> Iterator[None]:
        """Make an attack; then nothing is left of it but `lines` (None: any number) in the log.

        `peak` is how many bytes of memory it may take up meanwhile, and `kept` afterwards.
        """
        assert eventually(lambda: not self.ae.active_associations)
        gc.collect()
        self.log.entries.clear()
        files = open_files()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        assert eventually(lambda: not self.ae.active_associations), "the slot is not freed"
        assert eventually(lambda: open_files() <= files), "the socket is not freed"
        _, highest = tracemalloc.get_traced_memory()
        assert highest - before < peak, f"{highest - before} bytes of memory at the most"
        assert eventually(lambda: len(self.told()) >= (lines or 0)), "the log says nothing"
        assert lines is None or len(self.told()) == lines, self.told()
        self.check_log()
        self.good_client()
        assert eventually(lambda: not self.ae.active_associations)
        self.log.entries.clear()
        # A worker may still be on its way out of what it did.
        assert eventually(lambda: left_since(before) < kept), (
            f"{left_since(before)} bytes of memory were not freed"
        )

    def check_log(self) -> None:
        """There is no traceback in the log, no name of a patient, and each entry is one line."""
        for level, text, has_traceback in self.log.entries:
            assert not has_traceback, text
            assert text.isprintable(), text
            assert "DOE" not in text or level == logging.DEBUG, text


@contextlib.contextmanager
def besieged(
    handlers: list[Any] | None = None,
    settings: Settings = PATIENT,
    level: int = logging.INFO,
    tls_args: TLSArguments | None = None,
    **arguments: Any,
) -> Iterator[Victim]:
    """Run a server for Verification and CT storage; memory is traced meanwhile."""
    ae = an_ae(replace(settings, maximum_associations=4))
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    stored: list[Any] = []

    def on_store(event: evt.Event) -> int:
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    if handlers is None and arguments.get("receive_to") is None:
        handlers = [(evt.EVT_C_STORE, on_store)]
    server = ae.start_server((HOST, 0), block=False, evt_handlers=handlers, **arguments)
    log = Log(level)
    victim = Victim(ae, server, log)
    victim.stored = stored
    victim.tls_args = tls_args
    for buffer in [take_buffer() for _ in range(16)]:  # as many as are kept for reuse
        give_buffer(buffer)
    gc.collect()
    gc.freeze()  # what there is now, so that each collection looks at little
    tracemalloc.start()
    try:
        with log:
            victim.good_client()  # whatever is made once and kept is made now
            yield victim
    finally:
        tracemalloc.stop()
        ae.shutdown()


class HostileSCP:
    """A listening socket whose one connection is handled by a function on a thread of its own."""

    def __init__(self, behaviour: Callable[[Attacker], object]) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._behaviour = behaviour
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> HostileSCP:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        connection = Attacker.__new__(Attacker)
        connection.socket = sock
        sock.settimeout(10)
        with connection:
            try:
                self._behaviour(connection)
            except BaseException as error:
                self.error = error


def ct_image(size: int = 3000) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = "1.2.3.4.5"
    ds.PatientName = "DOE^JOHN"
    ds.add_new(0x7FE00010, "OW", bytes(size))
    return ds


@contextlib.contextmanager
def unharmed_client(peak: int = 8 << 20, level: int = logging.INFO) -> Iterator[Log]:
    """Afterwards no files of a requestor are open, and there was no traceback in its log.

    `peak` is how many bytes of memory it may have taken up meanwhile.
    """
    requestor(1)  # what it takes is there from now on
    watcher()  # so are the files of the thread that watches sockets
    files = open_files()
    tracemalloc.start()
    try:
        with Log(level) as log:
            yield log
            assert eventually(lambda: open_files() <= files), "the socket is not closed"
        highest = tracemalloc.get_traced_memory()[1]
        assert highest < peak, f"{highest} bytes of memory at the most"
    finally:
        tracemalloc.stop()
    for entry in log.entries:
        assert not entry.has_traceback, entry.text
        assert entry.text.isprintable(), entry.text
        assert "DOE" not in entry.text or entry.level == logging.DEBUG


def requestor(port: int, settings: Settings = PATIENT, **arguments: Any) -> Association:
    """Associate with `port`, proposing Verification and CT storage as contexts 1 and 3."""
    ae = an_ae(settings)
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage)
    return ae.associate(HOST, port, **arguments)


__all__ = [
    "ASSOCIATE_RQ",
    "COMMAND",
    "CT_STORAGE",
    "IMPLICIT_LITTLE",
    "LAST",
    "RELEASE_RQ",
    "VERIFICATION",
    "command_set",
    "data_pdu",
    "element",
    "item",
    "pdu",
    "pdv",
    "us",
]
