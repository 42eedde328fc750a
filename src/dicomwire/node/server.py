"""The node: starts and stops what an archive consists of, in one process or several.

`services` has the handlers, and `archive` what each process has open.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from dicomwire import AE
from dicomwire.errors import TLSConfigurationError
from dicomwire.logs import escaped
from dicomwire.node.access import Guard, client_tls, server_tls
from dicomwire.node.archive import Archive, FolderUnusable, usable
from dicomwire.node.background import Background
from dicomwire.node.configuration import Configuration, ConfigurationError
from dicomwire.node.counts import Counts
from dicomwire.node.journal import JOURNAL
from dicomwire.node.nodes import Membership
from dicomwire.node.objects.opening import folder_of
from dicomwire.node.objects.room import free_space
from dicomwire.node.objects.spool import SPOOL, lock_node, size_of
from dicomwire.node.operations import Peer
from dicomwire.node.outgoing import timeouts
from dicomwire.node.reloading import Renewed, on_hangup, renewed, tell
from dicomwire.node.retention import Retaining
from dicomwire.node.services import Services, contexts, refuse
from dicomwire.node.tasks.process import Orders, TaskProcess
from dicomwire.node.tasks.queue import is_empty

if TYPE_CHECKING:
    from dicomwire.node.web.serving import WebServer

LOGGER = logging.getLogger("dicomwire.node")


class Node:
    """An archive. As a context manager, it serves while the block runs.

    Parameters
    ----------
    configuration : Configuration
    reread : callable, optional
        Returns the configuration as it is now, for `reload` and for new workers; raises
        ConfigurationError.

    Raises
    ------
    OSError
        From `start`, when it cannot listen on the address.
    FolderUnusable, TLSConfigurationError, CannotListen
        From `start`, when the folder, the certificates or the address for HTTP cannot be used.

    Attributes
    ----------
    archive : Archive
        What the node's own process has open, while it serves.
    """

    archive: Archive

    def __init__(
        self, configuration: Configuration, reread: Callable[[], Configuration] | None = None
    ) -> None:
        self.configuration = configuration
        self._reread = reread
        self._guard = Guard(configuration)
        self._open = ExitStack()
        self._server: Any = None
        self._web: WebServer | None = None
        self._tasks: TaskProcess | None = None
        self._id = secrets.token_hex(8)  # of the node, with all of its processes

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; for port 0, the port that the system chose."""
        host, port = self._server.server_address[:2]
        return host, port

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port that it listens on for HTTP; None if it does not."""
        return None if self._web is None else self._web.address

    @property
    def workers(self) -> list[Any]:
        """Its worker processes; none if it serves in its own process."""
        return list(getattr(self._server, "workers", ()))

    @property
    def task_process(self) -> int | None:
        """The id of the process that runs the tasks, while there is one."""
        return None if self._tasks is None else self._tasks.pid

    def start(self) -> None:
        """Open the folder and serve."""
        configuration = self.configuration
        ssl_context = server_tls(configuration)
        client = client_tls(configuration)
        workers: Any = configuration.workers if configuration.workers > 1 else None
        with ExitStack() as opened:
            if hasattr(os, "fork"):
                self._tasks = opened.enter_context(TaskProcess(self._run_tasks))
            self._counts = Counts(configuration.workers + 1)
            opened.callback(self._counts.close)
            self._services = Services(configuration, self._guard, client, self._counts)
            self._lock_folder(opened)
            if workers is None:
                self._open_archive(opened)
                self._counts.join()
            else:
                _prepare(configuration, self._id)
            self._ae = self._entity()
            opened.callback(self._ae.shutdown)
            # Before the server is shut down: handlers may wait for a conversion.
            if workers is None:
                opened.callback(self.archive.converters.close)
            self._server = self._ae.start_server(
                (configuration.address, configuration.port),
                block=False,
                contexts=contexts(),
                ssl_context=ssl_context,
                evt_handlers=self._services.handlers(),
                receive_to=refuse,  # until `_accepted` has set `refuse` and `receive_to`
                workers=workers,
                worker_context=self._in_worker,
            )
            if workers is not None:
                self._open_archive(opened, is_first=False)
            self._web = self._web_server(opened)
            self._join_others(opened)
            self._open = opened.pop_all()

    def _lock_folder(self, opened: ExitStack) -> None:
        """Keep other nodes from a folder with an index of SQLite."""
        if not self.configuration.index:
            with usable(self.configuration.folder):
                opened.enter_context(lock_node(self.configuration.folder))

    def _open_archive(self, opened: ExitStack, is_first: bool = True) -> None:
        """Open the archive for this process."""
        archive = opened.enter_context(Archive(self.configuration, self._id, is_first))
        archive.committer.on_batch = self._counts.committed
        self.archive = self._services.archive = archive

    @contextmanager
    def _in_worker(self) -> Iterator[None]:
        """Open in a worker process what it needs to serve."""
        with ExitStack() as opened:
            found = self._renewed()  # the supervisor, and so this fork, has that of the start
            if found is not None:
                self.configuration = found.configuration
            try:
                self._open_archive(opened, is_first=False)
                self._use(self.configuration)
            except FolderUnusable as error:
                LOGGER.error("%s", error)
                raise SystemExit(1) from None  # the supervisor starts another worker
            opened.callback(self.archive.converters.close)
            self._counts.join()
            self._tell_tasks()
            opened.enter_context(on_hangup(self._reload_here))
            yield

    def _run_tasks(self, orders: Orders) -> None:
        """Be the process that runs the tasks, until it is to stop."""
        found = self._renewed()  # this is a fork of the node as it was at its start
        if found is not None:
            self.configuration = found.configuration
        try:
            archive = Archive(self.configuration, self._id, is_first=False)
        except FolderUnusable as error:
            LOGGER.error("%s", error)
            raise SystemExit(1) from None
        with archive:
            with archive.index.writing() as writer:
                archive.queue.free(writer)  # those of a process that has died
            background = Background(archive)

            def reload() -> None:
                found = self._renewed()
                if found is not None:
                    archive.use(found.configuration)
                    self.configuration = found.configuration
                    background.reload(found.configuration.destinations)

            background.start()
            orders.follow(background.look, reload)
            background.stop(self.configuration.stop_timeout)
            archive.converters.close()

    # --- Reloading ---

    def reload(self) -> None:
        """Use routes, access and destinations as they are configured now, in all processes.

        If the configuration is invalid, the old one is kept. The log tells what has changed, what
        needs a restart, and what is invalid.
        """
        found = self._reload_here()
        if found is None:
            return
        tell(found)
        if self._tasks is not None:
            self._tasks.reload()
        for worker in self.workers:
            with suppress(ProcessLookupError):  # its successor reads the configuration itself
                os.kill(worker.pid, signal.SIGHUP)

    def _renewed(self) -> Renewed | None:
        """Return the configuration as it is now; None if it is invalid, or cannot be read again."""
        if self._reread is None:
            return None
        try:
            return renewed(self.configuration, self._reread())
        except ConfigurationError as error:
            LOGGER.error("The configuration is not changed: %s", escaped(str(error)))
            return None

    def _reload_here(self) -> Renewed | None:
        """Use the configuration as it is now in this process; None if the old one is kept."""
        found = self._renewed()
        if found is not None:
            try:
                self._use(found.configuration)
            except (ConfigurationError, TLSConfigurationError) as error:
                LOGGER.error("The configuration is not changed: %s", escaped(str(error)))
                return None
        return found

    def _use(self, configuration: Configuration) -> None:
        """Use a configuration in this process from now on."""
        tls = client_tls(configuration)
        self.archive.use(configuration)
        self._services.use(configuration, tls)
        self._ae.require_called_aet = configuration.access.called_title
        self._ae.require_calling_aet = self._guard.titles
        self.configuration = configuration

    # --- Parts of a start ---

    def _join_others(self, opened: ExitStack) -> None:
        """Enter the registry, and run tasks; undo it in the right order when the node stops."""
        timeout = self.configuration.stop_timeout
        membership = Membership(
            self.archive.queue,
            self.address,
            self.configuration.ae_title,
            self._facts,
            prepare=self._look,
        )
        with usable(self.configuration.folder):
            opened.enter_context(membership)
            self.archive.store_tasks.recover()
            self.archive.routing.recover()
        opened.callback(self.archive.commitments.close)
        opened.enter_context(self._retaining())
        self._begin_tasks(opened)
        web = self._web
        if web is not None:
            web.start()
            opened.callback(web.stop, timeout)
        opened.callback(self._server.drain, timeout)
        if web is not None:
            opened.callback(web.stopping)
        opened.callback(membership.stopping)

    def _begin_tasks(self, opened: ExitStack) -> None:
        """Run the tasks, until the node stops."""
        timeout = self.configuration.stop_timeout
        if self._tasks is None:
            background = Background(self.archive)
            opened.callback(background.stop, timeout)
            background.start()
        else:
            self._tell_tasks()
            opened.callback(self._tasks.stop, 2 * timeout)
            self._look()

    def _tell_tasks(self) -> None:
        """Let the process that runs the tasks know when this one has added some."""
        tasks = self._tasks
        assert tasks is not None
        self.archive.queue.on_added = lambda kinds: tasks.look()

    def _look(self) -> None:
        """Look whether the index was deleted, and whether there are tasks, also of other nodes."""
        self.archive.committer.recover()
        if self._tasks is not None and not is_empty(self.archive.index):
            self._tasks.look()

    def _retaining(self) -> Retaining:
        """Return what deletes studies by the rules of [retention]."""
        archive, configuration = self.archive, self.configuration
        folder = folder_of(configuration)
        return Retaining(configuration.retention, archive.queue, archive.objects, folder)

    def _web_server(self, opened: ExitStack) -> WebServer | None:
        """Return the server for HTTP, which has its address; None if there is to be none."""
        if self.configuration.http < 0:
            return None
        from dicomwire.node.web.serving import WebServer  # needs the extra web

        return opened.enter_context(
            WebServer(
                *(self.archive, self.configuration, self.address, self._associations),
                counts=self._counts,
            )
        )

    def _associations(self) -> tuple[int, list[Peer]]:
        """Return the number of open associations, and the peers of those in this process."""
        mine = [each.requestor for each in self._ae.active_associations if each.is_acceptor]
        peers = [Peer(each.ae_title, each.address) for each in mine]
        return len(peers) + sum(each.associations for each in self.workers), peers

    def _facts(self) -> dict[str, Any]:
        """Return what the registry says of this node."""
        folder = folder_of(self.configuration)
        processes = [asdict(each) for each in self.workers]
        associations = sum(each["associations"] for each in processes)
        return {
            "workers": processes,
            "task_process": self.task_process,
            "associations": associations or len(self._ae.active_associations),
            "spool": size_of(folder / SPOOL),
            "journal": size_of(folder / JOURNAL),
            "objects": self.configuration.objects,
            "free": {str(each): free_space(each) for each in {folder, self.configuration.folder}},
        }

    def wait(self) -> None:
        """Wait until the server is shut down, for example by `stop` on another thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Stop accepting, wait up to `stop_timeout` for open associations, close the folder."""
        self._open.close()

    def _entity(self) -> AE:
        configuration = self.configuration
        ae = AE(
            configuration.ae_title,
            replace(
                timeouts(configuration),
                maximum_associations=configuration.max_associations,
                associations_per_address=configuration.max_per_address or None,
                associations_per_title=configuration.max_per_title or None,
            ),
        )
        ae.maximum_pdu_size = configuration.max_pdu
        ae.require_called_aet = configuration.access.called_title
        ae.require_calling_aet = self._guard.titles
        return ae


def _prepare(configuration: Configuration, owner: str) -> None:
    """Make the folder and the index ready: bring the index up to date, and let both agree.

    A process of its own does this: what is open, or was, in this one is useless in a fork. It ends
    by itself, also if this one is killed; otherwise it would keep the locks of the folder.
    """
    system = get_context("fork")
    result, sender = system.Pipe(duplex=False)
    process = system.Process(target=_open_and_close, args=(configuration, owner, sender))
    process.start()
    sender.close()
    with result:
        try:
            error = result.recv()
        except EOFError:
            error = FolderUnusable(f"{configuration.folder}: the process that prepares it has died")
    process.join()
    if error is not None:
        raise error


def _open_and_close(configuration: Configuration, owner: str, sender: Connection) -> None:
    """Open an archive once, and send why that failed, or None."""
    error = None
    try:
        with Archive(configuration, owner):
            pass
    except Exception as raised:
        error = raised
    sender.send(error)
