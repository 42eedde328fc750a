"""Storage commitment as SCP: what is committed, and how the report reaches its requestor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, of_folder
from committing import COMMITMENT, INSTANCE, Report, Requestor, item, request_for
from node_processes import eventually, node_process
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from running_node import LOCALHOST, associate, make_object, running, store

from dicomwire import AE, build_context, evt
from dicomwire.node.commitment import provider, transactions, verification
from dicomwire.node.commitment.references import Reference, dataset_of
from dicomwire.node.commitment.verification import Verifier
from dicomwire.node.configuration import Access, Destination, Right
from dicomwire.node.files import StoreFailure
from dicomwire.node.objects.places import Elsewhere
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import ListedTask, NewTask, Queue, State, listed

HERE = ["1.2.3.1.1", "1.2.3.1.2"]
ONE = HERE[0]
T = "1.2.9.1"


@pytest.fixture
def requestor() -> Requestor:
    return Requestor()


@contextmanager
def node_with_objects(folder: Path, **keys: Any) -> Iterator[Node]:
    with running(folder, **keys) as node:
        assert store(node, make_object(1), make_object(2)) == [0, 0]
        yield node


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that has both objects, and no destinations; tests leave no tasks in it."""
    with node_with_objects(tmp_path_factory.mktemp("shared")) as node:
        yield node


def reporting_to(port: int) -> dict[str, Any]:
    return {"destinations": {"TESTER": Destination(LOCALHOST, port)}}


def tasks(node: Node) -> list[ListedTask]:
    return list(listed(node.archive.index, provider.KIND))


def ask_and_leave(requestor: Requestor, node: Node, request: Dataset) -> None:
    with requestor.associate(node.address, evt_handlers=[]) as assoc:
        assert requestor.request(assoc, request) == 0x0000


# --- What is committed ------------------------------------------------------------------------


def test_objects_of_the_index_and_the_store_are_committed(
    requestor: Requestor, tmp_path: Path, pair: Backend
) -> None:
    with (
        node_with_objects(tmp_path / "archive", **pair.keys) as node,
        requestor.associate(node.address) as assoc,
    ):
        assert requestor.request(assoc, request_for(T, *HERE)) == 0x0000
        assert requestor.report() == Report(1, T, HERE, {})
        request = request_for(f"{T}.2", ONE, "1.2.9")
        request.ReferencedSOPSequence.append(item(HERE[1], MRImageStorage))
        assert requestor.request(assoc, request) == 0x0000
        failed = {"1.2.9": 0x0112, HERE[1]: 0x0119}
        assert requestor.report() == Report(2, f"{T}.2", [ONE], failed)
        assert eventually(lambda: not tasks(node))


def test_files_that_are_damaged_or_missing_are_not_committed(
    requestor: Requestor, tmp_path: Path
) -> None:
    with node_with_objects(tmp_path) as node:
        found = node.archive.index.find(HERE)
        first, second = (found[uid][0].file for uid in HERE)
        behind = of_folder(tmp_path)
        whole = behind.contents(tmp_path)[first]
        behind.rewrite(tmp_path, first, whole.replace(b"Doe^Jane", b"Doe^John"))
        behind.lose(tmp_path, second)
        with requestor.associate(node.address) as assoc:
            assert requestor.request(assoc, request_for(T, *HERE)) == 0x0000
            assert requestor.report() == Report(2, T, [], {ONE: 0x0110, HERE[1]: 0x0112})


@pytest.mark.parametrize("error", [StoreFailure("no bucket"), Elsewhere("on another disk")])
def test_what_cannot_be_known_now_is_no_failure(shared: Node, error: OSError) -> None:
    class Unusable:
        path = owns = staticmethod(lambda name: None)

        def open(self, name: str) -> None:
            raise error

    verifier = Verifier(shared.archive.index, Unusable())  # type: ignore[arg-type]
    with pytest.raises(OSError, match=str(error)):
        verifier.verify([Reference(CTImageStorage, ONE)], 0, 1.0)


def test_an_object_that_is_moved_meanwhile_is_committed(shared: Node) -> None:
    verifier = Verifier(shared.archive.index, shared.archive.objects)
    (copy,) = verifier._find([ONE])[ONE]
    before = {ONE: [copy._replace(file="objects/00/00/moved.dcm")]}
    assert verifier._reason(Reference(CTImageStorage, ONE), before) == 0


