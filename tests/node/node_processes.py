"""Nodes in processes of their own, to be killed, and senders that go on whatever happens."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from backends import of_folder
from forking import forked
from running_node import GET, counts, study_of
from spooling import CT, EXPLICIT, sized

from dicomwire import AE, build_context, build_role, evt
from dicomwire.data.codec import encode_dataset

PATIENCE = 60.0
"""Seconds in which senders and readers must get on, whatever dies meanwhile."""


class NodeProcess:
    """A node in a process of its own; `keys` are those of its configuration."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        keys = of_folder(folder).keys | keys
        self.process = forked("crashing_node", str(folder), json.dumps(keys))
        port = self._line()
        assert port, f"it does not start: {Path(folder, 'log').read_text()[-2000:]}"
        self.port = int(port)

    def _line(self) -> str:
        return self.process.stdout.readline()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        return self._ask("workers")

    def task_process(self) -> list[int]:
        """Return the process id of the one that runs its tasks, if it has one now."""
        return self._ask("tasks")

    def _ask(self, question: str) -> list[int]:
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return [int(pid) for pid in self._line().split()]

    def kill(self) -> None:
        """Kill it as no program can prepare for."""
        self.process.kill()
        self.process.communicate()

    def terminate(self) -> None:
        """Ask it to end, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def node_process(folder: Path, **keys: Any) -> Iterator[NodeProcess]:
    node = NodeProcess(folder, **keys)
    try:
        yield node
    finally:
        node.kill()


def eventually(
    condition: Callable[[], object], patience: float = 30.0, pause: float = 0.01
) -> bool:
    """Wait for what tells nobody that it has come; false after `patience` seconds.

    It looks again after `pause` seconds, and then more and more rarely, since to look takes time of
    the processor that others need: ten times as rarely after some seconds.
    """
    moment = threading.Event()
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        if waited > patience:
            return False
        moment.wait(pause * min(1 + 3 * waited, 10))
    return True


class ThreadsAtWork:
    """Threads that work while the block lasts: `_is_over` tells them to end."""

    def __init__(self, threads: Iterable[threading.Thread]) -> None:
        self._is_over = False
        self._threads = list(threads)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()


class Senders(ThreadsAtWork):
    """Threads that send objects, and connect again whenever their association ends.

    One object in twenty is sent to two places at a time.

    Parameters
    ----------
    pause : float
        Seconds between two objects of a thread: others need the processor, too.

    Attributes
    ----------
    acknowledged : dict of str to str
        The digests of encoded datasets by UID.
    """

    def __init__(self, ports: Sequence[int], prefix: str, number: int, pause: float = 0.0) -> None:
        self.ports = ports
        self._pause = pause
        self.acknowledged: dict[str, str] = {}
        self._changed = threading.Condition()  # guards `acknowledged`; each new one notifies
        self._last = [""] * number
        """What each thread has tried last, and how that ended."""
        super().__init__(
            threading.Thread(target=self._send_all, args=(f"{prefix}.{each}", each))
            for each in range(number)
        )

    def wait(self, number: int) -> None:
        """Wait until that many more objects are acknowledged."""
        with self._changed:
            goal = len(self.acknowledged) + number
            is_reached = self._changed.wait_for(lambda: len(self.acknowledged) >= goal, PATIENCE)
            assert is_reached, self._last

    def _send_all(self, prefix: str, place: int) -> None:
        chance = random.Random(place)
        moment = threading.Event()
        number = 0
        thread = place
        while not self._is_over:
            ae = AE()
            ae.add_requested_context(CT, EXPLICIT)
            port = self.ports[place % len(self.ports)]
            assoc = ae.associate("127.0.0.1", port)
            self._last[thread] = f"{port}: {assoc.failure or 'associated'}"
            while assoc.is_established and not self._is_over:
                number += 1
                uid = f"{prefix}.{number}"
                ds = sized(uid, uid, chance.choice([0, 0, 1_000, 200_000]))
                self._last[thread] = f"{port}: sends {uid}"
                try:
                    status = assoc.send_c_store(ds)
                except RuntimeError:  # the association ended just before
                    break
                self._last[thread] = f"{port}: {uid}: {status.get('Status')}, {assoc.failure}"
                if status.get("Status") == 0x0000:
                    digest = hashlib.sha256(encode_dataset(ds, EXPLICIT)).hexdigest()
                    with self._changed:
                        self.acknowledged[uid] = digest
                        self._changed.notify_all()
                moment.wait(self._pause)
            if assoc.is_established:
                assoc.release()
            place += 1  # the next association is with the other node


class Readers(ThreadsAtWork):
    """Threads that retrieve acknowledged objects one by one, each from any of the nodes.

    An object must be found, whole and as it was acknowledged, unless its node dies meanwhile.

    Parameters
    ----------
    pause : float
        Seconds between two objects of a thread: others need the processor, too.
    """

    def __init__(
        self,
        ports: Sequence[int],
        acknowledged: dict[str, str],
        number: int = 2,
        pause: float = 0.01,
    ) -> None:
        self._ports = ports
        self._pause = pause
        self._acknowledged = acknowledged
        self._retrieved = threading.Semaphore(0)
        self._failures: list[BaseException] = []
        super().__init__(
            threading.Thread(target=self._read_all, args=(random.Random(each),))
            for each in range(number)
        )

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._failures:
            raise self._failures[0]

    def wait(self, number: int) -> None:
        """Wait until that many more objects were retrieved."""
        for _ in range(number):
            assert self._retrieved.acquire(timeout=PATIENCE), self._failures

    def _read_all(self, chance: random.Random) -> None:
        moment = threading.Event()
        try:
            while not self._is_over:
                known = [*self._acknowledged.copy().items()]  # it grows meanwhile
                if known:
                    uid, digest = chance.choice(known)
                    self._read(chance.choice(self._ports), uid, digest)
                moment.wait(self._pause)
        except BaseException as error:
            self._failures.append(error)

    def _read(self, port: int, uid: str, digest: str) -> None:
        received = retrieve(port, uid)
        if received is not None:
            assert received == [(uid, digest)]
            self._retrieved.release()


def retrieve(port: int, uid: str = "") -> list[tuple[str, str]] | None:
    """Return UIDs and digests of an object, or of all of the study; None if the node is dead."""
    received: list[tuple[str, str]] = []

    def take(event: evt.Event) -> int:
        data = event.encoded_dataset(include_meta=False)
        uid = event.request.AffectedSOPInstanceUID
        received.append((str(uid), hashlib.sha256(data).hexdigest()))
        return 0x0000

    identifier = study_of()
    if uid:
        identifier.QueryRetrieveLevel, identifier.SeriesInstanceUID = "IMAGE", "1.2.3.4"
        identifier.SOPInstanceUID = uid
    assoc = AE().associate(
        *("127.0.0.1", port),
        [build_context(GET), build_context(CT, EXPLICIT)],
        ext_neg=[build_role(CT, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    if not assoc.is_established:
        return None
    *_, (status, _) = assoc.send_c_get(identifier, GET)
    if "Status" not in status:
        return None
    assoc.release()
    assert counts(status) == (0x0000, len(received), 0), status
    return received
