"""Asks an archive to commit to keep objects, and waits for the result."""

import queue

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, evt
from dicomwire.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)


def request_for(uids: list[str]) -> Dataset:
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for uid in uids:
        reference = Dataset()
        reference.ReferencedSOPClassUID = CTImageStorage
        reference.ReferencedSOPInstanceUID = uid
        request.ReferencedSOPSequence.append(reference)
    return request


def commit(
    uids: list[str],
    host: str = "127.0.0.1",
    port: int = 11112,
    own_port: int = 11113,
    wait: float = 30,
    hang_up: bool = False,
) -> list[str]:
    """Return the UIDs of the objects that the archive commits to keep."""
    results: queue.Queue[Dataset] = queue.Queue()

    def handle_report(event: evt.Event) -> tuple[int, Dataset | None]:
        results.put(event.event_information)
        return 0x0000, None

    handlers = [(evt.EVT_N_EVENT_REPORT, handle_report)]
    ae = AE("COMMITSCU")
    ae.add_requested_context(StorageCommitmentPushModel)
    # The result may come on another association, which the archive requests as SCP.
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", own_port), block=False, evt_handlers=handlers)
    request = request_for(uids)
    with server, ae.associate(host, port, evt_handlers=handlers) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        status, _ = assoc.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        if status.get("Status") != 0x0000:
            raise SystemExit("The archive does not take the request")
        if hang_up:
            assoc.release()
        result = results.get(timeout=wait)
    assert result.TransactionUID == request.TransactionUID
    return [each.ReferencedSOPInstanceUID for each in result.get("ReferencedSOPSequence") or ()]


if __name__ == "__main__":
    print(commit(["1.2.3.4"]))