def test_many_references_are_looked_up_in_portions(
    shared: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_PORTION", 3)
    verifier = Verifier(shared.archive.index, shared.archive.objects)
    references = [Reference(CTImageStorage, uid) for uid in ["1.9", "1.8", *HERE, "1.7"]]
    failed = dict.fromkeys((0, 1, 4), 0x0112)
    assert verifier.verify(references, 0, 60) == (5, failed)
    assert verifier.verify(references, 1, 0) == (2, {1: 0x0112})


def test_a_request_may_have_many_references(shared: Node, requestor: Requestor) -> None:
    """TEST_REFERENCES=100000 tries as many as are allowed, which takes some 10 s."""
    number = int(os.environ.get("TEST_REFERENCES", "2000"))
    references = [Reference(CTImageStorage, f"1.2.3.4.{each}") for each in range(number)]
    request = dataset_of(T, references, [], ExplicitVRLittleEndian)
    requestor.wait = 100.0
    with requestor.associate(shared.address) as assoc:
        assert requestor.request(assoc, request) == 0x0000
        assert len(requestor.report().failed) == number
        assert eventually(lambda: not tasks(shared))


def test_objects_are_stored_while_the_report_comes(requestor: Requestor, shared: Node) -> None:
    contexts = [build_context(COMMITMENT), build_context(CTImageStorage, ExplicitVRLittleEndian)]
    with associate(shared, *contexts, evt_handlers=requestor.handlers) as assoc:
        for number in range(10):
            assert requestor.request(assoc, request_for(f"{T}.{number}", ONE)) == 0x0000
            assert assoc.send_c_store(make_object(1)).Status == 0x0000
        assert [requestor.report().transaction for _ in range(10)] == [
            f"{T}.{number}" for number in range(10)
        ]
        assert eventually(lambda: not tasks(shared))


# --- Where the report goes --------------------------------------------------------------------


def test_the_report_comes_on_the_association_of_the_request(
    requestor: Requestor, tmp_path: Path
) -> None:
    with (
        requestor.listening() as port,
        node_with_objects(tmp_path, **reporting_to(port)) as node,
        requestor.associate(node.address) as assoc,
    ):
        requestor.request(assoc, request_for(T, ONE))
        report, where = requestor.next()
        assert (report.committed, where) == ([ONE], assoc)


def test_a_requestor_that_has_left_gets_a_new_association_with_the_roles_reversed(
    requestor: Requestor, tmp_path: Path
) -> None:
    with requestor.listening() as port, node_with_objects(tmp_path, **reporting_to(port)) as node:
        ask_and_leave(requestor, node, request_for(T, ONE))
        report, where = requestor.next()
        assert report == Report(1, T, [ONE], {})
        roles = where.requestor.role_selection[COMMITMENT]
        assert (roles.scu_role, roles.scp_role) == (False, True)
        assert where.requestor.ae_title == "DICOMWIRE"
        assert eventually(lambda: not tasks(node))


def test_a_requestor_that_aborts_at_the_report_gets_it_on_a_new_association(
    requestor: Requestor, tmp_path: Path
) -> None:
    def abort(event: evt.Event) -> tuple[int, None]:
        event.assoc.abort()
        return 0x0000, None

    with requestor.listening() as port, node_with_objects(tmp_path, **reporting_to(port)) as node:
        assoc = requestor.associate(node.address, evt_handlers=[(evt.EVT_N_EVENT_REPORT, abort)])
        requestor.request(assoc, request_for(T, ONE))
        _, where = requestor.next()
        assert where is not assoc


def test_a_requestor_that_never_answers_the_report_gets_it_on_a_new_association(
    requestor: Requestor, tmp_path: Path
) -> None:
    deaf = Requestor()
    deaf.silent.clear()
    with (
        requestor.listening() as port,
        node_with_objects(tmp_path, dimse_timeout=0.3, **reporting_to(port)) as node,
    ):
        assoc = deaf.associate(node.address)
        requestor.request(assoc, request_for(T, ONE))
        assert deaf.report() == requestor.report()
        deaf.silent.set()
        assoc.abort()


def test_a_report_that_is_refused_is_repeated(requestor: Requestor, tmp_path: Path) -> None:
    requestor.status = 0x0110
    with requestor.listening() as port, node_with_objects(tmp_path, **reporting_to(port)) as node:
        ask_and_leave(requestor, node, request_for(T, ONE))
        requestor.report()
        assert eventually(lambda: tasks(node)[0].error)
        assert tasks(node)[0].error == "the requestor answers the report with 0x0110"
        requestor.status = 0x0000
        node.archive.queue.retry(provider.KIND)
        node.archive.queue.on_added({provider.KIND})
        requestor.report()
        assert eventually(lambda: not tasks(node))


def test_a_requestor_that_rejects_the_association_is_tried_again(
    requestor: Requestor, tmp_path: Path
) -> None:
    ae = AE("OTHER")
    ae.require_called_aet = True
    ae.add_supported_context(COMMITMENT)
    server = ae.start_server((LOCALHOST, 0), block=False)
    assert server is not None
    with node_with_objects(tmp_path, **reporting_to(server.server_address[1])) as node:
        ask_and_leave(requestor, node, request_for(T, ONE))
        assert eventually(lambda: tasks(node)[0].error)
        (task,) = tasks(node)
        assert task.error.startswith("there is no association with TESTER:")
        assert task.due is not None
    ae.shutdown()


def test_without_an_address_the_report_waits_for_an_operator(
    requestor: Requestor, tmp_path: Path
) -> None:
    with node_with_objects(tmp_path) as node:
        ask_and_leave(requestor, node, request_for(T, ONE))
        assert eventually(lambda: tasks(node)[0].state is State.DEAD)
        assert tasks(node)[0].error == "there is no destination 'TESTER' in the configuration"


def test_objects_are_checked_in_turns(
    requestor: Requestor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "_STEP", 0.0)
    with requestor.listening() as port, node_with_objects(tmp_path, **reporting_to(port)) as node:
        with requestor.associate(node.address) as assoc:
            requestor.request(assoc, request_for(T, *HERE, "1.2.9"))
            assert requestor.report() == Report(2, T, HERE, {"1.2.9": 0x0112})
        ask_and_leave(requestor, node, request_for(f"{T}.2", *HERE, "1.2.9"))
        assert requestor.report() == Report(2, f"{T}.2", HERE, {"1.2.9": 0x0112})


def test_a_worker_process_reports_on_its_own_association(
    requestor: Requestor, tmp_path: Path
) -> None:
    with (
        node_process(tmp_path, workers=2) as node,
        requestor.associate(node.address) as assoc,
    ):
        requestor.request(assoc, request_for(T, ONE))
        report, where = requestor.next()
        assert (report.failed, where) == ({ONE: 0x0112}, assoc)


def test_a_crash_between_request_and_report_loses_nothing(
    requestor: Requestor, tmp_path: Path
) -> None:
    requestor.silent.clear()
    with requestor.listening() as port:
        keys = {"destinations": {"TESTER": {"host": LOCALHOST, "port": port}}}
        with node_process(tmp_path, **keys) as node:
            assoc = requestor.associate(node.address)
            requestor.request(assoc, request_for(T, ONE))
            report = requestor.report()
        requestor.silent.set()
        with node_process(tmp_path, **keys):
            again, where = requestor.next()
            assert again == report
            assert where is not assoc


# --- Transactions -----------------------------------------------------------------------------


def test_a_request_that_is_repeated_is_reported_once(requestor: Requestor, tmp_path: Path) -> None:
    """The first report could not be delivered; the requestor asks again, and is there now."""
    with node_with_objects(tmp_path) as node:
        ask_and_leave(requestor, node, request_for(T, ONE))
        assert eventually(lambda: tasks(node)[0].state is State.DEAD)
        with requestor.associate(node.address) as assoc:
            requestor.request(assoc, request_for(T, ONE))
            report, where = requestor.next()
            assert (report, where) == (Report(1, T, [ONE], {}), assoc)
            assert eventually(lambda: not tasks(node))
        assert not requestor.has_report


def test_a_request_that_is_repeated_later_is_reported_again(
    requestor: Requestor, shared: Node
) -> None:
    with requestor.associate(shared.address) as assoc:
        for _ in range(2):
            assert requestor.request(assoc, request_for(T, ONE)) == 0x0000
            assert requestor.report() == Report(1, T, [ONE], {})
            assert eventually(lambda: not tasks(shared))


def test_a_request_that_is_repeated_at_once_is_reported_once(
    requestor: Requestor, tmp_path: Path
) -> None:
    requestor.silent.clear()
    with node_with_objects(tmp_path) as node, requestor.associate(node.address) as assoc:
        requestor.request(assoc, request_for(T, ONE))
        requestor.report()
        with requestor.associate(node.address) as other:
            assert requestor.request(other, request_for(T, ONE)) == 0x0000
            assert len(tasks(node)) == 1
        requestor.silent.set()
        assert eventually(lambda: not tasks(node))
        assert not requestor.has_report


def test_a_request_that_another_process_has_taken_is_left_to_it(
    requestor: Requestor, shared: Node
) -> None:
    """It had to wait behind others of its association for longer than its lease."""
    with requestor.associate(shared.address) as assoc:
        mine = shared.archive.commitment_provider
        transaction = transactions.Transaction("TESTER", T, [Reference(CTImageStorage, ONE)])
        with shared.archive.index.writing() as writer:
            new = NewTask(provider.KIND, transaction.payload, transaction.key)
            task = Queue(shared.archive.index, "another").begin(writer, new)
        mine._answer(assoc, task)
        assert not requestor.has_report
        with shared.archive.index.writing() as writer:
            Queue(shared.archive.index, "another").finish(writer, [task])


def test_a_transaction_uid_in_use_fails_for_other_objects(
    requestor: Requestor, tmp_path: Path
) -> None:
    with node_with_objects(tmp_path) as node:
        ask_and_leave(requestor, node, request_for(T, ONE))
        with requestor.associate(node.address) as assoc:
            requestor.request(assoc, request_for(T, *HERE))
            assert requestor.report() == Report(2, T, [], dict.fromkeys(HERE, 0x0131))


# --- Refusals ---------------------------------------------------------------------------------


def without(keyword: str) -> Dataset:
    request = request_for(T, ONE)
    del request[keyword]
    return request


def with_item(**elements: Any) -> Dataset:
    request = request_for(T, ONE)
    reference = Dataset()
    for keyword, value in elements.items():
        setattr(reference, keyword, value)
    request.ReferencedSOPSequence.append(reference)
    return request


@pytest.mark.parametrize(
    "dataset",
    [
        None,
        Dataset(),
        without("TransactionUID"),
        without("ReferencedSOPSequence"),
        request_for("", ONE),
        request_for(T),
        with_item(),
        with_item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=""),
        with_item(ReferencedSOPInstanceUID="1.2"),
    ],
)
def test_a_malformed_request_is_refused(
    requestor: Requestor, shared: Node, dataset: Dataset | None
) -> None:
    with requestor.associate(shared.address) as assoc:
        assert requestor.request(assoc, dataset) == 0x0115
        assert tasks(shared) == []


