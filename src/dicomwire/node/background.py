"""What a node does that nobody waits for: its tasks, and sending to the destinations of routes.

A process of its own does this (`tasks.process`), where the system can fork.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Destination
from dicomwire.node.forwarding.sending import Senders
from dicomwire.node.forwarding.settling import Settling
from dicomwire.node.tasks.threads import TaskThreads


class Background:
    """The threads that run the tasks of a node, in one of its processes.

    Parameters
    ----------
    archive : Archive
        What the process has open.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        settling = Settling(archive)
        self._kinds = [*archive.kinds(), *settling.kinds()]
        self._threads = TaskThreads(archive.queue, self._kinds)
        self._senders = Senders(archive, self._threads, settling)

    def start(self) -> None:
        """Run what is due."""
        self._threads.start()
        self._senders.start()

    def look(self) -> None:
        """Look for tasks of all kinds now."""
        if self._archive.index.is_lost:
            self._archive.committer.recover()
        self._threads.wake(self._threads.names)

    def reload(self, destinations: Mapping[str, Destination]) -> None:
        """Send to these destinations from now on."""
        self._senders.reload(destinations)

    def stop(self, timeout: float) -> None:
        """Begin nothing more; wait up to `timeout` seconds for each of tasks and destinations."""
        self._senders.stop(timeout)
        self._archive.notices.close()
        self._archive.commitments.close()
        self._threads.stop(timeout)
