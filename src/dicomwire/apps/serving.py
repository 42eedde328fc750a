"""How an application serves: from the address it listens on to the signal that ends it.

What is served is up to the applications.
"""

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

from dicomwire import AE, UID, Settings, evt
from dicomwire.apps.arguments import count
from dicomwire.apps.console import Stop
from dicomwire.apps.identity import users_handlers
from dicomwire.apps.security import server_tls
from dicomwire.association import ReceiveTo
from dicomwire.presentation import PresentationContext

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

MANY_FILES = 10_240
"""What a process may open on macOS, where the hard limit says more than is true."""


def add_workers(parser: ArgumentParser) -> None:
    """Add what says how many processes serve; None for this one alone."""
    group = parser.add_argument_group("processes")
    group.add_argument(
        "--workers",
        metavar="N",
        type=count,
        help="serve in n processes, restart those that die; SIGTERM lets associations end first",
    )


def supporting(
    contexts: list[PresentationContext], syntaxes: list[UID]
) -> list[PresentationContext]:
    """Return copies of `contexts` with the transfer syntaxes `syntaxes`, which need no check."""
    copies = deepcopy(contexts)
    for context in copies:
        context.transfer_syntax[:] = syntaxes
    return copies


def log_echo(event: evt.Event, logger: logging.Logger) -> int:
    """Log a C-ECHO request, and answer it with success (handler of EVT_C_ECHO)."""
    logger.info("Received Echo Request (MsgID %d)", event.message_id)
    return 0x0000


def serve(
    options: Namespace,
    logger: logging.Logger,
    contexts: list[PresentationContext],
    handlers: list[evt.EventHandlerType],
    hints: Iterable[str],
    receive_to: ReceiveTo | None = None,
) -> int:
    """Serve until Ctrl-C, or SIGTERM, which ends the process; return the exit code.

    Workers (`add_workers`) are drained by SIGTERM before that.

    Parameters
    ----------
    hints : iterable of str
        What people may want to know, logged at INFO when the server is there; "{address}" and
        "{port}" in them stand for what to send to.
    """
    ssl_context = server_tls(options)
    handlers = [*users_handlers(options, logger), *handlers]
    raise_file_limit()
    workers = getattr(options, "workers", None)  # not every server has them
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
                    logger.info(hint.format(address="localhost" if anywhere else host, port=port))
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("Stopping")
        except _Terminated:
            if workers is not None:
                logger.info("Draining")
                server.drain()
            raise
        finally:
            ae.shutdown()
    return 0


@contextmanager
def explaining(host: str, port: int, option: str) -> Iterator[None]:
    """Say why an address cannot be listened on; `option` is the one that gives the host."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise Stop(_cannot_listen(error, host, port, option)) from None


def _cannot_listen(error: Exception, host: str, port: int, option: str) -> str:
    """Return what is wrong with the address to listen on, and what to do."""
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"Port {port} is in use: stop the program that has it, or choose another port"
    if code == errno.EACCES:
        return f"Port {port} may not be used by this user: choose one above 1023, such as 11112"
    if code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror | UnicodeError):
        return f"{host!r} is no address of this machine: give {option} one, or leave it out"
    return f"Cannot listen on port {port}: {error}"


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Let SIGTERM end the block orderly, and then the process, as if it had not been handled."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
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
    """Let the process open as many files as the system allows it to: each connection is one."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, MANY_FILES):
        if soft != resource.RLIM_INFINITY and (limit > soft or limit == resource.RLIM_INFINITY):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                return
