"""Access control and TLS: known peers may do anything, all others what the configuration allows.

A peer can claim any calling AE title, so only networks and certificates are real protection.
"""

from __future__ import annotations

import logging
import ssl
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from dicomwire import Association
from dicomwire.errors import TLSConfigurationError
from dicomwire.logs import escaped
from dicomwire.node.configuration import TLS, Access, Configuration, Destination, Right
from dicomwire.tls import client_context, server_context

LOGGER = logging.getLogger("dicomwire.node")


class Guard:
    """Decides what each peer of a node may do.

    Attributes
    ----------
    titles : list of str
        The only calling AE titles that may associate; empty for any.
    admits_strangers : bool
        Whether peers that are not known may associate.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.use(configuration)

    def use(self, configuration: Configuration) -> None:
        """Decide by another configuration from now on."""
        rules = configuration.access
        self._rules = rules
        self._strangers = frozenset(rules.strangers)
        self._destinations = configuration.destinations
        self.admits_strangers = bool(rules.strangers)
        self.titles = [] if rules.strangers else list(rules.titles)

    def knows_address(self, address: str) -> bool:
        """Return whether `address` is in a network of known peers."""
        return _is_within(address, self._rules)

    def knows(self, title: str, address: str) -> bool:
        """Return whether both the calling AE title and the network of a peer are known."""
        titles = self._rules.titles
        return (not titles or title.strip() in titles) and self.knows_address(address)

    def allows(self, association: Association, right: Right) -> bool:
        """Return whether the peer has the right `right`."""
        peer = association.requestor
        return right in self._strangers or self.knows(peer.ae_title, address_of(association))

    def may(self, association: Association, right: Right) -> bool:
        """Return whether the peer has the right `right`; log a warning if not."""
        if self.allows(association, right):
            return True
        self.report(association, right)
        return False

    def report(self, association: Association, right: Right) -> None:
        """Log that a peer lacks a right."""
        title = escaped(association.requestor.ae_title)
        LOGGER.warning("'%s' at %s is not allowed to %s", title, address_of(association), right)

    def destination(self, title: str | None) -> Destination | None:
        """Return the address of the Move Destination `title`; None if it is not configured."""
        return self._destinations.get((title or "").strip())


def address_of(association: Association) -> str:
    """Return the address of the peer; "" if it is unknown."""
    info = association.requestor.address_info
    return info.address if info is not None else ""


@lru_cache(maxsize=1024)
def _is_within(address: str, rules: Access) -> bool:
    if not rules.networks:
        return True
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in rules.networks)


# --- TLS --------------------------------------------------------------------------------------


def server_tls(configuration: Configuration) -> ssl.SSLContext | None:
    """Return the TLS context of the node's server; None if no certificate is configured.

    Raises
    ------
    TLSConfigurationError
        When a file is missing or invalid, or other TLS keys are set without a certificate.
    """
    tls = configuration.tls
    if tls.cert:
        password = _password(tls)
        return server_context(tls.cert, tls.key or None, password, tls.ca or None, tls.profile)
    if tls.key or tls.key_password_file or (tls.ca and not _sends_over_tls(configuration)):
        raise TLSConfigurationError("[tls] has no cert: the node would not listen over TLS")
    return None


def http_tls(configuration: Configuration) -> ssl.SSLContext | None:
    """Return the TLS context for HTTP; None if no certificate is configured.

    Clients need no certificate, since users have passwords or tokens.
    """
    tls = configuration.tls
    if not tls.cert:
        return None
    return server_context(tls.cert, tls.key or None, _password(tls), None, tls.profile)


def client_tls(configuration: Configuration) -> ssl.SSLContext | None:
    """Return the TLS context for destinations; None if no destination uses TLS."""
    tls = configuration.tls
    if not _sends_over_tls(configuration):
        return None
    return client_context(
        tls.profile,
        tls.ca or None,
        tls.cert or None,
        tls.key or None,
        _password(tls),
        verify=not tls.no_verify,
    )


def _sends_over_tls(configuration: Configuration) -> bool:
    destinations = configuration.destinations.values()
    return any(each.tls or each.url.startswith("https:") for each in destinations)


def _password(tls: TLS) -> str | None:
    if not tls.key_password_file:
        return None
    try:
        with Path(tls.key_password_file).open(encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TLSConfigurationError(f"cannot read {tls.key_password_file}: {reason}") from None
