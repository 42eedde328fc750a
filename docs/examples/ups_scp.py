"""Manages Unified Procedure Steps: work items for other systems."""

import threading
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, Association, AssociationServer, evt
from dicomwire.sop_class import (
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
    UPSGlobalSubscriptionInstance,
)

CHANGE_STATE, REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE = 1, 2, 3, 4
STEPS: dict[str, Dataset] = {}
OWNERS: dict[str, str] = {}  # by step: the transaction UID of the system that performs it
WATCHERS: set[Association] = set()
LOCK = threading.Lock()  # guards STEPS and OWNERS: handlers of several associations run at once


def tell(uid: str, event_type: int, information: Dataset) -> None:
    """Send an event report to all watchers."""
    for assoc in list(WATCHERS):
        if assoc.is_established:
            assoc.send_n_event_report(information, event_type, UnifiedProcedureStepPush, uid)


def tell_state(uid: str) -> None:
    state = Dataset()
    state.ProcedureStepState = STEPS[uid].ProcedureStepState
    state.InputReadinessState = STEPS[uid].InputReadinessState
    # Not in the handler: the watcher may be the peer whose request is not answered yet.
    threading.Thread(target=tell, args=(uid, 1, state)).start()


def handle_create(event: evt.Event) -> tuple[int, Dataset | None]:
    """Store a new step (UPS Push)."""
    step = event.attribute_list
    if step.get("ProcedureStepState") != "SCHEDULED":
        return 0xC309, None  # A new UPS must be SCHEDULED
    uid = event.request.AffectedSOPInstanceUID or generate_uid()
    with LOCK:
        if uid in STEPS:
            return 0x0111, None  # SOP instance exists already
        STEPS[uid] = step
    tell_state(uid)
    reply = Dataset()
    if event.request.AffectedSOPInstanceUID is None:
        reply.AffectedSOPInstanceUID = uid
    return 0x0000, reply


def handle_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    """List the steps in a state (UPS Pull)."""
    state = event.identifier.get("ProcedureStepState")
    for uid, step in list(STEPS.items()):
        if state in ("", None, step.ProcedureStepState):
            match = Dataset()
            match.SOPClassUID = UnifiedProcedureStepPush
            match.SOPInstanceUID = uid
            match.ProcedureStepState = step.ProcedureStepState
            match.ProcedureStepLabel = step.ProcedureStepLabel
            yield 0xFF00, match


def handle_get(event: evt.Event) -> tuple[int, Dataset | None]:
    """Return the requested attributes of a step, or all."""
    step = STEPS.get(event.request.RequestedSOPInstanceUID)
    if step is None:
        return 0xC307, None  # No such UPS here
    asked = event.attribute_identifiers
    if not asked:
        return 0x0000, step
    reply = Dataset()
    reply.update({tag: step[tag] for tag in asked if tag in step})
    return 0x0000, reply


def handle_set(event: evt.Event) -> tuple[int, Dataset | None]:
    """Store the progress of a step, if the transaction UID is right."""
    uid = event.request.RequestedSOPInstanceUID
    changes = event.modification_list
    with LOCK:
        if uid not in STEPS:
            return 0xC307, None  # No such UPS here
        if STEPS[uid].ProcedureStepState != "IN PROGRESS":
            return 0xC310, None  # The UPS is not IN PROGRESS yet
        if changes.get("TransactionUID") != OWNERS[uid]:
            return 0xC301, None  # Transaction UID missing or wrong
        del changes.TransactionUID  # other systems must not see it
        STEPS[uid].update(changes)
    return 0x0000, None


def handle_action(event: evt.Event) -> tuple[int, Dataset | None]:
    """Change the state of a step, subscribe or unsubscribe."""
    uid = event.request.RequestedSOPInstanceUID
    if event.action_type == SUBSCRIBE and uid == UPSGlobalSubscriptionInstance:
        WATCHERS.add(event.assoc)
        return 0x0000, None
    if event.action_type == UNSUBSCRIBE and uid == UPSGlobalSubscriptionInstance:
        WATCHERS.discard(event.assoc)
        return 0x0000, None
    if event.action_type != CHANGE_STATE:
        return 0x0123, None  # No such action type
    wanted = event.action_information
    with LOCK:
        if uid not in STEPS:
            return 0xC307, None  # No such UPS here
        step = STEPS[uid]
        if wanted.ProcedureStepState == "IN PROGRESS":
            if step.ProcedureStepState != "SCHEDULED":
                return 0xC302, None  # The UPS is IN PROGRESS already
            OWNERS[uid] = wanted.TransactionUID
        elif OWNERS.get(uid) != wanted.TransactionUID:
            return 0xC301, None  # Transaction UID missing or wrong
        step.ProcedureStepState = wanted.ProcedureStepState
    tell_state(uid)
    return 0x0000, None


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("UPSSCP")
    ae.add_supported_context(UnifiedProcedureStepPush)
    ae.add_supported_context(UnifiedProcedureStepPull)
    ae.add_supported_context(UnifiedProcedureStepWatch)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_N_CREATE, handle_create),
        (evt.EVT_C_FIND, handle_find),
        (evt.EVT_N_GET, handle_get),
        (evt.EVT_N_SET, handle_set),
        (evt.EVT_N_ACTION, handle_action),
    ]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
