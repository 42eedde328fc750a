"""The asyncio face, driven from the threads that scenarios run on.

One event loop runs on a background thread. What a scenario holds are proxies of what lives there:
they run its coroutines, wait for their results, and hand everything else through. Where this face
raises why an association ended, they return what the threaded one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from pydicom.dataset import Dataset
from scenario import Face, eventually

from dicomwire import Sent, Settings, aio, evt
from dicomwire.aio.handlers import AsyncHandlers
from dicomwire.errors import AssociationFailure, LocalProtocolError
from raw_peer import WAIT

THREADS = 300
"""As many plain handlers may wait at the same time in any scenario."""

_requested: ContextVar[aio.Association] = ContextVar("_requested")


class Asyncio(Face):
    """The asyncio face, with defaults that make a scenario short."""

    def __init__(
        self,
        name: str = "asyncio",
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._runner = asyncio.Runner(loop_factory=loop_factory, debug=False)
        self.loop = self._runner.get_loop()
        self._began = threading.Event()
        self._stop = asyncio.Event()
        self.faults: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self._run, name="event loop", daemon=True)
        self.thread.start()
        assert self._began.wait(WAIT)

    def _run(self) -> None:
        async def until_stopped() -> None:
            self._main = asyncio.current_task()
            self.loop.set_default_executor(ThreadPoolExecutor(THREADS))
            self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
            self._began.set()
            await self._stop.wait()
            others = asyncio.all_tasks() - {self._main}
            if others:
                _, others = await asyncio.wait(others, timeout=WAIT)
            assert not others, others

        try:
            self._runner.run(until_stopped())
        except BaseException as error:
            self.faults.append({"exception": error})
        finally:
            self._runner.close()

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop's thread, as handlers of notifications are."""
        return threading.current_thread() is self.thread

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what `coroutine` returns on the loop."""
        if self.is_here:
            coroutine.close()
            raise RuntimeError("a plain handler on the event loop cannot wait for it")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def call(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns on the loop."""
        if self.is_here:
            return function()

        result: Future[Any] = Future()

        def call() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return result.result(WAIT)

    def threads(self) -> list[threading.Thread]:
        return [self.thread]

    def leftovers(self, server: aio.AssociationServer, silent: int = 0) -> list[object]:
        left: list[object] = []

        def look() -> bool:
            expected = {self._main, *(each._accepting for each in self._servers())}
            tasks = asyncio.all_tasks(self.loop) - expected
            left[:] = [*tasks, *list(server._new_connections)[silent:]]
            return not left

        eventually(lambda: self.call(look))
        return left

    def _servers(self) -> list[aio.AssociationServer]:
        return [server for ae in self.entities for server in ae.target._servers]

    def _make_ae(self, title: str, settings: Settings) -> AEProxy:
        return self.proxy(ScenarioAE(self, title, settings))

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.loop.call_soon_threadsafe(self._stop.set)
            self.thread.join(WAIT)
        assert not self.thread.is_alive()
        assert not self.faults, self.faults

    def proxy(self, value: Any) -> Any:
        """Return what scenarios get for `value`."""
        if isinstance(value, list):
            return [self.proxy(each) for each in value]
        for kind, proxy in _PROXIES.items():
            if isinstance(value, kind):
                made = vars(value).get("proxy")
                if made is None:
                    made = vars(value)["proxy"] = proxy(self, value)
                return made
        return value


class ScenarioEvent(evt.Event):
    """An event whose association is one that a scenario's handlers can use."""

    def __init__(self, assoc: Any, event: Any, attrs: Any = None) -> None:
        super().__init__(assoc.ae.face.proxy(assoc), event, attrs)


class ScenarioHandlers(AsyncHandlers):
    __slots__ = ()
    event_class = ScenarioEvent


class ScenarioAE(aio.AE):
    """Keeps what is requested at hand, whether it comes about or not."""

    handlers_class = ScenarioHandlers

    def __init__(self, face: Asyncio, title: str, settings: Settings) -> None:
        super().__init__(title, settings)
        self.face = face

    def _propose(self, association: aio.Association, *args: Any) -> None:
        _requested.set(association)
        super()._propose(association, *args)


class Proxy:
    """Hands attributes through; coroutine functions become methods that wait."""

    def __init__(self, face: Asyncio, target: Any) -> None:
        vars(self)["face"] = face
        vars(self)["target"] = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        if inspect.iscoroutinefunction(value):
            return lambda *args, **options: self.face.run(value(*args, **options))
        if inspect.ismethod(value):
            return lambda *args, **options: self.face.proxy(
                self.face.call(lambda: value(*args, **options))
            )
        return self.face.proxy(value)

    def __setattr__(self, name: str, value: Any) -> None:
        self.face.call(lambda: setattr(self.target, name, value))


class AEProxy(Proxy):
    def associate(self, *args: Any, **options: Any) -> AssociationProxy:
        opening = self.target.associate(*args, **options)

        async def begin() -> aio.Association:
            try:
                return await opening
            except AssociationFailure:
                return _requested.get()

        return self.face.proxy(self.face.run(begin()))

    def start_server(self, *args: Any, block: bool = False, **options: Any) -> ServerProxy:
        assert not block
        opening = self.target.start_server(*args, **options)

        async def begin() -> aio.AssociationServer:
            return await opening

        return self.face.proxy(self.face.run(begin()))


