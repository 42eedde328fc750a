"""An SCP and an SCU of all eleven DIMSE services, in the API that we share with pynetdicom.

The tests give it our package to run on; run as a program, by the Python of the peer, it takes
pynetdicom. What the SCP answers is made of what it was asked, so that the SCU's results, which
come as JSON, tell of both ways.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.1.1"
MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
GET = "1.2.840.10008.5.1.4.1.2.1.3"
PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
COMMITMENT = "1.2.840.10008.1.20.1"
FILM_SESSION = "1.2.840.10008.5.1.1.1"
GRAYSCALE_PRINT = "1.2.840.10008.5.1.1.9"

SYNTAX = ExplicitVRLittleEndian
INSTANCE = "1.2.3.4"
PIXELS = bytes(range(256)) * 256  # more than fits into one PDU
DEADLINE = 20.0
USER = b"J\xc3\xbcrgen"


def image(sop_class: str, instance: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = instance
    ds.PatientName = "Müller^Jürgen"
    ds.PatientID = "ID-1"
    ds.Rows = ds.Columns = 128
    ds.BitsAllocated = 16
    ds.add_new("PixelData", "OW", PIXELS[: 2 * 128 * 128])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = SYNTAX
    return ds


def dataset(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def plain(ds: Dataset | None) -> Any:
    """Return a dataset as something that JSON has, by keyword."""
    if ds is None:
        return None
    return {each.keyword: _plain(each.value) for each in ds}


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value if isinstance(value, int) else str(value)


def told(status: Dataset) -> Any:
    """Return what a response says of the outcome: with an error comment, or in four counts.

    pynetdicom also says how many sub-operations remain when all is over, and has more of the
    command set in the statuses of some services.
    """
    counts = [
        status.get(f"NumberOf{each}Suboperations")
        for each in ("Remaining", "Completed", "Failed", "Warning")
    ]
    if counts[1] is not None:
        return f"{status.Status:04X}", counts if status.Status == 0xFF00 else counts[1:]
    return f"{status.Status:04X}", status.get("ErrorComment")


# --- The SCP ----------------------------------------------------------------------------------


def echo(event: Any) -> int:
    return 0x0000


def store(event: Any) -> Dataset:
    ds = event.dataset
    intact = ds.PixelData == PIXELS[: len(ds.PixelData)]
    comment = f"{ds.SOPInstanceUID} {len(ds.PixelData)} {'intact' if intact else 'damaged'}"
    return dataset(Status=0xB006, ErrorComment=comment)


def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    for name in ("Müller^Jürgen", "Müller^Jutta"):
        match = dataset(SpecificCharacterSet="ISO_IR 192", PatientName=name)
        match.PatientID = event.identifier.PatientID
        match.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
        yield 0xFF00, match


def endless(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    while not event.is_cancelled:
        yield 0xFF00, dataset(PatientID=event.identifier.PatientID)
    yield 0xFE00, None


def find_or_more(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    return endless(event) if event.identifier.PatientID == "*" else find(event)


def get(event: Any) -> Iterator[Any]:
    yield 3
    for sop_class, last in ((CTImageStorage, 1), (MRImageStorage, 2), (CTImageStorage, 3)):
        yield 0xFF00, image(sop_class, f"{event.identifier.StudyInstanceUID}.{last}")


def move(event: Any, network: Any) -> Iterator[Any]:
    """Send to the port that is the destination's title."""
    contexts = [network.build_context(uid, SYNTAX) for uid in (CTImageStorage, MRImageStorage)]
    yield "127.0.0.1", int(event.move_destination), {"contexts": contexts}
    yield from get(event)


def n_get(event: Any) -> tuple[int, Dataset]:
    asked = " ".join(f"{tag:08X}" for tag in event.attribute_identifiers)
    return 0x0000, dataset(PerformedProcedureStepDescription=asked)


def n_set(event: Any) -> tuple[int, Dataset]:
    return 0x0000, event.modification_list


def n_create(event: Any) -> tuple[int, Dataset]:
    created = event.attribute_list
    if event.request.AffectedSOPInstanceUID is None:
        created.AffectedSOPInstanceUID = f"{INSTANCE}.5"
    return 0x0000, created


def n_delete(event: Any) -> int:
    return 0x0000 if event.request.RequestedSOPInstanceUID == INSTANCE else 0x0112


def n_event_report(event: Any) -> tuple[int, Dataset]:
    return 0x0000, dataset(
        TransactionUID=event.event_information.TransactionUID, NumberOfFrames=event.event_type
    )


