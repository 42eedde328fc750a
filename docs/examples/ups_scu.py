"""Pushes a step, watches it, and performs it: Unified Procedure Steps."""

import queue
from collections.abc import Sequence
from contextlib import ExitStack

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, Association, evt
from dicomwire.sop_class import (
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
    UPSGlobalSubscriptionInstance,
)

CHANGE_STATE, SUBSCRIBE = 1, 3


def associate(
    title: str,
    sop_class: str,
    host: str,
    port: int,
    handlers: Sequence[evt.EventHandlerType] = (),
) -> Association:
    ae = AE(title)
    ae.add_requested_context(sop_class)
    assoc = ae.associate(host, port, evt_handlers=handlers)
    if not assoc.is_established:
        raise SystemExit(f"No association: {assoc.failure}")
    return assoc


def check(what: str, status: Dataset) -> None:
    if status.get("Status") != 0x0000:
        raise SystemExit(f"{what} failed: {status}")


def push(assoc: Association, label: str) -> None:
    """Schedule a step."""
    step = Dataset()
    step.ProcedureStepState = "SCHEDULED"
    step.InputReadinessState = "READY"
    step.ScheduledProcedureStepPriority = "MEDIUM"
    step.ProcedureStepLabel = label
    status, _ = assoc.send_n_create(step, UnifiedProcedureStepPush, generate_uid())
    check("Pushing", status)


def work(assoc: Association) -> str | None:
    """Claim a scheduled step, perform it, and return its label; None if there is none."""
    identifier = Dataset()
    identifier.ProcedureStepState = "SCHEDULED"
    identifier.ProcedureStepLabel = ""
    identifier.SOPInstanceUID = ""
    responses = assoc.send_c_find(identifier, UnifiedProcedureStepPull)
    found = [step for _, step in responses if step is not None]
    if not found:
        return None
    uid = found[0].SOPInstanceUID

    # The messages name the Push class in any UPS context.
    claim = Dataset()
    claim.ProcedureStepState = "IN PROGRESS"
    claim.TransactionUID = generate_uid()  # it is ours from now on
    status, _ = assoc.send_n_action(claim, CHANGE_STATE, UnifiedProcedureStepPush, uid)
    check("Claiming", status)

    progress = Dataset()
    progress.ProcedureStepProgress = "100"
    changes = Dataset()
    changes.TransactionUID = claim.TransactionUID
    changes.ProcedureStepProgressInformationSequence = [progress]
    status, _ = assoc.send_n_set(changes, UnifiedProcedureStepPush, uid)
    check("Reporting progress", status)

    claim.ProcedureStepState = "COMPLETED"
    status, _ = assoc.send_n_action(claim, CHANGE_STATE, UnifiedProcedureStepPush, uid)
    check("Completing", status)
    return str(found[0].ProcedureStepLabel)


def watch(assoc: Association) -> None:
    """Subscribe to the events of all steps."""
    subscription = Dataset()
    subscription.ReceivingAE = "WATCHER"
    subscription.DeletionLock = "FALSE"
    status, _ = assoc.send_n_action(
        subscription, SUBSCRIBE, UnifiedProcedureStepPush, UPSGlobalSubscriptionInstance
    )
    check("Subscribing", status)


def demonstrate(host: str = "127.0.0.1", port: int = 11112) -> tuple[str | None, list[str]]:
    """Run all three; return the performed label, and the states that the watcher received."""
    states: queue.Queue[str] = queue.Queue()

    def handle_report(event: evt.Event) -> tuple[int, None]:
        states.put(event.event_information.ProcedureStepState)
        return 0x0000, None

    handlers = [(evt.EVT_N_EVENT_REPORT, handle_report)]
    with ExitStack() as stack:
        watcher = associate("WATCHER", UnifiedProcedureStepWatch, host, port, handlers)
        orderer = associate("ORDERER", UnifiedProcedureStepPush, host, port)
        performer = associate("PERFORMER", UnifiedProcedureStepPull, host, port)
        for assoc in (watcher, orderer, performer):
            stack.enter_context(assoc)  # released at the end
        watch(watcher)
        push(orderer, "Segment the liver")
        told = [states.get(timeout=30)]
        done = work(performer)
        told += [states.get(timeout=30) for _ in range(2)]
    return done, told


if __name__ == "__main__":
    print(demonstrate())