def test_other_actions_and_instances_are_refused(requestor: Requestor, shared: Node) -> None:
    with requestor.associate(shared.address) as assoc:
        assert requestor.request(assoc, request_for(T, ONE), action=2) == 0x0123
        status, _ = assoc.send_n_action(request_for(T, ONE), 1, COMMITMENT, "1.2.3")
        assert status.Status == 0x0112
        assert INSTANCE != "1.2.3"


def test_there_are_limits(
    requestor: Requestor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_REFERENCES", 2)
    monkeypatch.setattr(provider, "_MOST_OPEN", 1)
    requestor.silent.clear()
    with running(tmp_path) as node, requestor.associate(node.address) as assoc:
        assert requestor.request(assoc, request_for(T, "1.1", "1.2", "1.3")) == 0x0213
        assert requestor.request(assoc, request_for(T, "1.1", "1.2")) == 0x0000
        with requestor.associate(node.address) as other:
            assert requestor.request(other, request_for(f"{T}.2", "1.1")) == 0x0213
        requestor.silent.set()
        requestor.report()


def test_reports_that_cannot_be_delivered_make_room(
    requestor: Requestor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "_MOST_OPEN", 1)
    with running(tmp_path) as node:
        ask_and_leave(requestor, node, request_for(T, "1.1"))
        assert eventually(lambda: tasks(node)[0].state is State.DEAD)
        with requestor.associate(node.address) as assoc:
            assert requestor.request(assoc, request_for(f"{T}.2", "1.1")) == 0x0000
            assert requestor.report().transaction == f"{T}.2"
            assert eventually(lambda: not tasks(node))


def test_a_stranger_that_may_not_store_may_not_ask(requestor: Requestor, tmp_path: Path) -> None:
    access = Access(titles=("FRIEND",), strangers=(Right.ECHO,))
    with running(tmp_path, access=access) as node, requestor.associate(node.address) as assoc:
        assert requestor.request(assoc, request_for(T, ONE)) == 0x0124
