"""Prints what requests are answered with when handlers answer in all kinds of ways, as JSON.

It is told which of the `PARTS`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    BasicFilmSession,
    CTImageStorage,
    GeneralRelevantPatientInformationQuery,
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    RepositoryQuery,
    StorageCommitmentPushModel,
    Verification,
)

CLASSES = (
    BasicFilmSession,
    CTImageStorage,
    GeneralRelevantPatientInformationQuery,
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    RepositoryQuery,
    StorageCommitmentPushModel,
    Verification,
)
FIND, GET, MOVE = CLASSES[4:7]


def dataset(**elements: Any) -> Dataset:
    """Return a dataset."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def image(number: int = 1) -> Dataset:
    """Return an object to store."""
    ds = dataset(SOPClassUID=CTImageStorage, SOPInstanceUID=f"1.2.3.{number}", PatientName="A")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def unsendable() -> Dataset:
    """Return a dataset that no transfer syntax can encode."""
    ds = Dataset()
    ds.add_new(0x00280010, "US", "many")
    return ds


def fail(event: Any = None) -> Any:
    """Be a handler that does not work."""
    raise ZeroDivisionError


# -- what handlers answer -------------------------------------------------------------------------

STATUSES: dict[str, Any] = {
    "0x0000": 0x0000,
    "a warning": 0xB000,
    "a failure": 0xA700,
    "an unknown status": 0xFFF0,
    "None": None,
    "a str": "success",
    "-1": -1,
    "0x10000": 0x10000,
    "a Dataset": dataset(Status=0xA700, ErrorComment="full"),
    "a Dataset with ErrorID": dataset(Status=0x0110, ErrorID=7),
    "a Dataset with OffendingElement": dataset(Status=0xA900, OffendingElement=[0x00100010]),
    "a Dataset with AffectedSOPInstanceUID": dataset(Status=0x0000, AffectedSOPInstanceUID="1.9"),
    "a Dataset without Status": dataset(ErrorComment="full"),
    "a Dataset with PatientName": dataset(Status=0x0000, PatientName="A"),
    "a pair": (0x0000, None),
}
NAMED = dataset(PatientName="A")
REPLIES: dict[str, Any] = {
    **{f"{name} and a Dataset": (status, NAMED) for name, status in STATUSES.items()},
    **{f"{name} and None": (status, None) for name, status in STATUSES.items()},
    "0x0000 and a str": (0x0000, "A"),
    "0x0000 and what cannot be encoded": (0x0000, unsendable()),
    "0x0000 alone": 0x0000,
    "None": None,
    "three things": (0x0000, None, None),
}
A, B = dataset(PatientID="A"), dataset(PatientID="B")
RESULTS: dict[str, list[Any]] = {
    "nothing": [],
    "a match": [(0xFF00, A)],
    "two matches": [(0xFF00, A), (0xFF01, B)],
    "a match and success": [(0xFF00, A), (0x0000, None)],
    "success with a Dataset": [(0x0000, A)],
    "a match after success": [(0x0000, None), (0xFF00, A)],
    "a failure after a match": [(0xFF00, A), (0xA700, None)],
    "a failure with a Dataset": [(0xA700, A)],
    "a Dataset as failure": [(dataset(Status=0xA700, ErrorComment="full"), None)],
    "a Dataset with AffectedSOPClassUID as failure": [
        (dataset(Status=0xA700, AffectedSOPClassUID="1.9"), None)
    ],
    "cancel": [(0xFF00, A), (0xFE00, None), (0xFF00, B)],
    "cancel with a Dataset": [(0xFE00, A)],
    "a warning": [(0xB001, A)],
    "a match after a warning": [(0xB001, A), (0xFF00, B)],
    "an unknown status": [(0xFFF0, A), (0xFF00, B)],
    "pending and None": [(0xFF00, None), (0xFF00, B)],
    "pending and a str": [(0xFF00, "A"), (0xFF00, B)],
    "pending and what cannot be encoded": [(0xFF00, unsendable()), (0xFF00, B)],
    "None": [None],
    "a status alone": [0xFF00],
    "None as status": [(None, A)],
    "a Dataset without Status": [(dataset(ErrorComment="x"), A)],
    "an exception": [ZeroDivisionError],
    "an exception after a match": [(0xFF00, A), ZeroDivisionError],
    "three things": [(0xFF00, A, A)],
}
ONE, TWO = image(1), image(2)
FAILED = dataset(FailedSOPInstanceUIDList=["1.9"])
OBJECTS: dict[str, list[Any]] = {
    "nothing": [],
    "0": [0],
    "None": [None],
    "a str": ["2"],
    "'x'": ["x"],
    "-1": [-1],
    "65536": [65536],
    "an exception before the count": [ZeroDivisionError],
    "an exception after the count": [2, ZeroDivisionError],
    "an exception after an object": [2, (0xFF00, ONE), ZeroDivisionError],
    "all objects": [2, (0xFF00, ONE), (0xFF00, TWO)],
    "all objects and success": [2, (0xFF00, ONE), (0xFF00, TWO), (0x0000, None)],
    "all objects and a failure": [2, (0xFF00, ONE), (0xFF00, TWO), (0xA702, None)],
    "all objects and cancel": [2, (0xFF00, ONE), (0xFF00, TWO), (0xFE00, None)],
    "fewer objects": [3, (0xFF00, ONE)],
    "more objects": [1, (0xFF00, ONE), (0xFF00, TWO)],
    "success after an object": [3, (0xFF00, ONE), (0x0000, None)],
    "a failure after an object": [3, (0xFF00, ONE), (0xA702, None)],
    "a failure with a list": [3, (0xFF00, ONE), (0xA702, FAILED)],
    "a failure at once": [3, (0xA702, None)],
    "cancel after an object": [3, (0xFF00, ONE), (0xFE00, None)],
    "cancel with a list": [3, (0xFF00, ONE), (0xFE00, FAILED)],
    "a warning after an object": [3, (0xFF00, ONE), (0xB000, None)],
    "pending and None": [2, (0xFF00, None), (0xFF00, ONE)],
    "pending and a str": [2, (0xFF00, "A"), (0xFF00, ONE)],
    "pending and what cannot be encoded": [2, (0xFF00, unsendable()), (0xFF00, ONE)],
    "an unknown status": [2, (0xFFF0, ONE), (0xFF00, TWO)],
    "None instead of a pair": [1, None],
    "a Dataset as failure": [1, (dataset(Status=0xA702, ErrorComment="full"), None)],
}
DESTINATIONS: dict[str, Any] = {
    "no destination": (None, None),
    "None as destination": None,
    "a str as destination": "somewhere",
    "a destination with a bad port": ("127.0.0.1", "x"),
    "a destination that is not there": ("127.0.0.1", 1),
    "an exception instead of a destination": ZeroDivisionError,
    "a status instead of a destination": (0xA700, None),
}


