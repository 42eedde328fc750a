"""The threaded face without pydicom: UIDs are plain text, and statuses are numbers.

It is for programs that read no dataset, such as the command-line applications: importing pydicom
takes longer than many of them run. Everything else is as in `dicomwire`; a call that needs a
dataset imports pydicom. If a program also imports `dicomwire`, its UIDs are pydicom's.
"""

from __future__ import annotations

from dicomwire.data.blocking import run_blocking
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.protocol.context import PresentationContext as PresentationContext
from dicomwire.registry.tables import ALL_TRANSFER_SYNTAXES as ALL_TRANSFER_SYNTAXES
from dicomwire.session.base import ReceiveTo as ReceiveTo
from dicomwire.session.contexts import build_context as build_context
from dicomwire.session.contexts import listed_contexts as listed_contexts
from dicomwire.threaded.ae import AE as AE
from dicomwire.threaded.association import Association as Association


def send_echo(association: Association, msg_id: int = 1) -> Message | None:
    """Send a C-ECHO request, as `Association.send_c_echo` does.

    Returns
    -------
    Message or None
        The response; None where there was none: `Association.failure` then says why.
    """
    try:
        return run_blocking(association.echo(msg_id))
    except AssociationFailure:
        return None
