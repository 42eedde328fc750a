"""Sends in several processes for `send_many`: one interpreter is slow with many small objects.

The process of the program has the dispatcher, which decides what is sent and when again. The other
processes have the associations, and open the objects. A channel for each association connects both:
its process asks for tasks when it has none left, and reports results.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from socket import socket as Socket
from typing import Any

from dicomwire.bulk.dispatcher import Face
from dicomwire.bulk.pipeline import Sent
from dicomwire.bulk.tasks import ContextKey, Feed, SendingAssociation, Task, TaskPipeline
from dicomwire.data.blocking import run_blocking
from dicomwire.errors import AssociationFailure, ConnectionLost, DicomwireError
from dicomwire.logs import LOGGER
from dicomwire.services.port import END
from dicomwire.workers.forking import fork

_REPORT_EVERY = 0.1
"""Seconds after which a process reports its results, also while it has tasks left."""
_NO_KEY = "", ""
"""The contexts of an association are known where the dispatcher is."""
_GRACE = 5.0
"""Seconds that a process has to end after the order to do so; then it is killed."""


class _ProcessChannel:
    """One end of a connection between two processes, for objects.

    Its methods raise EOFError when the other end was closed, or its process has ended.
    """

    def __init__(self, end: Socket) -> None:
        self._socket = end
        self._reader = end.makefile("rb")

    def send(self, value: object) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise EOFError from error

    def receive(self) -> Any:
        try:
            return pickle.load(self._reader)
        except (OSError, pickle.UnpicklingError) as error:  # it may have ended while it wrote
            raise EOFError from error

    def end(self) -> None:
        """Send no more objects."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


# --- In the process of the program ------------------------------------------------------------


class SendingProcesses(Face):
    """The processes of one `send_many`, as the face of its dispatcher.

    Parameters
    ----------
    face : Face
        For the associations, in each process: its `associate` returns a `TaskPipeline`.
    count : int
    associations : int
        Of all processes together.
    """

    def __init__(self, face: Face, count: int, associations: int) -> None:
        self.monitor, self.now = face.monitor, face.now
        self._face = face
        self._shares = [len(range(number, associations, count)) for number in range(count)]
        self._processes: list[_Process] = []
        self._idle: deque[_Line] = deque()
        self._failure: AssociationFailure | None = None  # why there may be no idle one

    def start(self) -> None:
        """Fork the processes; this one must have no other thread."""
        try:
            for share in self._shares:
                self._processes.append(_Process(self._face, share, self._processes))
        finally:
            for process in self._processes:
                process.listen()
        # In turn, so that the first associations are in different processes.
        lines = zip_longest(*([_Line(each, x) for x in each.channels] for each in self._processes))
        self._idle.extend(filter(None, chain(*lines)))

    async def associate(
        self, keys: list[ContextKey], feed: Feed, priority: int
    ) -> SendingAssociation:
        """Let a process establish an association."""
        if not self._idle:  # the processes of all others have died, each of which is reported
            assert self._failure is not None
            raise self._failure
        line = self._idle.popleft()
        try:
            line.channel.send((keys, priority))
            failure = line.channel.receive()
        except EOFError:
            raise self.lost(line) from None
        if failure is not None:
            self._idle.append(line)
            raise failure
        return _DistantAssociation(self, line, feed)

    def released(self, line: _Line) -> None:
        """Use a line for another association."""
        self._idle.append(line)

    def lost(self, line: _Line) -> AssociationFailure:
        """Return why a line cannot be used any more."""
        self._failure = failure = line.process.failure()
        return failure

    def stop(self) -> None:
        """Let the processes send no more objects; outstanding ones may still be answered."""
        for process in self._processes:
            with suppress(EOFError):
                process.control.send(None)

    def abort(self) -> None:
        """Let the processes abort their associations and end."""
        for process in self._processes:
            process.control.end()

    def close(self) -> None:
        """End the processes."""
        self.abort()
        for process in self._processes:
            process.close()