def yielding(results: list[Any]) -> Callable[[Any], Iterator[Any]]:
    """Return a handler that yields `results`, and raises the exceptions among them."""

    def handle(event: Any) -> Iterator[Any]:
        for each in results:
            if each is ZeroDivisionError:
                raise ZeroDivisionError
            yield each

    return handle


# -- asking ---------------------------------------------------------------------------------------


def shown(ds: Any) -> Any:
    """Return a status or an identifier by keyword, without what is for people to read."""
    if ds is None:
        return None
    return {each.keyword: str(each.value) for each in ds if each.keyword != "CommandGroupLength"}


class Walk:
    """A server and a client, whose handlers change from case to case."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._scp, self._scu = AE(), AE()
        for uid in CLASSES:
            self._scp.add_supported_context(uid, scu_role=True, scp_role=True)
            self._scu.add_requested_context(uid)
        self._scp.add_requested_context(CTImageStorage)
        self._server = self._scp.start_server(("127.0.0.1", 0), block=False)
        self.port = self._server.socket.getsockname()[1]

    def ask(
        self, case: str, event: Any, handler: Any, call: Callable[[Any], Any], stored: Any = None
    ) -> None:
        """Note what `call` has from a new association, while `handler` is bound at the server."""
        self._server.bind(event, handler)
        if stored is not None:
            self._server.bind(evt.EVT_C_STORE, stored)
        roles = [build_role(CTImageStorage, scu_role=True, scp_role=True)]
        own = [] if stored is None else [(evt.EVT_C_STORE, stored)]
        assoc = self._scu.associate("127.0.0.1", self.port, ext_neg=roles, evt_handlers=own)
        try:
            answer = call(assoc)
        except Exception as error:
            answer = type(error).__name__
        if case.startswith(("C-GET", "C-MOVE")) and isinstance(answer, list):
            remaining = answer[-1][0].pop("NumberOfRemainingSuboperations", None)
            self.found[f"{case}, remaining in the end"] = remaining
        if case.startswith("N-EVENT-REPORT"):
            repeated = [answer[0].pop(keyword, None) for keyword in REPEATED]
            self.found[f"{case}, what repeats the request"] = repeated
        self.found[case] = [answer, "goes on" if assoc.is_established else "is over"]
        assoc.release()
        self._server.unbind(event, handler)

    def end(self) -> None:
        """Stop both."""
        self._scu.shutdown()
        self._scp.shutdown()


REPEATED = ("AffectedSOPClassUID", "AffectedSOPInstanceUID", "EventTypeID")
WALKED_WHOLE = ("N-GET", "N-CREATE without a UID", "N-EVENT-REPORT")
SOME = ("0x0000 and a Dataset", "a failure and None", "None", "a Dataset without Status and None")
"""The `REPLIES` for the other N-services."""


def results(found: Any) -> list[Any]:
    """Return what a C-FIND, C-GET or C-MOVE is answered with."""
    return [[shown(status), shown(identifier)] for status, identifier in found]


def walk_single(walk: Walk) -> None:
    """C-ECHO, C-STORE and N-DELETE, whose handlers return a status."""
    calls: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "C-ECHO": (evt.EVT_C_ECHO, lambda assoc: shown(assoc.send_c_echo())),
        "C-STORE": (evt.EVT_C_STORE, lambda assoc: shown(assoc.send_c_store(image()))),
        "N-DELETE": (
            evt.EVT_N_DELETE,
            lambda assoc: shown(assoc.send_n_delete(BasicFilmSession, "1.2")),
        ),
    }
    for service, (event, call) in calls.items():
        for name, status in STATUSES.items():
            walk.ask(f"{service}: {name}", event, lambda _, status=status: status, call)
        walk.ask(f"{service}: an exception", event, fail, call)


def walk_normalized(walk: Walk) -> None:
    """The other N-services, whose handlers return a status and a dataset."""
    step = ModalityPerformedProcedureStep
    calls: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "N-GET": (evt.EVT_N_GET, lambda assoc: assoc.send_n_get([0x00100010], step, "1.2")),
        "N-SET": (evt.EVT_N_SET, lambda assoc: assoc.send_n_set(A, step, "1.2")),
        "N-ACTION": (
            evt.EVT_N_ACTION,
            lambda assoc: assoc.send_n_action(A, 1, StorageCommitmentPushModel, "1.2"),
        ),
        "N-CREATE": (evt.EVT_N_CREATE, lambda assoc: assoc.send_n_create(A, step, "1.2")),
        "N-CREATE without a UID": (evt.EVT_N_CREATE, lambda assoc: assoc.send_n_create(A, step)),
        "N-EVENT-REPORT": (
            evt.EVT_N_EVENT_REPORT,
            lambda assoc: assoc.send_n_event_report(A, 1, StorageCommitmentPushModel, "1.2"),
        ),
    }
    for service, (event, call) in calls.items():
        replies = REPLIES if service in WALKED_WHOLE else SOME
        for name in replies:
            reply = REPLIES[name]
            walk.ask(
                f"{service}: {name}",
                event,
                lambda _, reply=reply: reply,
                lambda assoc, call=call: [shown(each) for each in call(assoc)],
            )
        walk.ask(
            f"{service}: an exception",
            event,
            fail,
            lambda assoc, call=call: [shown(each) for each in call(assoc)],
        )


def walk_find(walk: Walk) -> None:
    """C-FIND of three services."""
    models = {
        "C-FIND": FIND,
        "C-FIND of patient information": GeneralRelevantPatientInformationQuery,
        "C-FIND of a repository": RepositoryQuery,
    }
    for service, model in models.items():

        def call(assoc: Any, model: Any = model) -> Any:
            return results(assoc.send_c_find(dataset(QueryRetrieveLevel="PATIENT"), model))

        for name, yielded in RESULTS.items():
            walk.ask(f"{service}: {name}", evt.EVT_C_FIND, yielding(yielded), call)
        walk.ask(f"{service}: a function that returns None", evt.EVT_C_FIND, lambda _: None, call)
        walk.ask(f"{service}: a function that fails", evt.EVT_C_FIND, fail, call)
        walk.ask(
            f"{service}: a function that returns a list",
            evt.EVT_C_FIND,
            lambda _: [(0xFF00, A)],
            call,
        )


def walk_retrieve(walk: Walk) -> None:
    """C-GET and C-MOVE."""
    level = dataset(QueryRetrieveLevel="PATIENT", PatientID="A")
    here = ("127.0.0.1", walk.port)

    def get(assoc: Any) -> Any:
        return results(assoc.send_c_get(level, GET))

    def move(assoc: Any) -> Any:
        return results(assoc.send_c_move(level, "ANY-SCP", MOVE))

    def stored(event: Any) -> int:
        return 0x0000

    for name, yielded in OBJECTS.items():
        walk.ask(f"C-GET: {name}", evt.EVT_C_GET, yielding(yielded), get, stored)
        walk.ask(f"C-MOVE: {name}", evt.EVT_C_MOVE, yielding([here, *yielded]), move, stored)
    for what in ("a warning", "a failure", "an unknown status"):
        status = STATUSES[what]
        yielded = OBJECTS["all objects"]
        for service, event, handler, call in (
            ("C-GET", evt.EVT_C_GET, yielding(yielded), get),
            ("C-MOVE", evt.EVT_C_MOVE, yielding([here, *yielded]), move),
        ):
            case = f"{service}: objects are stored with {what}"
            walk.ask(case, event, handler, call, lambda _, status=status: status)
    walk.ask("C-GET: a function that returns None", evt.EVT_C_GET, lambda _: None, get, stored)
    walk.ask("C-MOVE: a function that returns None", evt.EVT_C_MOVE, lambda _: None, move, stored)
    walk.ask("C-GET: a function that fails", evt.EVT_C_GET, fail, get, stored)
    walk.ask("C-MOVE: a function that fails", evt.EVT_C_MOVE, fail, move, stored)
    for name, destination in DESTINATIONS.items():
        handler = yielding([destination, *OBJECTS["all objects"]])
        walk.ask(f"C-MOVE: {name}", evt.EVT_C_MOVE, handler, move, stored)
    walk.ask("C-MOVE: a destination alone", evt.EVT_C_MOVE, yielding([here]), move, stored)


def walk_unbound(walk: Walk) -> None:
    """Requests that nobody bound a handler for."""
    step = ModalityPerformedProcedureStep
    calls: dict[str, Callable[[Any], Any]] = {
        "C-ECHO": lambda assoc: shown(assoc.send_c_echo()),
        "C-FIND": lambda assoc: results(assoc.send_c_find(A, FIND)),
        "C-GET": lambda assoc: results(assoc.send_c_get(A, GET)),
        "C-MOVE": lambda assoc: results(assoc.send_c_move(A, "X", MOVE)),
        "N-GET": lambda assoc: shown(assoc.send_n_get([], step, "1.2")[0]),
        "N-SET": lambda assoc: shown(assoc.send_n_set(A, step, "1.2")[0]),
        "N-CREATE": lambda assoc: shown(assoc.send_n_create(A, step, "1.2")[0]),
        "N-DELETE": lambda assoc: shown(assoc.send_n_delete(BasicFilmSession, "1.2")),
    }
    for service, call in calls.items():
        walk.ask(f"{service}: no handler", evt.EVT_CONN_OPEN, lambda _: None, call)
    walk.ask(
        "a request that the service does not have",
        evt.EVT_CONN_OPEN,
        lambda _: None,
        lambda assoc: shown(assoc.send_n_get([], CTImageStorage, "1.2")[0]),
    )


PARTS = {
    "unbound": walk_unbound,
    "single": walk_single,
    "normalized": walk_normalized,
    "find": walk_find,
    "retrieve": walk_retrieve,
}

if __name__ == "__main__":
    logging.disable()
    whole = Walk()
    PARTS[sys.argv[1]](whole)
    whole.end()
    print(json.dumps(whole.found))
