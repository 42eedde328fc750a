"""Peers and handlers that end an association at every moment there is."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostile import (
    ACCEPT,
    COMMAND,
    HOST,
    LAST,
    QUICK,
    RELEASE_RQ,
    Attacker,
    HostileSCP,
    Log,
    besieged,
    command_set,
    ct_image,
    data_pdu,
    eventually,
    pdu,
    pdv,
    requestor,
    store,
    store_command,
    unharmed_client,
    us,
)

from dicomwire import AE, evt
from dicomwire.sop_class import CTImageStorage, Verification

pytestmark = pytest.mark.usefixtures("face")

DATASET_SIZE = 3000
STORE = store(dataset=bytes(DATASET_SIZE))
COMMAND_END = len(data_pdu(pdv(3, COMMAND | LAST, store_command())))

MOMENTS = {
    "before the message": 0,
    "in the PDU header": 3,
    "after the PDU header": 6,
    "in the command": 50,
    "before the last byte of the command": COMMAND_END - 1,
    "after the command": COMMAND_END,
    "after the header of the data": COMMAND_END + 12,
    "after a byte of data": COMMAND_END + 13,
    "in the data": COMMAND_END + 12 + DATASET_SIZE // 2,
    "before the last byte": len(STORE) - 1,
    "after the message": len(STORE),
}


@pytest.fixture
def unharmed() -> Iterator[Log]:
    with unharmed_client() as log:
        yield log


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files are made; none is left of them."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


WAYS = ("close", "reset", "abort", "release")
WITH_DATA = ("after a byte of data", "in the data", "before the last byte", "after the message")
"""The moments at which there is data to be kept; how it ends does not matter to what keeps it."""


@pytest.mark.parametrize(
    ("kept", "how", "cut"),
    [
        pytest.param(kept, how, MOMENTS[moment], id=f"{kept}-{how}-{moment}")
        for kept, ways, moments in (
            ("in memory", WAYS, MOMENTS),
            ("spooled", ("close", "abort"), WITH_DATA),
            ("filed", ("close", "abort"), WITH_DATA),
        )
        for how in ways
        for moment in moments
    ],
)
def test_a_requestor_that_vanishes_in_the_middle_of_a_store(
    tmp_path: Path, spool: Path, kept: str, how: str, cut: int
) -> None:
    folder = tmp_path / "received"
    folder.mkdir()
    settings = replace(QUICK, spool_threshold=100 if kept == "spooled" else 1 << 20)
    arguments = {"receive_to": folder} if kept == "filed" else {}
    lines = 0 if how == "release" and cut in (0, len(STORE)) else 1
    if how in ("abort", "release") and cut == COMMAND_END - 1:
        lines += 1  # the first byte of what follows spoils the UID, and the request is refused
    with (
        besieged(settings=settings, **arguments) as victim,
        victim.attacked(lines=lines),
        victim.attacker() as attacker,
    ):
        attacker.associate().send(STORE[:cut])
        if how == "reset":
            attacker.reset()
        elif how == "close":
            attacker.socket.close()
        elif how == "abort":
            if cut in (0, COMMAND_END, len(STORE)):
                attacker.send(pdu(7, bytes(4))).rest()
            else:  # that is taken for the rest of the message, and it is not enough
                attacker.send(pdu(7, bytes(4))).socket.close()
        elif cut in (0, COMMAND_END, len(STORE)):
            attacker.send(RELEASE_RQ).rest()
        else:
            attacker.send(RELEASE_RQ).socket.close()
    complete = cut >= len(STORE) - (how in ("abort", "release"))  # or made so by what follows
    assert len(list(folder.iterdir())) <= (complete and kept == "filed")


def test_requestors_that_vanish_while_their_object_is_handled(spool: Path) -> None:
    """The handler may go on as long as it likes; it can see that nobody waits for it."""
    gone = []
    reached = threading.Event()
    go_on = threading.Event()

    def on_store(event: evt.Event) -> int:
        reached.set()
        go_on.wait(10)
        gone.append(eventually(lambda: event.peer_gone))
        return 0x0000

    with besieged([(evt.EVT_C_STORE, on_store)]) as victim:
        for how in ("close", "reset", "abort"):
            reached.clear()
            go_on.clear()
            with victim.attacked(), victim.attacker() as attacker:
                attacker.associate().send(STORE)
                assert reached.wait(10)
                if how == "reset":
                    attacker.reset()
                elif how == "close":
                    attacker.socket.close()
                else:
                    attacker.send(pdu(7, bytes(4)))
                go_on.set()
        assert eventually(lambda: gone == [True, True, True]), gone


# --- The other way round ------------------------------------------------------------------------

RESPONSE = data_pdu(
    pdv(
        3,
        COMMAND | LAST,
        command_set(us(0x0100, 0x8001), us(0x0120, 1), us(0x0800, 0x0101), us(0x0900, 0x0000)),
    )
)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("cut", [0, 1, 6, 12, 100, 150, 1000, 10**6, 10 * 10**6])
def test_an_acceptor_that_vanishes_in_the_middle_of_a_store(how: str, cut: int) -> None:
    """An empty status, and the association says why; however much is still to be sent."""

    def vanish(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT)
        left = cut
        while left:
            left -= len(peer.receive(min(left, 1 << 20)))
        if how == "reset":
            peer.reset()

    size = 16 * 10**6 if cut > 1000 else DATASET_SIZE
    with unharmed_client(peak=4 * size + (8 << 20)), HostileSCP(vanish) as scp:
        assoc = requestor(scp.port)
        with contextlib.suppress(RuntimeError):  # where the end has been noticed before
            assert not assoc.send_c_store(ct_image(size))
    assert assoc.is_aborted
    assert assoc.failure is not None


@pytest.mark.parametrize("cut", range(0, len(RESPONSE), 7))
def test_an_acceptor_that_vanishes_in_the_middle_of_its_response(unharmed: Log, cut: int) -> None:
    def vanish(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT)
        peer.receive_pdu()
        peer.receive_pdu()
        peer.send(RESPONSE[:cut])

    with HostileSCP(vanish) as scp:
        assoc = requestor(scp.port)
        assert not assoc.send_c_store(ct_image())
    assert assoc.is_aborted
    assert assoc.failure is not None


@pytest.mark.parametrize("cut", [0, 1, 6, 74, len(ACCEPT) - 1])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_acceptor_that_vanishes_in_its_answer(unharmed: Log, how: str, cut: int) -> None:
    def vanish(peer: Attacker) -> None:
        peer.receive_pdu()
        peer.send(ACCEPT[:cut])
        if how == "reset":
            peer.reset()

    with HostileSCP(vanish) as scp:
        assoc = requestor(scp.port)
    assert assoc.is_aborted
    assert assoc.failure is not None


# --- Handlers that abort, under load ------------------------------------------------------------

EVENTS = [
    each
    for name, each in vars(evt).items()
    if name.startswith("EVT_") and not name.startswith(("EVT_N_", "EVT_C_FIND", "EVT_C_MOVE"))
    if name != "EVT_C_GET"
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_handler_that_aborts_under_load(event: evt.EventType) -> None:
    """Now and then a handler aborts: whoever it hits, the others are served, and nothing stays."""
    image = ct_image(20_000)
    lock = threading.Lock()
    calls = itertools.count()
    armed = threading.Event()

    def handle(what: evt.Event) -> object:
        with lock:
            hit = armed.is_set() and next(calls) % 3 == 2
        if hit:
            what.assoc.abort()
        if event.is_notification:
            return None
        return (True, None) if event is evt.EVT_USER_ID else (0 if "C_" in event.name else {})

    def client() -> None:
        ae = AE(settings=QUICK)
        ae.add_requested_context(Verification)
        ae.add_requested_context(CTImageStorage)
        for _ in range(2):
            with ae.associate(HOST, victim.port) as assoc:
                if assoc.is_established:
                    assoc.send_c_echo()
                if assoc.is_established:
                    assoc.send_c_store(image)

    bindings = [(event, handle)]
    if event is not evt.EVT_C_STORE:
        bindings.append((evt.EVT_C_STORE, lambda _: 0x0000))
    with (
        besieged(bindings, settings=replace(QUICK, maximum_associations=8)) as victim,
        victim.attacked(lines=None, peak=32 << 20),
    ):
        armed.set()
        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        armed.clear()  # good clients are spared
