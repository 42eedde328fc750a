"""All eleven DIMSE services between us and pynetdicom, both ways: the same comes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import dimse_services
import pytest
from dimse_services import Client, services_of
from peers import HERE, Conversation, Peers

import dicomwire
from dicomwire import AE, build_context

SCRIPT = HERE / "dimse_services.py"

MATCH = {"SpecificCharacterSet": "ISO_IR 192", "PatientID": "ID-7", "QueryRetrieveLevel": "STUDY"}
RETRIEVED = [
    [
        [["FF00", [2, 1, 0, 0]], None],
        [["FF00", [1, 1, 1, 0]], None],
        [["FF00", [0, 2, 1, 0]], None],
        [["B000", [2, 1, 0]], {"FailedSOPInstanceUIDList": "1.2.7.2"}],
    ],
    ["1.2.7.1 32768 intact", "1.2.7.2 32768 intact", "1.2.7.3 32768 intact"],
]
FILM_SESSION = [["0000", None], {"NumberOfCopies": 2, "FilmDestination": "PROCESSOR"}]

EXPECTED = {
    "c_echo": [[["0000", None], ["0000", None]], True],
    "c_store": ["B006", "1.2.3.4 32768 intact"],
    "c_find": [
        [["FF00", None], MATCH | {"PatientName": "Müller^Jürgen"}],
        [["FF00", None], MATCH | {"PatientName": "Müller^Jutta"}],
        [["0000", None], None],
    ],
    "c_cancel": [["FE00", None], True],
    "c_get": RETRIEVED,
    "c_move": RETRIEVED,
    "n_get": [["0000", None], {"PerformedProcedureStepDescription": "00400252 00400253"}],
    "n_set": [["0000", None], {"PerformedProcedureStepStatus": "DISCONTINUED"}],
    "n_create": [FILM_SESSION, FILM_SESSION],
    "n_delete": [["0000", None], ["0112", None]],
    "n_event_report": [["0000", None], {"NumberOfFrames": 2, "TransactionUID": "1.2.8"}],
    "n_action": [["0000", None], {"NumberOfFrames": 7, "TransactionUID": "1.2.9"}],
    "report_to_the_requestor": [
        ["0000", None],
        {},
        [
            [
                1,
                {
                    "TransactionUID": "1.2.10",
                    "ReferencedSOPSequence": [
                        {
                            "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                            "ReferencedSOPInstanceUID": "1.2.3.4",
                        }
                    ],
                },
            ]
        ],
    ],
    "extended_negotiation": {
        "user": "welcome",
        "extended": {"1.2.840.10008.5.1.4.1.2.1.1": [3, 2, 1]},
        "roles": [
            ["1.2.840.10008.5.1.4.1.2.1.1", True, False],
            ["1.2.840.10008.5.1.4.1.1.2", True, True],
            ["1.2.840.10008.5.1.4.1.1.4", True, False],
        ],
    },
}

Use = Callable[[str], Any]


def test_every_service_is_used() -> None:
    assert EXPECTED.keys() == {each for each in vars(Client) if not each.startswith("_")}


@pytest.fixture(scope="module")
def peer_server(peers: Peers) -> Iterator[int]:
    with Conversation(peers.pynetdicom(), SCRIPT, "serve") as server:
        yield server.greeting


@pytest.fixture(scope="module")
def peer_client(peers: Peers) -> Iterator[Use]:
    """Give what uses a service of ours from the peer's process."""
    with ExitStack() as stack:
        python = peers.pynetdicom()
        ae, port = dimse_services.serve(dicomwire)
        stack.callback(ae.shutdown)
        yield stack.enter_context(Conversation(python, SCRIPT, port)).ask


@pytest.mark.usefixtures("our_face")
@pytest.mark.parametrize("service", EXPECTED)
def test_we_use_pynetdicom(peer_server: int, service: str) -> None:
    client = services_of("dicomwire", peer_server)
    assert json.loads(json.dumps(getattr(client, service)())) == EXPECTED[service]


@pytest.mark.parametrize("service", EXPECTED)
def test_pynetdicom_uses_us(peer_client: Use, service: str) -> None:
    assert peer_client(service) == EXPECTED[service]


def test_we_learn_the_uid_that_pynetdicom_chose(peer_server: int) -> None:
    contexts = [build_context(dimse_services.GRAYSCALE_PRINT, dimse_services.SYNTAX)]
    attributes = dimse_services.dataset(NumberOfCopies="1")
    with AE().associate("127.0.0.1", peer_server, contexts) as assoc:
        status, created = assoc.send_n_create(
            attributes, dimse_services.FILM_SESSION, meta_uid=dimse_services.GRAYSCALE_PRINT
        )
    assert status.Status == 0x0000
    assert status.AffectedSOPInstanceUID == f"{dimse_services.INSTANCE}.5"
    assert created == attributes