def n_action(event: Any) -> tuple[int, Dataset | None]:
    """Answer with what was asked; an action of type 1 is reported on afterwards."""
    information = event.action_information
    if event.action_type == 1:
        report = (information, 1, COMMITMENT, f"{COMMITMENT}.1")
        threading.Thread(target=event.assoc.send_n_event_report, args=report).start()
        return 0x0000, None
    return 0x0000, dataset(
        TransactionUID=information.TransactionUID, NumberOfFrames=event.action_type
    )


def identify(event: Any) -> tuple[bool, bytes | None]:
    return event.primary_field == USER and not event.secondary_field, b"welcome"


def extend(event: Any) -> dict[Any, bytes]:
    return {uid: value[::-1] for uid, value in event.app_info.items()}


def serve(network: Any) -> tuple[Any, int]:
    """Return the AE that serves, and the port that it serves on."""
    evt = network.evt
    ae = network.AE("SERVICES")
    for uid in (VERIFICATION, FIND, GET, MOVE, PROCEDURE_STEP, COMMITMENT, GRAYSCALE_PRINT):
        ae.add_supported_context(uid, SYNTAX)
    for uid in (CTImageStorage, MRImageStorage):
        ae.add_supported_context(uid, SYNTAX, scu_role=True, scp_role=True)
    handlers = [
        (evt.EVT_C_ECHO, echo),
        (evt.EVT_C_STORE, store),
        (evt.EVT_C_FIND, find_or_more),
        (evt.EVT_C_GET, get),
        (evt.EVT_C_MOVE, move, [network]),
        (evt.EVT_N_GET, n_get),
        (evt.EVT_N_SET, n_set),
        (evt.EVT_N_CREATE, n_create),
        (evt.EVT_N_DELETE, n_delete),
        (evt.EVT_N_EVENT_REPORT, n_event_report),
        (evt.EVT_N_ACTION, n_action),
        (evt.EVT_USER_ID, identify),
        (evt.EVT_SOP_EXTENDED, extend),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    return ae, server.server_address[1]


# --- The SCU ----------------------------------------------------------------------------------


class Client:
    """Uses the services of a server; each method is a service, and returns what came of it."""

    def __init__(self, network: Any, items: Any, port: int) -> None:
        self._network = network
        self._items = items
        self._port = port
        self._ae = network.AE("CLIENT")

    def _associate(self, *uids: str, **options: Any) -> Any:
        contexts = [self._network.build_context(uid, SYNTAX) for uid in uids]
        association = self._ae.associate("127.0.0.1", self._port, contexts, **options)
        assert association.is_established
        return association

    def c_echo(self) -> Any:
        association = self._associate(VERIFICATION)
        statuses = [told(association.send_c_echo(number)) for number in (1, 65535)]
        association.release()
        return statuses, association.is_released

    def c_store(self) -> Any:
        association = self._associate(CTImageStorage)
        status = association.send_c_store(image(CTImageStorage, INSTANCE))
        association.release()
        return told(status)

    def _query(self, call: str, *arguments: Any, **options: Any) -> Any:
        uids = [FIND, GET, MOVE, CTImageStorage, MRImageStorage]
        association = self._associate(*uids, **options)
        query = dataset(QueryRetrieveLevel="STUDY", PatientID="ID-7", StudyInstanceUID="1.2.7")
        responses = getattr(association, call)(query, *arguments)
        results = [(told(status), plain(identifier)) for status, identifier in responses]
        association.release()
        return results

    def c_find(self) -> Any:
        return self._query("send_c_find", FIND)

    def _collector(self) -> tuple[list[str], Callable[[Any], int]]:
        received: list[str] = []

        def keep(event: Any) -> int:
            status = store(event)
            received.append(status.ErrorComment)
            sop_class = event.dataset.SOPClassUID
            return 0xA700 if sop_class == MRImageStorage else 0x0000

        return received, keep

    def c_get(self) -> Any:
        build_role = self._network.build_role
        roles = [build_role(uid, scp_role=True) for uid in (CTImageStorage, MRImageStorage)]
        received, keep = self._collector()
        handlers = [(self._network.evt.EVT_C_STORE, keep)]
        return self._query("send_c_get", GET, ext_neg=roles, evt_handlers=handlers), received

    def c_move(self) -> Any:
        received, keep = self._collector()
        ae = self._network.AE("DESTINATION")
        for uid in (CTImageStorage, MRImageStorage):
            ae.add_supported_context(uid, SYNTAX)
        handlers = [(self._network.evt.EVT_C_STORE, keep)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        title = str(server.server_address[1])
        results = self._query("send_c_move", title, MOVE)
        server.shutdown()
        return results, received

    def c_cancel(self) -> Any:
        association = self._associate(FIND)
        query = dataset(QueryRetrieveLevel="PATIENT", PatientID="*")
        statuses = []
        for status, _ in association.send_c_find(query, FIND, msg_id=3):
            statuses.append(status)
            if len(statuses) == 5:
                association.send_c_cancel(3, query_model=FIND)
        association.release()
        return told(statuses[-1]), len(statuses) > 5

    def _normalized(self, abstract: str, call: str, *arguments: Any, **options: Any) -> Any:
        association = self._associate(abstract)
        result = getattr(association, call)(*arguments, **options)
        association.release()
        if isinstance(result, Dataset):
            return told(result)
        status, reply = result
        return told(status), plain(reply)

    def n_get(self) -> Any:
        tags = [0x00400252, 0x00400253]
        return self._normalized(PROCEDURE_STEP, "send_n_get", tags, PROCEDURE_STEP, INSTANCE)

    def n_set(self) -> Any:
        changes = dataset(PerformedProcedureStepStatus="DISCONTINUED")
        return self._normalized(PROCEDURE_STEP, "send_n_set", changes, PROCEDURE_STEP, INSTANCE)

    def n_create(self) -> Any:
        attributes = dataset(NumberOfCopies="2", FilmDestination="PROCESSOR")
        arguments = (GRAYSCALE_PRINT, "send_n_create", attributes, FILM_SESSION)
        return [
            self._normalized(*arguments, INSTANCE, meta_uid=GRAYSCALE_PRINT),
            self._normalized(*arguments, meta_uid=GRAYSCALE_PRINT),
        ]

    def n_delete(self) -> Any:
        arguments = (GRAYSCALE_PRINT, "send_n_delete", FILM_SESSION)
        return [
            self._normalized(*arguments, uid, meta_uid=GRAYSCALE_PRINT)
            for uid in (INSTANCE, "1.2.3.5")
        ]

    def n_event_report(self) -> Any:
        report = dataset(TransactionUID="1.2.8")
        known_as = (COMMITMENT, f"{COMMITMENT}.1")
        return self._normalized(COMMITMENT, "send_n_event_report", report, 2, *known_as)

    def n_action(self) -> Any:
        request = dataset(TransactionUID="1.2.9")
        known_as = (COMMITMENT, f"{COMMITMENT}.1")
        return self._normalized(COMMITMENT, "send_n_action", request, 7, *known_as)

    def report_to_the_requestor(self) -> Any:
        """An N-ACTION, of which the SCP tells by N-EVENT-REPORT on the same association."""
        reported = threading.Event()
        reports = []

        def note(event: Any) -> tuple[int, None]:
            reports.append((event.event_type, plain(event.event_information)))
            reported.set()
            return 0x0000, None

        handlers = [(self._network.evt.EVT_N_EVENT_REPORT, note)]
        association = self._associate(COMMITMENT, evt_handlers=handlers)
        reference = dataset(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=INSTANCE)
        request = dataset(TransactionUID="1.2.10", ReferencedSOPSequence=[reference])
        status, reply = association.send_n_action(request, 1, COMMITMENT, f"{COMMITMENT}.1")
        reported.wait(DEADLINE)
        association.release()
        return told(status), plain(reply), reports

    def extended_negotiation(self) -> Any:
        identity = self._items.UserIdentityNegotiation()
        identity.user_identity_type = 3
        identity.primary_field = USER
        identity.positive_response_requested = True
        extension = self._items.SOPClassExtendedNegotiation()
        extension.sop_class_uid = FIND
        extension.service_class_application_information = b"\x01\x02\x03"
        role = self._network.build_role(CTImageStorage, scu_role=True, scp_role=True)
        items = [identity, extension, role]
        association = self._associate(FIND, CTImageStorage, MRImageStorage, ext_neg=items)
        acceptor = association.acceptor
        contexts = association.accepted_contexts
        association.release()
        return {
            "user": acceptor.user_identity.server_response.decode(),
            "extended": {str(uid): list(v) for uid, v in acceptor.sop_class_extended.items()},
            "roles": [(each.abstract_syntax, each.as_scu, each.as_scp) for each in contexts],
        }


def services_of(package: str, port: int) -> Client:
    """Return a client that runs on `package`."""
    items = {"dicomwire": "dicomwire.protocol.items", "pynetdicom": "pynetdicom.pdu_primitives"}
    return Client(import_module(package), import_module(items[package]), port)


def main(task: str) -> None:
    """Serve until standard input ends, or use the services that it names, one a line."""

    def say(answer: object) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    if task == "serve":
        ae, port = serve(import_module("pynetdicom"))
        say(port)
        sys.stdin.read()
        ae.shutdown()
        return
    client = services_of("pynetdicom", int(task))
    say("ready")
    for line in sys.stdin:
        say(getattr(client, json.loads(line))())


if __name__ == "__main__":
    main(sys.argv[1])
