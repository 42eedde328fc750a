"""Associations that the node requests: with the destinations of its configuration.

What is sent on them is elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dicomwire import AE, Association, Settings
from dicomwire.logs import escaped
from dicomwire.node.access import client_tls
from dicomwire.node.configuration import Configuration, Destination
from dicomwire.node.tasks.threads import GiveUp
from dicomwire.presentation import PresentationContext
from dicomwire.sop_class import InstanceAvailabilityNotification, StorageCommitmentPushModel

if TYPE_CHECKING:
    from dicomwire.web.client import Client

REQUESTED = (StorageCommitmentPushModel, InstanceAvailabilityNotification)
"""The SOP classes, besides those of Storage, of which the node is an SCU. The conformance statement
is made from it."""


class Unreachable(OSError):
    """There is no association with a destination; the text says why."""


class Outgoing:
    """Requests associations with destinations.

    Parameters
    ----------
    configuration : Configuration

    Raises
    ------
    TLSConfigurationError
        When the certificates for destinations cannot be used.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.use(configuration)

    def use(self, configuration: Configuration) -> None:
        """Use other destinations from now on; raises as the class does, and keeps the old ones."""
        self._tls = client_tls(configuration)
        self.configuration = configuration

    def associate(
        self, title: str, contexts: Sequence[PresentationContext], **options: Any
    ) -> Association:
        """Return an established association with a destination; release it after use.

        Parameters
        ----------
        title : str
            The AE title of the destination.
        contexts : sequence of PresentationContext
        **options
            Further ones of `AE.associate`: `ext_neg`, `evt_handlers`, `window`.

        Raises
        ------
        GiveUp
            When no destination has this title.
        Unreachable
            When it cannot be reached, or rejects the association.
        """
        shown = escaped(title)
        destination = self.configuration.destinations.get(title)
        if destination is None:
            raise GiveUp(f"there is no destination {shown!r} in the configuration")
        tls_args = None
        if destination.tls:
            assert self._tls is not None  # as one destination needs it
            tls_args = (self._tls, None)
        ae = AE(self.configuration.ae_title, timeouts(self.configuration))
        ae.maximum_pdu_size = self.configuration.max_pdu
        association = ae.associate(
            destination.host,
            destination.port,
            list(contexts),
            ae_title=title,
            tls_args=tls_args,
            **options,
        )
        if not association.is_established:
            raise Unreachable(f"there is no association with {shown}: {association.failure}")
        return association

    def client(self, destination: Destination) -> Client:
        """Return a client of a destination's DICOMweb; close it after use.

        Raises
        ------
        Unreachable
            When httpx is not installed.
        """
        try:
            from dicomwire.web.client import Client
        except ImportError:
            needed = "pip install 'dicomwire[webclient]'"
            raise Unreachable(f"DICOMweb needs httpx ({needed})") from None
        file = destination.token_file
        return Client(
            destination.url,
            token=partial(_first_line, file) if file else None,
            tls=self._tls,
            timeout=_seconds(self.configuration.dimse_timeout),
            attempts=1,  # the task of the object is repeated
        )


def _first_line(file: str) -> str:
    """Return the token in a file, which may change at any time."""
    with open(file, encoding="ascii") as opened:
        return opened.readline().strip()


def timeouts(configuration: Configuration) -> Settings:
    """Return the settings of an AE of the node: its timeouts."""
    acse_timeout = _seconds(configuration.acse_timeout)
    return Settings(
        connection_timeout=acse_timeout,
        acse_timeout=acse_timeout,
        dimse_timeout=_seconds(configuration.dimse_timeout),
        network_timeout=_seconds(configuration.network_timeout),
    )


def _seconds(timeout: float) -> float | None:
    return None if math.isinf(timeout) else timeout