class _Process:
    """A process that sends, as that of the program sees it.

    Attributes
    ----------
    control : _ProcessChannel
        Brings its log. An object on it is the order to stop, and its end that to end.
    channels : list of _ProcessChannel
        One for each of its associations.
    """

    def __init__(self, face: Face, share: int, earlier: Sequence[_Process]) -> None:
        pairs = [socket.socketpair() for _ in range(1 + share)]
        theirs = [end for _, end in pairs]
        self.control, *self.channels = [_ProcessChannel(end) for end, _ in pairs]
        self._how = "does not answer"
        self._thread = threading.Thread(target=self._listen, name="sending-process", daemon=True)

        def run() -> None:
            for each in (*earlier, self):
                each.close_channels()
            control, *channels = map(_ProcessChannel, theirs)
            _SendingProcess(face, control).run(channels)

        try:
            self._pid = fork(run)
        except BaseException:
            self.close_channels()
            raise
        finally:
            for end in theirs:
                end.close()

    def listen(self) -> None:
        """Log what the process logs, and how it ends, on a thread."""
        self._thread.start()

    def _listen(self) -> None:
        with suppress(EOFError):
            while True:
                record = logging.makeLogRecord(self.control.receive())
                logging.getLogger(record.name).handle(record)
        with suppress(ChildProcessError):  # the program reaps all children itself
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            if code:
                LOGGER.error("A sending process %s", self._how)

    def failure(self) -> AssociationFailure:
        """Return how the process ended, of which one channel has ended."""
        self._thread.join(_GRACE)
        return ConnectionLost(f"the sending process {self._how}", stage="process")

    def close(self) -> None:
        """Wait until the process has ended, which has the order."""
        self._thread.join(_GRACE)
        if self._thread.is_alive():
            os.kill(self._pid, signal.SIGKILL)
            self._thread.join()
        self.close_channels()

    def close_channels(self) -> None:
        """Close this end of all channels."""
        for channel in (self.control, *self.channels):
            channel.close()


class _Line:
    """A channel, and the process to which it leads."""

    def __init__(self, process: _Process, channel: _ProcessChannel) -> None:
        self.process = process
        self.channel = channel


class _DistantAssociation:
    """An association of another process."""

    def __init__(self, processes: SendingProcesses, line: _Line, feed: Feed) -> None:
        self._processes = processes
        self._line = line
        self._feed = feed
        self._tasks: dict[int, Task] = {}  # those that the process has, by number, oldest first
        self._results: deque[Sent] = deque()
        self._is_asked = False  # the process waits for tasks
        self._is_over = False

    def at_hand(self) -> Sent | None:
        return self._results.popleft() if self._results else None

    async def next(self) -> Sent | None:
        while not self._results and not self._is_over:
            try:
                await self._advance()
            except EOFError:
                self._is_over = True
                failure = self._processes.lost(self._line)
                for task in self._tasks.values():
                    self._results.append(Sent(task, task.uid, failure=failure))
        return self.at_hand()

    async def _advance(self) -> None:
        """Answer the process if it asks for tasks, and receive results."""
        if self._is_asked:
            await self._answer()
        results, self._is_asked, self._is_over = self._line.channel.receive()
        for sent in results:
            sent.item = self._tasks.pop(sent.item)
        self._results.extend(results)
        if self._is_over:
            # What the process did not send, since it was stopped or the association was lost.
            self._feed.tasks.extend(self._tasks.values())
            self._processes.released(self._line)
        elif self._is_asked and not self._feed.may_wait:
            await self._answer()  # before the results are delivered, which takes a while

    async def _answer(self) -> None:
        """Send the process the next tasks; none if there are none now."""
        first = await self._feed.take()
        tasks = [] if first is END else [first, *self._feed.tasks]
        self._feed.tasks.clear()
        for task in tasks:
            task.opened = None
            self._tasks[task.number] = task
        self._is_asked = False
        self._line.channel.send([(task.number, task.item) for task in tasks])

    async def end(self) -> None:
        """Do nothing: the process has released the association."""

    def abort(self) -> None:
        """Let the process abort it."""
        self._line.channel.end()


