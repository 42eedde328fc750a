"""Who is known to a node, and what those may do who are not."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from dicomwire.errors import TLSConfigurationError
from dicomwire.node.access import Guard, server_tls
from dicomwire.node.configuration import TLS, Access, Configuration, Destination, Right


def guard(**rules: Any) -> Guard:
    if "networks" in rules:
        rules["networks"] = tuple(map(ip_network, rules["networks"]))
    return Guard(Configuration(access=Access(**rules)))


def peer(title: str, address: str) -> Any:
    """Return an association with somebody."""
    info = SimpleNamespace(address=address) if address else None
    return SimpleNamespace(requestor=SimpleNamespace(ae_title=title, address_info=info))


def rights(guard: Guard, title: str, address: str) -> set[Right]:
    return {right for right in Right if guard.may(peer(title, address), right)}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_known_unless_said_otherwise(address: str) -> None:
    assert rights(guard(), "ANYBODY", address) == set(Right)


@pytest.mark.parametrize("address", ["10.0.0.1", "fe80::1%eth0", "", "nonsense"])
def test_others_may_store_and_not_look(address: str) -> None:
    assert rights(guard(), "ANYBODY", address) == {Right.ECHO, Right.STORE}


def test_a_known_peer_has_title_and_network() -> None:
    strict = guard(titles=("WS1",), networks=["10.1.0.0/16"], strangers=())
    assert rights(strict, "WS1", "10.1.2.3") == set(Right)
    assert rights(strict, " WS1 ", "10.1.2.3") == set(Right)
    assert rights(strict, "WS1", "10.2.2.3") == set()
    assert rights(strict, "WS2", "10.1.2.3") == set()
    assert rights(strict, "ws1", "10.1.2.3") == set()


def test_no_list_means_any() -> None:
    assert rights(guard(networks=[]), "ANYBODY", "192.0.2.1") == set(Right)


def test_titles_are_looked_at_on_association_only_where_strangers_may_nothing() -> None:
    assert guard(titles=("WS1",)).titles == []
    assert guard(titles=("WS1",)).admits_strangers
    assert guard(titles=("WS1",), strangers=()).titles == ["WS1"]
    assert not guard(titles=("WS1",), strangers=()).admits_strangers


def test_a_refusal_is_logged_and_cannot_steer_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dicomwire.node"):
        assert not guard().may(peer("WS\x1b[2J", "10.0.0.1"), Right.QUERY)
    assert caplog.messages == ["'WS\\x1b[2J' at 10.0.0.1 is not allowed to query"]


def test_destinations_are_those_of_the_configuration() -> None:
    known = Guard(Configuration(destinations={"WS1": Destination("ws1", 104)}))
    assert known.destination("WS1") == known.destination(" WS1 ") == Destination("ws1", 104)
    assert known.destination("WS2") is known.destination(None) is known.destination("") is None


# --- TLS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tls", [TLS(key="a"), TLS(key_password_file="a"), TLS(ca="a")], ids=["key", "password", "ca"]
)
def test_what_is_meant_to_be_tls_does_not_listen_without(tls: TLS) -> None:
    with pytest.raises(TLSConfigurationError, match="has no cert"):
        server_tls(Configuration(tls=tls))


def test_authorities_alone_are_for_destinations() -> None:
    places = {"WS1": Destination("ws1", 2762, tls=True)}
    assert server_tls(Configuration(tls=TLS(ca="a"), destinations=places)) is None
    assert server_tls(Configuration()) is None
