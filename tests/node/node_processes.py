"""Nodes in processes of their own, to be killed, and senders that go on whatever happens."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forking import Forked
from spooling import CT, EXPLICIT, sized

from dicomwire import AE
from dicomwire.data.codec import encode_dataset


class NodeProcess:
    """A node in a process of its own; `keys` are those of its configuration."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.process = Forked("crashing_node", str(folder), json.dumps(keys))
        self.port = int(self._line())

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


def eventually(condition: Callable[[], object], patience: float = 30.0) -> bool:
    """Wait for what tells nobody that it has come; false after `patience` seconds."""
    moment = threading.Event()
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        moment.wait(0.01)
    return True


class Senders:
    """Threads that send objects, and connect again whenever their association ends.

    One object in twenty is sent to two places at a time.

    Attributes
    ----------
    acknowledged : dict of str to str
        The digests of encoded datasets by UID.
    """

    def __init__(self, ports: Sequence[int], prefix: str, number: int) -> None:
        self.ports = ports
        self.acknowledged: dict[str, str] = {}
        self._is_over = False
        self._changed = threading.Condition()  # guards `acknowledged`; each new one notifies
        self._threads = [
            threading.Thread(target=self._send_all, args=(f"{prefix}.{each}", each))
            for each in range(number)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def wait(self, number: int) -> None:
        """Wait until that many more objects are acknowledged."""
        with self._changed:
            goal = len(self.acknowledged) + number
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= goal, 60)

    def _send_all(self, prefix: str, place: int) -> None:
        chance = random.Random(place)
        number = 0
        while not self._is_over:
            ae = AE()
            ae.add_requested_context(CT, EXPLICIT)
            assoc = ae.associate("127.0.0.1", self.ports[place % len(self.ports)])
            while assoc.is_established and not self._is_over:
                number += 1
                uid = f"{prefix}.{number}"
                ds = sized(uid, uid, chance.choice([0, 0, 1_000, 200_000]))
                try:
                    status = assoc.send_c_store(ds)
                except RuntimeError:  # the association ended just before
                    break
                if status.get("Status") == 0x0000:
                    digest = hashlib.sha256(encode_dataset(ds, EXPLICIT)).hexdigest()
                    with self._changed:
                        self.acknowledged[uid] = digest
                        self._changed.notify_all()
            if assoc.is_established:
                assoc.release()
            place += 1  # the next association is with the other node
