"""Runs an archive for `node` and `qrscp`, until a signal ends it.

The archive itself is the package `dicomwire.node`; each application makes the configuration.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING

from dicomwire.apps.console import Stop
from dicomwire.apps.invocation import program
from dicomwire.apps.serving import explaining, raise_file_limit, sigterm_raised
from dicomwire.logs import counted, escaped
from dicomwire.node.configuration import Configuration

if TYPE_CHECKING:
    from dicomwire.node.server import Node

_EXTRAS = {
    **dict.fromkeys(("sqlalchemy", "alembic", "pydantic"), "node"),
    **dict.fromkeys(("starlette", "uvicorn", "jinja2"), "node,web"),
}
"""The extras that install the packages which an archive needs."""
_STUDIES = "-S -k QueryRetrieveLevel=STUDY -k StudyInstanceUID"


@contextmanager
def needing_extra(app: str) -> Iterator[None]:
    """Say which package to install if an import fails that only the archive needs."""
    try:
        # The archive imports it only to change its tables, which may be much later.
        if find_spec("alembic") is None:
            raise ModuleNotFoundError(name="alembic")
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        needed = f"pip install 'dicomwire[{_EXTRAS[package]}]'"
        raise Stop(f"{app} requires the {package} package: {needed}") from None


def serve(
    configuration: Configuration,
    options: Namespace,
    logger: logging.Logger,
    address_option: str,
    reread: Callable[[], Configuration] | None = None,
) -> int:
    """Run an archive until Ctrl-C, or until SIGTERM ends the process; return the exit code.

    Parameters
    ----------
    options : Namespace
        With `quiet`, which prints nothing, and `json`, which prints where it listens as JSON.
    address_option : str
        The name of the option for the address to listen on, for error texts.
    reread : callable, optional
        Returns the configuration as it is now; SIGHUP makes the archive use it.
    """
    with needing_extra(logger.name.rpartition(".")[2]):
        from dicomwire.node.reloading import on_hangup
        from dicomwire.node.server import Node

        if configuration.http >= 0:
            import dicomwire.node.web.serving  # noqa: F401

    raise_file_limit()
    node = Node(configuration, reread)
    with sigterm_raised(), ExitStack() as running:
        try:
            with explaining(configuration.address, configuration.port, address_option):
                node.start()
            host, port = node.address
            logger.info("%s listens on %s, port %d", configuration.ae_title, host, port)
            if node.http_address is not None:
                logger.info("The page is at %s/, and DICOMweb in /dicom-web", _url_of(node))
            if reread is not None:
                running.enter_context(on_hangup(node.reload))
            if options.json:
                print(json.dumps(_facts(node)), flush=True)
            elif not options.quiet:
                print("\n".join(_welcome(node)), flush=True)
            _tell_service_manager("READY=1")
            node.wait()
        except KeyboardInterrupt:
            logger.info("Stopping")
        finally:
            _tell_service_manager("STOPPING=1")
            running.close()
            node.stop()
    return 0


def _tell_service_manager(state: str) -> None:
    """Tell systemd, if it has started this process with ``Type=notify``; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            # A name that begins with @ is of the abstract namespace.
            manager.sendto(state.encode(), address.replace("@", "\0", 1))


def clean(configuration: Configuration, logger: logging.Logger) -> int:
    """Remove all objects if the user answers yes; return the exit code."""
    folder = configuration.folder
    answer = ""
    with suppress(EOFError):  # standard input is closed: nobody can answer
        answer = input(f"Remove all objects in {folder} and in its index? (yes/no) ")
    if answer.strip() != "yes":
        print("Nothing is removed")
        return 0
    with needing_extra(logger.name.rpartition(".")[2]):
        from dicomwire.node.maintenance import reindex
    from dicomwire.node.objects.folder import FolderObjects
    from dicomwire.node.objects.spool import Spool

    objects = FolderObjects(folder)
    with Spool(folder, exclusive=True):
        files = list(objects.names())
        objects.withdraw(files)
        left = len(list(objects.names()))
    reindex(folder, index=configuration.index)
    logger.info("Removed %s", counted(len(files) - left, "object"))
    if left:
        raise Stop(
            f"{counted(left, 'object')} could not be removed: "
            f"check the owner and the permissions of {folder}"
        )
    return 0


def _facts(node: Node) -> dict[str, object]:
    configuration = node.configuration
    host, port = node.address
    return {
        "ae_title": configuration.ae_title,
        "address": host,
        "port": port,
        "folder": str(configuration.folder.absolute()),
        "destinations": sorted(configuration.destinations),
        "dicomweb": None if node.http_address is None else f"{_url_of(node)}/dicom-web",
    }


_ANYWHERE = ("0.0.0.0", "::")
"""The addresses of all interfaces. A server has them; a client cannot use them everywhere."""


def _url_of(node: Node) -> str:
    """Return the URL of a node that serves HTTP, as this machine reaches it."""
    assert node.http_address is not None
    host, port = node.http_address
    host = "localhost" if host in _ANYWHERE else host
    scheme = "https" if node.configuration.tls.cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _welcome(node: Node) -> Iterator[str]:
    """Yield the lines that say where the archive listens, who may use it, and how."""
    configuration = node.configuration
    host, port = node.address
    is_anywhere = host in _ANYWHERE
    yield f"AE title  {configuration.ae_title}"
    yield f"Address   {'all interfaces' if is_anywhere else host}, port {port}"
    if node.http_address is not None:
        yield f"Page      {_url_of(node)}/"
        yield f"DICOMweb  {_url_of(node)}/dicom-web"
    yield f"Folder    {escaped(str(configuration.folder.absolute()))}"
    if not is_anywhere and ip_address(host.partition("%")[0]).is_loopback:
        yield "Open to   this machine"
    else:
        plain = "unencrypted: anyone on the network path can read it"
        secure = "over TLS" if configuration.tls.cert else plain
        yield f"Open to   the network, {secure}"
    yield "Stop it with Ctrl-C. From another terminal:"
    peer = f"{'localhost' if is_anywhere else host} {port}"
    if configuration.access.called_title:
        peer += f" -aec {configuration.ae_title}"
    if configuration.access.titles:  # others may do less
        peer += f" -aet {configuration.access.titles[0]}"
    yield from _commands(configuration, peer)


def _commands(configuration: Configuration, peer: str) -> Iterator[str]:
    """Yield commands for the archive; words in capitals stand for values of the user."""
    tls = configuration.tls
    ours = f"{peer} --tls --tls-ca CA.pem" if tls.cert else peer
    if tls.cert and tls.ca:
        ours += " --tls-cert MY.pem --tls-key MY.key"
    run = program()
    yield f"  send      {run} storescu {ours} -r FOLDER"
    yield f"  query     {run} findscu {ours} {_STUDIES} -k PatientName"
    yield f"  retrieve  {run} getscu {ours} {_STUDIES}=UID"
    for title, place in configuration.destinations.items():
        to = f"{escaped(place.host)}, port {place.port}"
        yield f"  to {to}:"
        yield f"            {run} movescu {ours} -aem {title} {_STUDIES}=UID"
    if not configuration.tls.cert:
        yield "  or with DCMTK:"
        yield f"            storescu {peer} +sd +r FOLDER"
        yield f"            findscu {peer} {_STUDIES} -k PatientName"
        yield f"            getscu {peer} {_STUDIES}=UID"