class ServerProxy(Proxy):
    def __enter__(self) -> ServerProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        self.face.run(self.target.close())


@contextlib.contextmanager
def refusing(association: aio.Association) -> Iterator[None]:
    """Say of an association that had ended before what the threaded face says of it."""
    had_ended = not association.is_established
    try:
        yield
    except AssociationFailure as failure:
        if had_ended:
            raise LocalProtocolError(f"the association is not established: {failure}") from None
        raise


class AssociationProxy(Proxy):
    def __enter__(self) -> AssociationProxy:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def release(self) -> None:
        if self.face.is_here:
            self.target.release_soon()
            return
        with contextlib.suppress(AssociationFailure):
            self.face.run(self.target.release())

    def abort(self, block: bool = True) -> None:
        self.target.abort()
        if block and not self.face.is_here:
            self.join(WAIT)

    def kill(self) -> None:
        self.abort(block=False)

    def join(self, timeout: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            self.face.run(asyncio.wait_for(self.target.join(), timeout))

    def is_alive(self) -> bool:
        return self.target._open_reported and not self.target._port.is_ended

    # What came of a request; empty where nothing did.

    def _result(self, sending: Coroutine[Any, Any, Any], nothing: Any) -> Any:
        try:
            with refusing(self.target):
                return self.face.run(sending)
        except AssociationFailure:
            return nothing

    def _status(self, sending: Coroutine[Any, Any, Dataset]) -> Dataset:
        return self._result(sending, Dataset())

    def _pair(self, sending: Coroutine[Any, Any, Any]) -> tuple[Dataset, Dataset | None]:
        return self._result(sending, (Dataset(), None))

    def send_c_echo(self, *args: Any, **options: Any) -> Dataset:
        return self._status(self.target.send_c_echo(*args, **options))

    def send_c_store(self, *args: Any, **options: Any) -> Dataset:
        return self._status(self.target.send_c_store(*args, **options))

    def send_n_delete(self, *args: Any, **options: Any) -> Dataset:
        return self._status(self.target.send_n_delete(*args, **options))

    def send_n_event_report(self, *args: Any, **options: Any) -> tuple[Dataset, Dataset | None]:
        return self._pair(self.target.send_n_event_report(*args, **options))

    def send_n_get(self, *args: Any, **options: Any) -> tuple[Dataset, Dataset | None]:
        return self._pair(self.target.send_n_get(*args, **options))

    def send_n_set(self, *args: Any, **options: Any) -> tuple[Dataset, Dataset | None]:
        return self._pair(self.target.send_n_set(*args, **options))

    def send_n_action(self, *args: Any, **options: Any) -> tuple[Dataset, Dataset | None]:
        return self._pair(self.target.send_n_action(*args, **options))

    def send_n_create(self, *args: Any, **options: Any) -> tuple[Dataset, Dataset | None]:
        return self._pair(self.target.send_n_create(*args, **options))

    def send_c_cancel(self, *args: Any, **options: Any) -> None:
        with contextlib.suppress(AssociationFailure):
            self.face.run(self.target.send_c_cancel(*args, **options))

    def send_c_stores(self, items: Any, priority: int = 2) -> SendingProxy:
        def begin() -> aio.Sending:
            return self.target.send_c_stores(items, priority)

        return SendingProxy(self.face, self.face.call(begin))

    def send_c_find(self, *args: Any, **options: Any) -> ResponsesProxy:
        return ResponsesProxy(self, self.target.send_c_find(*args, **options))

    def send_c_get(self, *args: Any, **options: Any) -> ResponsesProxy:
        return ResponsesProxy(self, self.target.send_c_get(*args, **options))

    def send_c_move(self, *args: Any, **options: Any) -> ResponsesProxy:
        return ResponsesProxy(self, self.target.send_c_move(*args, **options))


class ResponsesProxy(Iterator[tuple[Dataset, Dataset | None]]):
    """Takes responses one by one; the request is sent at once."""

    def __init__(self, association: AssociationProxy, responses: aio.Responses) -> None:
        self._face = association.face
        self._responses = responses
        self._has_failed = False
        try:
            with refusing(association.target):
                self._face.run(responses.begin())
        except AssociationFailure:
            self._has_failed = True

    def __next__(self) -> tuple[Dataset, Dataset | None]:
        if self._has_failed:
            self._has_failed = False
            return Dataset(), None
        try:
            return self._face.run(self._responses.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        except AssociationFailure:
            return Dataset(), None

    def close(self) -> None:
        self._face.run(self._responses.aclose())


class SendingProxy(Iterator[Sent]):
    """Takes what becomes of objects one by one."""

    def __init__(self, face: Asyncio, sending: aio.Sending) -> None:
        self._face = face
        self._sending = sending

    def __enter__(self) -> SendingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Sent:
        try:
            return self._face.run(self._sending.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._face.run(self._sending.aclose())


_PROXIES: dict[type, type[Proxy]] = {
    aio.AE: AEProxy,
    aio.AssociationServer: ServerProxy,
    aio.Association: AssociationProxy,
}
