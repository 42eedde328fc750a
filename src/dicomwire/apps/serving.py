"""Runs the server of an application, from its address to the signal that ends it."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy

from dicomwire import events as evt
from dicomwire.apps.arguments import count
from dicomwire.apps.console import Stop
from dicomwire.apps.identity import users_handlers
from dicomwire.apps.invocation import program
from dicomwire.apps.security import server_tls
from dicomwire.plain import AE, PresentationContext, ReceiveTo
from dicomwire.registry.uids import quick_uid
from dicomwire.settings import Settings

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

MANY_FILES = 10_240
"""The open files of a process on macOS, where the hard limit is higher than the real one."""


def add_workers(parser: ArgumentParser) -> None:
    """Add the option for the number of processes; None serves in this process."""
    group = parser.add_argument_group("processes")
    group.add_argument(
        "--workers",
        metavar="N",
        type=count,
        help="serve in n processes, restart those that die; SIGTERM lets associations end first",
    )


def supporting(
    contexts: list[PresentationContext], syntaxes: Iterable[str]
) -> list[PresentationContext]:
    """Return copies of `contexts` with `syntaxes` as their transfer syntaxes."""
    copies = deepcopy(contexts)
    for context in copies:
        context.transfer_syntax[:] = map(quick_uid, syntaxes)
    return copies


def serve(
    options: Namespace,
    logger: logging.Logger,
    contexts: list[PresentationContext],
    handlers: list[evt.EventHandlerType],
    hints: Iterable[str],
    receive_to: ReceiveTo | None = None,
) -> int:
    """Serve until Ctrl-C, or until SIGTERM ends the process; return the exit code.

    With workers (`add_workers`), SIGTERM first lets their associations end.

    Parameters
    ----------
    hints : iterable of str
        Lines to log at INFO when the server listens; "{address}" and "{port}" in them stand for
        its address, "{dicomwire}" for the command of this environment.
    """
    ssl_context = server_tls(options)
    handlers = [*users_handlers(options, logger), *handlers]
    raise_file_limit()
    workers = getattr(options, "workers", None)  # only echoscp and storescp have the option
    ae = AE(
        options.ae_title,
        Settings(
            acse_timeout=options.acse_timeout,
            dimse_timeout=options.dimse_timeout,
            network_timeout=options.network_timeout,
            maximum_associations=options.max_associations,
            operations_window=options.window,
        ),
    )
    ae.maximum_pdu_size = options.max_pdu
    with sigterm_raised():
        with explaining(options.bind_address, options.port, "-ba"):
            server = ae.start_server(
                (options.bind_address, options.port),
                block=False,
                contexts=contexts,
                ssl_context=ssl_context,
                evt_handlers=handlers,
                receive_to=receive_to,
                workers=workers,
            )
        assert server is not None
        try:
            host, port = server.server_address[:2]
            anywhere = host in ("0.0.0.0", "::")
            where = f"port {port}" if anywhere else f"{host}, port {port}"
            logger.info("%s listens on %s; Ctrl-C stops it", options.ae_title, where)
            if ssl_context is None and options.users is None:
                for hint in hints:
                    address = "localhost" if anywhere else host
                    logger.info(hint.format(address=address, port=port, dicomwire=program()))
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("Stopping")
        except _Terminated:
            if workers is not None:
                logger.info("Waiting for associations to end")
                server.drain()
            raise
        finally:
            ae.shutdown()
    return 0


@contextmanager
def explaining(host: str, port: int, option: str) -> Iterator[None]:
    """Raise Stop with the reason if an address cannot be listened on; `option` gives the host."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise Stop(_cannot_listen(error, host, port, option)) from None


def _cannot_listen(error: Exception, host: str, port: int, option: str) -> str:
    """Return why the server cannot listen on the address, with advice."""
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"Port {port} is in use: stop the program that uses it, or choose another port"
    if code == errno.EACCES:
        return f"This user may not use port {port}: choose a port above 1023, such as 11112"
    if code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror | UnicodeError):
        return f"{host!r} is not an address of this machine: give {option} one, or leave it out"
    return f"Cannot listen on port {port}: {error}"


class _Terminated(BaseException):
    """The process received SIGTERM."""


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Let SIGTERM raise an exception in the block; afterwards end the process by that signal."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return

    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def raise_file_limit() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, MANY_FILES):
        if soft != resource.RLIM_INFINITY and (limit > soft or limit == resource.RLIM_INFINITY):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                return
