"""Whether a peer may have one more association: limits in all, per address and per title.

This module knows no sockets or processes. The AE counts, or the shared memory of the workers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

from dicomwire.logs import escaped
from dicomwire.protocol.limits import MIB
from dicomwire.settings import Settings

T = TypeVar("T")
C = TypeVar("C", bound="NewConnection")

WAITING_PER_ADDRESS = 1024
"""Connections of one address that may wait for an answer: as many as the system's queue holds."""
PENDING_BYTES = 64 * MIB
"""Memory for all incomplete association requests together: of the longest allowed, 64."""
MAKING_ROOM = "to make room for others"
TOO_MUCH_MEMORY = "too much memory is taken by incomplete association requests"
"""Reasons to drop a connection without an association."""
_SITE = 64
"""Bits of an IPv6 address that identify a site; a host may use any number of addresses in it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The address and the title that an association is counted for.

    Attributes
    ----------
    address : str
        The peer's address, for IPv6 the network of its site; empty if there is none.
    title : str
        The calling AE title.
    """

    address: str
    title: str

    @staticmethod
    @lru_cache(1024)  # bounded, because peers choose the keys
    def of(host: str, title: str) -> Peer:
        """Return the peer for a numeric address and a calling AE title."""
        return Peer(_site(host), title)


def _site(host: str) -> str:
    from ipaddress import IPv6Address, IPv6Network, ip_address  # for servers, and once for a host

    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local or address.is_loopback:
        return host  # these addresses all have the same first 64 bits
    return str(IPv6Network((int(address), _SITE), strict=False))


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """The limits of associations: in all, for one address, and for one calling title."""

    total: int
    per_address: int
    per_title: int

    @classmethod
    def of(cls, settings: Settings) -> AssociationLimits:
        """Return the ceilings of `settings`.

        An address or a title without a limit of its own may have three quarters of all slots,
        rounded up. That many, since a site behind a gateway has one address, and its stations may
        share a title; not all, so that one peer cannot keep all others out.
        """
        total = settings.maximum_associations
        share = -(-3 * total // 4)
        address, title = settings.associations_per_address, settings.associations_per_title
        return cls(total, share if address is None else address, share if title is None else title)

    def objection(self, peer: Peer, total: int, from_address: int, by_title: int) -> str | None:
        """Return why `peer` may have no more associations, given the counts; None if it may."""
        if total >= self.total:
            return f"there are {total} associations, of {self.total} in all"
        if peer.address and from_address >= self.per_address:
            return f"{peer.address} has {from_address} of the {self.per_address} for one address"
        if by_title >= self.per_title:
            title = escaped(peer.title)
            return f"'{title}' has {by_title} of the {self.per_title} for one AE title"
        return None


class LocalCounts:
    """Counts the accepted associations of one process. Its caller holds a lock (`Entity._lock`).

    Parameters
    ----------
    settings : callable
        Returns the current settings, which have the limits.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._known: Settings | None = None  # those of `_limits`, which are computed once for them
        self._peers: dict[object, Peer] = {}
        self._addresses: dict[str, int] = {}
        self._titles: dict[str, int] = {}

    def admit(self, association: object, peer: Peer) -> str | None:
        """Count `association` and return None, or return why its peer may have no more."""
        from_address = self._addresses.get(peer.address, 0)
        by_title = self._titles.get(peer.title, 0)
        settings = self._settings()
        if settings is not self._known:
            self._known, self._limits = settings, AssociationLimits.of(settings)
        objection = self._limits.objection(peer, len(self._peers), from_address, by_title)
        if objection is None:
            self._peers[association] = peer
            self._addresses[peer.address] = from_address + 1
            self._titles[peer.title] = by_title + 1
        return objection

    def dismiss(self, association: object) -> None:
        """Stop counting `association`, if it was counted."""
        peer = self._peers.pop(association, None)
        if peer is not None:
            _take_one(self._addresses, peer.address)
            _take_one(self._titles, peer.title)


def _take_one(counter: dict[str, int], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]  # so that the memory does not grow with the number of past peers


class FairQueue(Generic[T]):
    """A queue in which the addresses take turns, so that no address delays all others.

    Its caller holds a lock.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}  # by address, the next first; no queue is empty

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def is_crowded(self, address: str) -> bool:
        """Return whether `WAITING_PER_ADDRESS` items of an address wait."""
        return len(self._queues.get(address, ())) >= WAITING_PER_ADDRESS

    def put(self, address: str, item: T) -> None:
        """Append `item` to the queue of its address."""
        self._queues.setdefault(address, deque()).append(item)

    def take(self) -> T | None:
        """Remove and return the next item; None if none waits."""
        address = next(iter(self._queues), None)
        if address is None:
            return None
        queue = self._queues.pop(address)
        item = queue.popleft()
        if queue:
            self._queues[address] = queue  # at the end: the other addresses are next
        return item


class NewConnection(Protocol):
    """A connection without an association.

    Attributes
    ----------
    host : str
        The address of the peer.
    received : bytearray
        The bytes of its association request so far.
    """

    host: str
    received: bytearray

    def drop(self, reason: str) -> None:
        """Close the connection without an A-ABORT (AA-2), and log the reason."""


class NewConnections(Generic[C]):
    """The connections of a server that have no association yet, the oldest first.

    Its caller holds a lock, and drops the connections that make room for others.
    """

    def __init__(self) -> None:
        self._all: OrderedDict[C, None] = OrderedDict()
        self._of_address: dict[str, OrderedDict[C, None]] = {}  # none of them is empty
        self._bytes = 0  # of all incomplete requests

    def __iter__(self) -> Iterator[C]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: C) -> None:
        """Add a connection."""
        self._all[connection] = None
        self._of_address.setdefault(connection.host, OrderedDict())[connection] = None

    def remove(self, connection: C) -> bool:
        """Remove a connection; false if it was removed before."""
        if connection not in self._all:
            return False
        del self._all[connection]
        own = self._of_address[connection.host]
        del own[connection]
        if not own:
            del self._of_address[connection.host]
        self._bytes -= len(connection.received)
        return True

    def oldest(self) -> C | None:
        """Return the oldest connection; None if there is none."""
        return next(iter(self._all), None)

    def in_the_way(self, host: str, most: int) -> C | None:
        """Return the oldest connection of an address, if it has `most` of them."""
        own = self._of_address.get(host, OrderedDict())
        return next(iter(own)) if len(own) >= most else None

    def count(self, size: int) -> C | None:
        """Count `size` more bytes of incomplete requests.

        Above the limit, return the connection with the longest request.
        """
        self._bytes += size
        if self._bytes <= PENDING_BYTES:
            return None
        return max(self._all, key=lambda connection: len(connection.received))
