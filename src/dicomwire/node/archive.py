"""What each process of a node has open: objects, index, spool, tasks and the group commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from dicomwire.node.carrying import StoreTasks, name_of_moved, settle
from dicomwire.node.checkpoints import Checkpoints, journaling
from dicomwire.node.commit import Committer
from dicomwire.node.commitment.provider import Provider
from dicomwire.node.commitment.requesting import Requests
from dicomwire.node.commitment.verification import Verifier
from dicomwire.node.configuration import Configuration
from dicomwire.node.converters import Converters
from dicomwire.node.files import StorageInUse, StoreFailure
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.writer import Index
from dicomwire.node.notices.telling import Notices
from dicomwire.node.objects.opening import folder_of, folder_within, open_objects
from dicomwire.node.objects.places import Places
from dicomwire.node.objects.room import Room
from dicomwire.node.objects.spool import Spool
from dicomwire.node.outgoing import Outgoing
from dicomwire.node.routing import Routing
from dicomwire.node.tasks.queue import Queue
from dicomwire.node.tasks.threads import Kind
from dicomwire.node.uploads import Uploads


class FolderUnusable(Exception):
    """The folder of a node, or its index, cannot be opened; the text says why."""


class Archive:
    """The open archive, for one process. As a context manager, it closes itself.

    Parameters
    ----------
    configuration : Configuration
    owner : str
        The id of the node, with all of its processes; tasks that they take have it.
    is_first : bool
        Whether this process makes files and index agree: the first of the node to open them.

    Raises
    ------
    FolderUnusable
    ConfigurationError
        When a route or a notice names a destination that there is not.
    """

    def __init__(self, configuration: Configuration, owner: str, is_first: bool = True) -> None:
        self.configuration = configuration
        with ExitStack() as opened, usable(configuration.folder):
            ceiling = configuration.max_object or None
            folders = folder_of(configuration), configuration.folder
            room = Room(folders, configuration.min_free_space)
            self.spool = opened.enter_context(Spool(folders[0], ceiling, room=room))
            self.converters = Converters(self.spool.make_file)
            self.objects = open_objects(configuration, self.spool, True)
            database = open_database(configuration.index, configuration.folder)
            self.index = opened.enter_context(Index(database))
            self.queue = Queue(self.index, owner)
            folder = folder_within(self.objects)
            opened.enter_context(journaling(folder, self.index))
            self.uploads = None
            if configuration.index and isinstance(self.objects, Places):
                self.uploads = Uploads(self.queue, self.spool, self.objects.name_of)
                opened.callback(self.uploads.close)
            self.store_tasks = StoreTasks(
                self.objects, self.index, self.queue, self.spool, self.uploads
            )
            self.routing = Routing(configuration, self.queue)
            self.committer = Committer(
                *(self.objects, self.index, self.converters, configuration.duplicates),
                is_reconciled=not is_first,
                tasks=self.store_tasks,
                routing=self.routing,
                journal=folder.journal if self._answers_alone() else None,
            )
            settle(self.objects, self.index, self.queue, self.spool)
            opened.enter_context(Checkpoints(folder, self.index, self.committer.commit_lock))
            opened.callback(self.committer.close)
            self.outgoing = Outgoing(configuration)
            verifier = Verifier(self.index, self.objects)
            self.commitments = Requests(self.queue, self.outgoing)
            self.commitment_provider = Provider(self.queue, verifier, self.outgoing)
            opened.callback(self.commitment_provider.close)
            self.notices = Notices(configuration, self.queue, self.routing, self.outgoing)
            self._opened = opened.pop_all()
        self.name_of_moved = partial(name_of_moved, self.index)
        """Returns the present name of an object that is no longer where a query has found it."""

    def _answers_alone(self) -> bool:
        """Whether this process answers all queries, and the journal has all that is stored."""
        configuration = self.configuration
        is_alone = configuration.workers == 1 and not configuration.index
        return is_alone and self.objects.is_journaled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kinds(self) -> list[Kind]:
        """Return the kinds of tasks that the node runs."""
        return [
            *self.store_tasks.kinds(),
            *self.commitments.kinds(),
            self.commitment_provider.kind(),
            *self.routing.kinds(),
            *self.notices.kinds(),
        ]

    def use(self, configuration: Configuration) -> None:
        """Use the routes and destinations of another configuration from now on.

        Raises
        ------
        ConfigurationError, TLSConfigurationError
            When they cannot be used.
        """
        self.routing.reload(configuration)
        self.outgoing.use(configuration)
        self.configuration = configuration

    def close(self) -> None:
        """Wait for the batch that is being committed, and close all."""
        self._opened.close()


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Say in one line why the folder or its index cannot be used."""
    try:
        yield
    except (StorageInUse, StoreFailure) as error:
        raise FolderUnusable(str(error)) from None
    except (OSError, IndexFailure) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise FolderUnusable(f"{folder} cannot be used: {reason}") from error
