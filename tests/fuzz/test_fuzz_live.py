"""Damaged conversations with a server and a requestor that are really running.

The seeds are fixed, so that what fails can be run again. DICOMWIRE_FUZZ_SEEDS=500 tries more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomwire import LocalProtocolError, evt

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from hostile import (
    ACCEPT,
    ASSOCIATE_RQ,
    COMMAND,
    DATASET,
    ECHO,
    LAST,
    QUICK,
    RELEASE_RQ,
    Attacker,
    HostileSCP,
    besieged,
    command_set,
    ct_image,
    data_pdu,
    pdu,
    pdv,
    requestor,
    store,
    store_command,
    unharmed_client,
    us,
)

SEEDS = range(int(os.environ.get("DICOMWIRE_FUZZ_SEEDS", "2")))
LEVELS = (logging.INFO, logging.DEBUG)
"""Of the log, for one half of the seeds each: all that is observed takes other ways."""
CONVERSATIONS = 120

NESTED = b"\x08\0\x15\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" + DATASET
NESTED += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
IN_PIECES = data_pdu(
    pdv(3, COMMAND, store_command()[:20]), pdv(3, COMMAND | LAST, store_command()[20:])
)
IN_PIECES += data_pdu(pdv(3, 0, NESTED[:10]), pdv(3, 0, b""), pdv(3, LAST, NESTED[10:]))
REQUESTS = [
    ASSOCIATE_RQ,
    ECHO,
    store(),
    store(dataset=NESTED),
    IN_PIECES,
    RELEASE_RQ,
    pdu(7, bytes(4)),
]

RESPONSES = [
    data_pdu(
        pdv(
            context_id,
            COMMAND | LAST,
            command_set(us(0x0100, command), us(0x0120, 1), us(0x0800, 0x0101), us(0x0900, 0)),
        )
    )
    for context_id, command in ((1, 0x8030), (3, 0x8001))
]
ANSWERS = [ACCEPT, *RESPONSES, ECHO, store(), RELEASE_RQ, pdu(6, bytes(4)), pdu(7, bytes(4))]
NUMBERS = (0, 1, 2, 5, 6, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31, 2**32 - 1)


def damaged(chance: random.Random, pieces: list[bytes]) -> list[bytes]:
    """Return `pieces` with a few of them changed, lost, repeated or out of order."""
    conversation = list(pieces)
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        which = chance.randrange(len(conversation))
        kind = chance.randrange(4)
        if kind == 0 and len(conversation) > 1:
            del conversation[which]
        elif kind == 1:
            conversation.insert(which, chance.choice(pieces))
        elif kind == 2:
            chance.shuffle(conversation)
        else:
            conversation.insert(which, chance.randbytes(chance.choice((1, 6, 100, 5000))))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
        which = chance.randrange(len(conversation))
        conversation[which] = mutated(chance, conversation[which])
    return conversation


def mutated(chance: random.Random, piece: bytes) -> bytes:
    """Return `piece` with some of its bytes changed."""
    data = bytearray(piece)
    at = chance.randrange(len(data) + 1)
    kind = chance.randrange(6)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        del data[at : at + chance.randrange(20)]
    elif kind == 3:
        data[at:at] = chance.randbytes(chance.randrange(20))
    elif kind == 4:  # numbers of all sizes and orders that may be lengths
        layout = chance.choice(("B", "<H", ">H", "<I", ">I"))
        size = struct.calcsize(layout)
        number = chance.choice(NUMBERS) & (256**size - 1)
        data[at : at + size] = struct.pack(layout, number)
    else:
        data[2:6] = struct.pack(">I", chance.choice(NUMBERS))
    return bytes(data)


def in_segments(chance: random.Random, data: bytes) -> Iterator[bytes]:
    """Cut `data` up at random, or not at all."""
    if chance.random() < 0.5:
        yield data
        return
    while data:
        size = chance.choice((1, 5, 6, 7, 50, 1000))
        yield data[:size]
        data = data[size:]


def check_pdus(data: bytes) -> None:
    """What the library sends are whole PDUs of known types, whatever it was sent."""
    while data:
        assert data[0] in range(1, 8), data[:20]
        size = 6 + int.from_bytes(data[2:6], "big")
        assert len(data) >= size, data[:20]
        data = data[size:]


def read_all(event: evt.Event) -> int:
    """A handler that looks at all of the dataset that can be read."""

    def visit(dataset: Dataset) -> None:
        for each in dataset:
            if each.VR == "SQ":
                for inner in each.value:
                    visit(inner)

    dataset = event.dataset
    with contextlib.suppress(Exception):  # of values that are none, which is pydicom's business
        visit(dataset)
    return 0x0000


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_survives_damaged_conversations(seed: int) -> None:
    """Each ends, in good time and in PDUs; the next client is served."""
    chance, level = random.Random(seed), LEVELS[seed % 2]
    handlers = [(evt.EVT_C_STORE, read_all)]
    with (
        besieged(handlers, settings=replace(QUICK, close_timeout=0.2), level=level) as victim,
        victim.attacked(lines=None, peak=40 << 20),
    ):
        for _ in range(CONVERSATIONS):
            conversation = b"".join(damaged(chance, REQUESTS))
            with victim.attacker() as attacker:
                attacker.send(*in_segments(chance, conversation))
                end = chance.random()
                if end < 0.2:
                    attacker.reset()
                    continue
                with contextlib.suppress(OSError):
                    attacker.socket.shutdown(socket.SHUT_WR)
                answer = attacker.rest()
                # A reset by bytes that came too late may cut off what was sent before.
                with contextlib.suppress(AssertionError if attacker.was_reset else ()):
                    check_pdus(answer)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_requestor_survives_damaged_conversations(seed: int) -> None:
    """Each call returns in good time, and what it returns says whether all was well."""
    chance, level = random.Random(1_000_000 + seed), LEVELS[seed % 2]
    image = ct_image(20_000)

    def answer(peer: Attacker) -> None:
        conversation = damaged(chance, ANSWERS[:3]) + chance.sample(ANSWERS, 2)
        for piece in conversation:
            if chance.random() < 0.8:
                peer.socket.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    peer.receive_pdu()
            peer.socket.settimeout(10)
            peer.send(*in_segments(chance, piece))
        if chance.random() < 0.3:
            peer.reset()

    settings = replace(QUICK, acse_timeout=0.2, dimse_timeout=0.2, close_timeout=0.2)
    with unharmed_client(peak=20 << 20, level=level):
        for _ in range(CONVERSATIONS // 8):
            with HostileSCP(answer) as scp:
                assoc = requestor(scp.port, settings)
                # The context that it takes was not accepted, or it is over since it was looked at.
                with contextlib.suppress(ValueError, LocalProtocolError):
                    if assoc.is_established:
                        assoc.send_c_echo()
                    if assoc.is_established:
                        assoc.send_c_store(image)
                assoc.release()
                assoc.abort()
                assert not assoc.is_established
                assert assoc.is_released or assoc.failure is not None
