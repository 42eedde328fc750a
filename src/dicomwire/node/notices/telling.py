"""Tells of complete series and studies, as `[[notices]]` say: each way of telling is a task."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

from dicomwire.logs import escaped
from dicomwire.node.configuration import (
    Configuration,
    ConfigurationError,
    Notice,
    Of,
    check_notices,
)
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.writer import Writer
from dicomwire.node.keys import Level
from dicomwire.node.notices.availability import notify
from dicomwire.node.notices.commands import Commands
from dicomwire.node.notices.facts import Described, Subject
from dicomwire.node.notices.webhooks import post
from dicomwire.node.outgoing import Outgoing
from dicomwire.node.routing import Routing, Watch
from dicomwire.node.tasks.queue import NewTask, Queue, Task
from dicomwire.node.tasks.threads import GiveUp, Kind

LOGGER = logging.getLogger("dicomwire.node")

COMMAND, WEBHOOK, AVAILABILITY = "notice-command", "notice-webhook", "notice-availability"
_LEVELS = {Of.SERIES: Level.SERIES, Of.STUDY: Level.STUDY}
_AT_A_TIME = 2
"""The tasks of each kind that run at a time: one that waits does not hold up all others."""


class Notices:
    """The notices of a node, in one process.

    Parameters
    ----------
    configuration : Configuration
    queue : Queue
    routing : Routing
        Tells when a series or study has become quiet.
    outgoing : Outgoing

    Raises
    ------
    ConfigurationError
        When a notice tells nobody, or names a destination that there is not.
    """

    def __init__(
        self, configuration: Configuration, queue: Queue, routing: Routing, outgoing: Outgoing
    ) -> None:
        check_notices(configuration)
        _check_httpx(configuration)
        self._configuration = configuration
        self._queue = queue
        self._index: IndexReader = queue.index
        self._outgoing = outgoing
        self._commands = Commands()
        self._notices = {each.name: each for each in configuration.notices}
        for notice in configuration.notices:
            routing.watch(
                Watch(
                    f"notice {notice.name}",
                    _LEVELS[notice.of],
                    notice.quiet,
                    notice.conditions,
                    partial(self._tell, notice),
                )
            )

    def close(self) -> None:
        """Kill the programs that run."""
        self._commands.close()

    def kinds(self) -> list[Kind]:
        """Return the kinds of tasks that a node runs for this."""
        runs = {COMMAND: self._run, WEBHOOK: self._post, AVAILABILITY: self._notify}
        return [Kind(name, run, threads=_AT_A_TIME) for name, run in runs.items()]

    def _tell(self, notice: Notice, writer: Writer, uid: str) -> None:
        """Add the tasks of a notice, in the transaction that ends the wait."""
        subject = Subject(notice.name, notice.of.value, uid, secrets.token_hex(8))
        payload = subject._asdict()
        tasks = [NewTask(AVAILABILITY, {**payload, "to": title}) for title in notice.available_to]
        if notice.command:
            tasks.append(NewTask(COMMAND, payload))
        if notice.webhook:
            tasks.append(NewTask(WEBHOOK, payload))
        self._queue.add(writer, tasks)
        LOGGER.info("Notice %s: %s %s is complete", escaped(notice.name), notice.of.value, uid)

    def _of(self, task: Task) -> tuple[Notice, Described] | None:
        """Return the notice of a task, and what it tells; None if its subject was removed."""
        payload = dict(task.payload)
        payload.pop("to", None)
        subject = Subject(**payload)
        notice = self._notices.get(subject.notice)
        if notice is None:
            raise GiveUp(f"the configuration has no notice {subject.notice!r} any more")
        described = subject.described(self._index, self._configuration.ae_title)
        if described is None:
            LOGGER.info("Notice %s: %s was removed", escaped(notice.name), subject.uid)
            return None
        return notice, described

    def _run(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if found := self._of(task):
                notice, described = found
                arguments = [*notice.command[:1], *map(described.filled, notice.command[1:])]
                self._commands.run(notice.name, arguments, described.body, notice.timeout)

    def _post(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if found := self._of(task):
                notice, described = found
                post(notice.webhook, notice.secret_file, described.subject.id, described.body)

    def _notify(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if found := self._of(task):
                notify(task.payload["to"], found[1], self._index, self._outgoing)


def _check_httpx(configuration: Configuration) -> None:
    has_webhook = any(each.webhook for each in configuration.notices)
    if has_webhook and find_spec("httpx") is None:
        raise ConfigurationError("webhooks need httpx: pip install 'dicomwire[webclient]'")