# --- In a sending process ---------------------------------------------------------------------


class _SendingProcess:
    """A sending process."""

    def __init__(self, face: Face, control: _ProcessChannel) -> None:
        self._face = face
        self._control = control
        self.is_stopped = False

    def run(self, channels: Sequence[_ProcessChannel]) -> None:
        """Have associations until the program orders to end, or ends."""
        gc.freeze()  # a collection would write to the memory of the program, and so copy it
        LOGGER.handlers[:] = [_Forwarding(self._control)]
        LOGGER.propagate = False
        for channel in channels:
            threading.Thread(target=self._serve, args=(channel,), daemon=True).start()
        with suppress(EOFError):
            while True:
                self._control.receive()
                self.is_stopped = True
        self._face.abort()

    def _serve(self, channel: _ProcessChannel) -> None:
        """Have one association at a time, whose tasks come on `channel`."""
        try:
            while True:
                keys, priority = channel.receive()
                source = _TaskSource(self, channel)
                try:
                    associating = self._face.associate(keys, Feed(source), priority)
                    association: Any = run_blocking(associating)  # a TaskPipeline
                except AssociationFailure as failure:
                    channel.send(failure)
                    continue
                channel.send(None)
                source.send_on(association)
        except EOFError:
            channel.close()  # the program has ended, or has enough of this association
        except BaseException:
            LOGGER.exception("A sending process failed with an internal error")
            os._exit(1)


class _TaskSource:
    """The tasks for one association of a sending process, and their results."""

    may_wait = False

    def __init__(self, worker: _SendingProcess, channel: _ProcessChannel) -> None:
        self._worker = worker
        self._channel = channel
        self._results: list[Sent] = []
        self._report_at = 0.0

    @property
    def is_stopped(self) -> bool:
        return self._worker.is_stopped

    async def take(self, _: None = None) -> deque[Task]:
        """Ask for tasks; none if there are none now."""
        await self._association.port.flushed()  # the answer may take a while
        self._report(is_asking=True)
        tasks = self._channel.receive()
        return deque(Task(number, item, "", _NO_KEY) for number, item in tasks)

    def send_on(self, association: TaskPipeline) -> None:
        """Send the tasks that come, until there are no more."""
        self._association = association
        try:
            while sent := association.at_hand() or run_blocking(association.next()):
                self._note(sent)
            run_blocking(association.end())
        except BaseException:
            association.abort()
            raise
        self._report(is_over=True)

    def _note(self, sent: Sent) -> None:
        sent.item = sent.item.number
        if sent.failure is not None:
            sent.failure = _portable(sent.failure)
        self._results.append(sent)
        if time.monotonic() >= self._report_at:
            self._report()

    def _report(self, *, is_asking: bool = False, is_over: bool = False) -> None:
        self._channel.send((self._results, is_asking, is_over))
        self._results = []
        self._report_at = time.monotonic() + _REPORT_EVERY


def _portable(error: Exception) -> Exception:
    """Return an exception that another process can read: its text, if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return DicomwireError(f"{type(error).__name__}: {error}")
    return error


class _Forwarding(logging.Handler):
    """Lets the process of the program log what is logged here."""

    def __init__(self, control: _ProcessChannel) -> None:
        super().__init__()
        self._control = control

    def emit(self, record: logging.LogRecord) -> None:
        text, fault = record.getMessage(), record.exc_text
        if record.exc_info:
            fault = logging.Formatter().formatException(record.exc_info)
        fields = {**record.__dict__, "msg": text, "args": None, "exc_info": None, "exc_text": fault}
        with suppress(EOFError):  # the program has ended
            self._control.send({key: x for key, x in fields.items() if isinstance(x, _PLAIN)})


_PLAIN = (str, int, float, type(None))
