"""An event loop with a fake clock and fake transports.

The clock stands still while anything is ready, and then moves to the next deadline at once.
`ClockLoop.later` says what is to happen before that; to wait without a deadline, and without
anything to happen later, is a failure.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))


class _ClosedSocket:
    """What a transport gives for its socket: nothing can be done with it."""

    def fileno(self) -> int:
        raise OSError

    def setsockopt(self, *_: object) -> None:
        raise OSError


class FakeTransport(asyncio.Transport):
    """Our end of a connection; what the peer and the system do is up to the test.

    Attributes
    ----------
    outgoing : bytearray
        All bytes that were sent.
    room : int or None
        How many bytes the system takes before it keeps them from the peer; None for any number.
    closed : int
        How often it was closed.
    """

    def __init__(self, loop: ClockLoop) -> None:
        names = {"sockname": ("192.0.2.2", 50_000), "peername": ("192.0.2.1", 11112)}
        super().__init__({**names, "socket": _ClosedSocket()})
        self._loop = loop
        self._protocol: Any = None
        self._arrived: deque[bytes | None] = deque()  # None for the end
        self._unsent = bytearray()
        self._is_reading = True
        self.outgoing = bytearray()
        self.sent: Callable[[], None] = lambda: None
        self.room: int | None = None
        self.closed = 0

    # --- For the test ---

    def arrive(self, data: bytes) -> None:
        """Have bytes of the peer arrive."""
        self._arrived.append(data)
        self._loop.call_soon(self._deliver)

    def end(self) -> None:
        """Have the peer close the connection."""
        self._arrived.append(None)
        self._loop.call_soon(self._deliver)

    def reset(self) -> None:
        """Have the peer reset the connection."""
        self._arrived.clear()
        self._loop.call_soon(self._lose, ConnectionResetError())

    def take(self, size: int) -> None:
        """Have the system take `size` more bytes."""
        assert self.room is not None
        self.room += size
        self._send()

    def _deliver(self) -> None:
        while self._is_reading and self._arrived and not self.closed:
            data = self._arrived.popleft()
            if data is None:
                if not self._protocol.eof_received():
                    self.close()
                return
            buffer = self._protocol.get_buffer(len(data))
            size = min(len(data), len(buffer))
            buffer[:size] = data[:size]
            if size < len(data):
                self._arrived.appendleft(data[size:])
            self._protocol.buffer_updated(size)

    # --- For the library ---

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def write(self, data: Any) -> None:
        if self.closed:
            return
        was_empty = not self._unsent
        self._unsent += data
        self._send()
        if was_empty and self._unsent:
            self._protocol.pause_writing()

    def _send(self) -> None:
        size = len(self._unsent) if self.room is None else min(self.room, len(self._unsent))
        if self.room is not None:
            self.room -= size
        if not size:
            return
        self.outgoing += self._unsent[:size]
        del self._unsent[:size]
        self.sent()
        if not self._unsent:
            self._loop.call_soon(self._protocol.resume_writing)

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return bool(self.closed)

    def write_eof(self) -> None:
        """Tell nobody: the peers of these tests do not mind."""

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._protocol is None:  # it is noticed as soon as there is somebody to notice
            self._loop.call_soon(self._lose, error)
        elif not self.closed:
            self.closed += 1
            self._loop.call_soon(self._protocol.connection_lost, error)


class _Selector:
    """Looks at the loop's real files, and moves the clock instead of waiting for them."""

    def __init__(self, loop: ClockLoop, selector: Any) -> None:
        self._loop = loop
        self._selector = selector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        loop = self._loop
        loop.step()
        found = self._selector.select(0)
        if not found and timeout != 0:
            if loop.later:
                loop.later.popleft()()
            elif loop.idle():
                pass
            elif timeout is not None:
                loop.now += timeout
            else:
                raise AssertionError("the loop would wait for ever")
        return found


class ClockLoop(asyncio.SelectorEventLoop):
    """The event loop.

    Attributes
    ----------
    now : float
        The time.
    later : deque
        What happens, one by one, when nothing else can go on.
    idle : callable
        Called when nothing else can go on, before the clock moves; true if something can then.
    steps : int
        How many turns the loop has made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.later: deque[Callable[[], object]] = deque()
        self.idle: Callable[[], bool] = lambda: False
        self.steps = 0
        self._happens: tuple[int, Callable[[], object]] | None = None
        self.next_transport: Callable[[], FakeTransport]
        self._selector: Any = _Selector(self, self._selector)

    def time(self) -> float:
        return self.now

    def step(self) -> None:
        """Count a turn; what a test wants to happen in this one happens."""
        self.steps += 1
        if self._happens is not None and self._happens[0] == self.steps:
            _, happens = self._happens
            self._happens = None
            happens()

    def at_step(self, number: int, happens: Callable[[], object]) -> None:
        """Have something happen in the turn with this number, from 1."""
        self.steps = 0
        self._happens = number, happens

    async def create_connection(self, factory: Any, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        return self._connected(factory(), self.next_transport())

    async def connect_accepted_socket(self, factory: Any, sock: Any, **_: Any) -> Any:
        return self._connected(factory(), sock)

    def _connected(self, protocol: Any, transport: FakeTransport) -> Any:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport, protocol


def on_a_clock(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop with a fake clock; fail if a task or a complaint is left."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        complaints: list[Any] = []

        async def whole() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            await test(*args, **options)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                _, others = await asyncio.wait(others, timeout=1000)
            assert not others, others

        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(whole())
        assert not complaints, complaints

    return run


def the_loop() -> ClockLoop:
    """Return the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    return loop
