"""The address, the credentials and the client of stowrs, qidors and wadors, which they share."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire.apps.arguments import add_logging, count, seconds
from dicomwire.apps.console import FAILED, NO_ASSOCIATION, Misuse
from dicomwire.apps.security import (
    add_tls_details,
    client_context_of,
    read_secret,
    refuse_tls_details,
    secret_source,
)
from dicomwire.web import Client, WebFailure

EXIT_CODES = """\
exit codes: 0 if everything was done, 1 if anything failed, 2 for wrong arguments, 3 if the server
could not be reached, 130 after Ctrl-C."""
"""The exit codes of the applications for DICOMweb; docs/reference/exit_codes.md."""
URL = """\
URL is the root of the server's DICOMweb, such as https://pacs.example.org/dicom-web: below it is
/studies."""
"""The note about the URL in their help."""


def add_web_server(parser: ArgumentParser) -> None:
    """Add the URL, and the options for the connection, the log, the user and TLS."""
    parser.add_argument("url", metavar="URL", help="root of the server's DICOMweb")
    group = parser.add_argument_group("network")
    group.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=30.0,
        help="seconds to wait for a connection, and for the next bytes (default: 30, forever: inf)",
    )
    group.add_argument(
        "--attempts",
        metavar="N",
        type=count,
        default=3,
        help="send a request up to n times, if it fails in a way that may pass (default: 3)",
    )
    add_logging(parser)
    group = parser.add_argument_group("user")
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--token",
        metavar="SOURCE",
        type=secret_source,
        help="where a bearer token is: env:VARIABLE or file:PATH",
    )
    one.add_argument("--user", metavar="NAME", help="name of the user, for basic authentication")
    group.add_argument(
        "--password-from",
        metavar="SOURCE",
        type=secret_source,
        help="where the password of the user is: env:VARIABLE or file:PATH",
    )
    add_tls_details(parser.add_argument_group("TLS, for https (PS3.15 Annex B)"), "client")


def client_of(options: Namespace) -> Client:
    """Return the client that the options describe; raise Misuse if they do not go together."""
    is_secure = options.url.lower().startswith("https:")
    if not is_secure:
        refuse_tls_details(options, "https")
    if (options.user is None) != (options.password_from is None):
        raise Misuse("--user and --password-from need each other; see --help")
    auth = None
    if options.user is not None:
        auth = options.user, read_secret(options.password_from)
    try:
        return Client(
            options.url,
            token=None if options.token is None else read_secret(options.token),
            auth=auth,
            tls=client_context_of(options) if is_secure else None,
            timeout=options.timeout,
            attempts=options.attempts,
        )
    except ValueError as error:
        raise Misuse(str(error)) from None


def exit_code_of(failure: WebFailure, logger: logging.Logger) -> int:
    """Log a failure; return the exit code for it."""
    logger.error("%s", failure)
    return NO_ASSOCIATION if failure.is_unreachable else FAILED
