"""A node as its peers see it: what it serves, to whom, and how it begins and ends."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme
from backends import configuration_of, of_folder
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from running_node import (
    LOCALHOST,
    STUDY,
    Receiver,
    associate,
    counts,
    find,
    get,
    make_object,
    move,
    running,
    store,
    stored_in,
    study_of,
)
from spooling import spool_files
from sqlalchemy.exc import OperationalError

from dicomwire import AE, AssociationRejected, build_context
from dicomwire.data import budgets
from dicomwire.errors import TLSConfigurationError
from dicomwire.node import query
from dicomwire.node.access import Guard
from dicomwire.node.archive import FolderUnusable
from dicomwire.node.carrying import names_to_remove
from dicomwire.node.configuration import (
    TLS,
    Access,
    Destination,
    Duplicates,
    Right,
)
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.server import Node
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelGet as GET
from dicomwire.sop_class import Verification
from dicomwire.tls import client_context, server_context

ELSEWHERE = (ip_network("192.0.2.0/24"),)
"""A network that nobody here is in, so that everybody is a stranger."""
CT = build_context(CTImageStorage, ExplicitVRLittleEndian)


def test_what_is_stored_is_found_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        assert store(node, make_object()) == [0x0000]
        (status, match), (last, _) = find(node, study_of(PatientName=""))
    assert (status.Status, last.Status) == (0xFF00, 0x0000)
    assert (match.PatientName, match.RetrieveAETitle) == ("Doe^Jane", "DICOMWIRE")


def test_it_is_there_when_the_node_starts_again(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        assert store(node, make_object()) == [0x0000]
    with running(tmp_path) as node:
        assert len(find(node, study_of())) == 2
        *_, (status, _) = get(node, Receiver(), study_of(), CT)
    assert counts(status) == (0x0000, 1, 0)


def test_echo(tmp_path: Path) -> None:
    with running(tmp_path) as node, associate(node, Verification) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("policy", "status", "count"),
    [
        (Duplicates.KEEP_FIRST, 0x0111, 1),
        (Duplicates.REPLACE, 0x0000, 1),
        (Duplicates.KEEP_BOTH, 0x0000, 2),
    ],
)
def test_the_policy_for_duplicates(
    tmp_path: Path, policy: Duplicates, status: int, count: int
) -> None:
    other = make_object(PatientName="Doe^John")
    with running(tmp_path, duplicates=policy) as node:
        assert store(node, make_object(), make_object(), other) == [0x0000, 0x0000, status]
    with IndexReader(of_folder(tmp_path).database(tmp_path)) as index:
        leaving = names_to_remove(index)  # a store may remove replaced objects later, by tasks
    assert len(set(stored_in(tmp_path)) - leaving) == count


def test_an_object_that_is_not_stored_is_answered_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path) as node, associate(node, CT) as assoc:
        assert "ErrorComment" not in assoc.send_c_store(make_object())
        status = assoc.send_c_store(make_object(PatientName="Doe^John"))
    assert status.ErrorComment == "the archive has another object of this UID"


# --- Who may do what --------------------------------------------------------------------------


def test_strangers_may_store_and_not_look(tmp_path: Path) -> None:
    with running(tmp_path, access=Access(networks=ELSEWHERE)) as node:
        assert store(node, make_object()) == [0x0000]
        with associate(node, Verification) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        for answers in (
            find(node, study_of()),
            get(node, Receiver(), study_of(), CT),
            move(node, study_of(), "STORESCP"),
            move(node, study_of(), "NOBODY"),
        ):
            ((status, identifier),) = answers
            assert (status.Status, bool(identifier)) == (0x0124, False)
            assert status.get("ErrorComment", "").startswith("not allowed to ")


def test_rights_are_looked_at_before_an_identifier_is_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "UNCOUNTED", 0)
    for access, expected in ((Access(networks=ELSEWHERE), 0x0124), (Access(), 0xA700)):
        with running(tmp_path, access=access) as node:
            node._ae.settings = replace(node._ae.settings, memory_budget=0)
            ((status, _),) = find(node, study_of())
            assert status.Status == expected


def test_strangers_may_be_kept_from_storing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access(titles=("FRIEND",), strangers=(Right.QUERY,))
    with running(tmp_path, access=access) as node:
        with caplog.at_level(logging.WARNING, "dicomwire.node"):
            assert store(node, make_object()) == [0x0124]
        assert "'TESTER' at 127.0.0.1 is not allowed to store" in caplog.messages
        assert stored_in(tmp_path) == spool_files(tmp_path) == []
        assert store(node, make_object(), title="FRIEND") == [0x0000]
        assert len(find(node, study_of())) == 2
        with associate(node, Verification) as assoc:
            assert assoc.send_c_echo().Status == 0x0124


def test_where_it_cannot_be_told_nobody_may_do_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(Guard, "allows", fail)
    with running(tmp_path) as node:
        assert store(node, make_object()) == [0x0110]
        ((status, identifier),) = find(node, study_of())
        assert (status.Status, identifier) == (0x0110, None)
    assert stored_in(tmp_path) == []


def test_an_object_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = make_object(2, PatientComments="x" * 2000)
    with running(tmp_path, max_object=1000) as node:
        assert store(node, make_object(), long) == [0x0000, 0xA700]
    with running(tmp_path, max_object=0) as node:
        assert store(node, long) == [0x0000]


def test_a_series_in_two_studies_is_found_in_each(tmp_path: Path) -> None:
    other = make_object(2, study="1.9", SeriesInstanceUID=f"{STUDY}.1", PatientID="P2")
    with running(tmp_path) as node:
        assert store(node, make_object(), other) == [0x0000, 0x0000]
        for uid, patient in ((STUDY, "P1"), ("1.9", "P2")):
            (_, match), _ = find(
                node, study_of(uid, PatientID="", NumberOfStudyRelatedInstances="")
            )
            assert (match.PatientID, match.NumberOfStudyRelatedInstances) == (patient, 1)
            *_, (status, _) = get(node, Receiver(), study_of(uid), CT)
            assert counts(status) == (0x0000, 1, 0)


def test_strangers_may_be_turned_away_by_title(tmp_path: Path) -> None:
    with running(tmp_path, access=Access(titles=("FRIEND",), strangers=())) as node:
        assoc = associate(node, Verification)
        assert isinstance(assoc.failure, AssociationRejected)
        assert (assoc.failure.source, assoc.failure.diagnostic) == (1, 3)  # calling AE title
        with associate(node, Verification, title="FRIEND") as assoc:
            assert assoc.send_c_echo().Status == 0x0000


def test_strangers_may_be_turned_away_by_network(tmp_path: Path) -> None:
    with running(tmp_path, access=Access(networks=ELSEWHERE, strangers=())) as node:
        assoc = associate(node, Verification)
        assert assoc.is_aborted
        assert not assoc.is_established


def test_the_called_title_may_be_checked(tmp_path: Path) -> None:
    with running(tmp_path, ae_title="ME", access=Access(called_title=True)) as node:
        assoc = associate(node, Verification)
        assert isinstance(assoc.failure, AssociationRejected)
        assert (assoc.failure.source, assoc.failure.diagnostic) == (1, 7)  # called AE title
        with associate(node, Verification, ae_title="ME") as assoc:
            assert assoc.is_established


def test_there_are_so_many_associations_and_no_more(tmp_path: Path) -> None:
    with running(tmp_path, max_associations=1) as node, associate(node, Verification) as first:
        second = associate(node, Verification)
        assert isinstance(second.failure, AssociationRejected)
        assert second.failure.diagnostic == 2  # local limit exceeded
        assert first.send_c_echo().Status == 0x0000


@pytest.mark.parametrize("share", ["max_per_address", "max_per_title"])
def test_one_peer_has_its_share_of_associations_and_no_more(tmp_path: Path, share: str) -> None:
    with running(tmp_path, **{share: 1}) as node, associate(node, Verification) as first:
        second = associate(node, Verification)
        assert isinstance(second.failure, AssociationRejected)
        assert second.failure.diagnostic == 2  # local limit exceeded
        assert first.send_c_echo().Status == 0x0000


def test_a_database_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Iterator[Any]:
        raise OperationalError("", {}, Exception("disk I/O error"))
        yield

    with running(tmp_path) as node:
        assert store(node, make_object()) == [0x0000]
        with monkeypatch.context() as patch:
            patch.setattr(query, "find", fail)
            patch.setattr(query, "instances", fail)
            ((status, _),) = find(node, study_of())
            assert (status.Status, status.ErrorComment) == (0xA700, "the index cannot be read")
            ((status, _),) = get(node, Receiver(), study_of(), CT)
            assert status.Status == 0xA701
        assert len(find(node, study_of())) == 2


# --- Negotiation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "asked", "granted"),
    [
        (FIND, b"\1\1\1\1\1", b"\1\1\1\0\0"),
        (FIND, b"\1", b"\1"),
        (FIND, b"\0\0\1", b"\0\0\1"),
        (GET, b"\1\1", b"\1\0"),
    ],
)
def test_what_can_be_negotiated(tmp_path: Path, model: Any, asked: bytes, granted: bytes) -> None:
    wanted = SOPClassExtendedNegotiation(model, asked)
    with running(tmp_path) as node, associate(node, model, ext_neg=[wanted]) as assoc:
        assert assoc.acceptor.sop_class_extended == {model: granted}


def test_fuzzy_names_and_relational_queries_when_negotiated(tmp_path: Path) -> None:
    series = Dataset()
    series.QueryRetrieveLevel = "SERIES"
    series.PatientName = "doe, jane"
    series.SeriesInstanceUID = ""
    wanted = SOPClassExtendedNegotiation(FIND, b"\1\0\1")
    with running(tmp_path, strict_queries=True) as node:
        assert store(node, make_object()) == [0x0000]
        ((status, _),) = find(node, series)
        assert status.Status == 0xA900
        (_, match), (last, _) = find(node, series, ext_neg=[wanted])
    assert (match.SeriesInstanceUID, last.Status) == (f"{STUDY}.1", 0x0000)


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert(LOCALHOST).private_key_and_cert_chain_pem.write_to_path(tmp_path / "node.pem")
    return ca


def test_with_a_certificate_it_speaks_tls(tmp_path: Path, authority: trustme.CA) -> None:
    tls = TLS(cert=str(tmp_path / "node.pem"))
    trusting = client_context(ca=tmp_path / "ca.pem")
    with running(tmp_path / "archive", tls=tls) as node:
        with associate(node, Verification, tls_args=(trusting, LOCALHOST)) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        assert not associate(node, Verification).is_established


def test_peers_may_need_a_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    tls = TLS(cert=str(tmp_path / "node.pem"), ca=str(tmp_path / "ca.pem"))
    without = client_context(ca=tmp_path / "ca.pem")
    with_one = client_context(ca=tmp_path / "ca.pem", certificate=tmp_path / "node.pem")
    with running(tmp_path / "archive", tls=tls) as node:
        assert not associate(node, Verification, tls_args=(without, LOCALHOST)).is_established
        with associate(node, Verification, tls_args=(with_one, LOCALHOST)) as assoc:
            assert assoc.send_c_echo().Status == 0x0000


def test_peers_need_a_certificate_whatever_is_not_checked_of_destinations(
    tmp_path: Path, authority: trustme.CA
) -> None:
    tls = TLS(cert=str(tmp_path / "node.pem"), ca=str(tmp_path / "ca.pem"), no_verify=True)
    without = client_context(ca=tmp_path / "ca.pem")
    with running(tmp_path / "archive", tls=tls) as node:
        assert not associate(node, Verification, tls_args=(without, LOCALHOST)).is_established


def test_it_sends_over_tls(tmp_path: Path, authority: trustme.CA) -> None:
    receiver = Receiver()
    ae = AE("THERE")
    server = ae.start_server(
        (LOCALHOST, 0),
        block=False,
        contexts=[CT],
        ssl_context=server_context(tmp_path / "node.pem"),
        evt_handlers=receiver.handlers,
    )
    assert server is not None
    places = {"THERE": Destination(LOCALHOST, server.server_address[1], tls=True)}
    with running(
        tmp_path / "archive", destinations=places, tls=TLS(ca=str(tmp_path / "ca.pem"))
    ) as node:
        assert store(node, make_object()) == [0x0000]
        *_, (status, _) = move(node, study_of(), "THERE")
    ae.shutdown()
    assert counts(status) == (0x0000, 1, 0)
    assert len(receiver.objects) == 1


def test_the_key_may_have_a_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    tls = TLS(cert=str(tmp_path / "gone.pem"), key_password_file=str(tmp_path / "password"))
    with pytest.raises(TLSConfigurationError, match=r"gone\.pem"):
        Node(configuration_of(tmp_path / "archive", tls=tls)).start()
    tls = TLS(cert="cert.pem", key_password_file=str(tmp_path / "nothing"))
    with pytest.raises(TLSConfigurationError, match=r"cannot read .*nothing"):
        Node(configuration_of(tmp_path / "archive", tls=tls)).start()


# --- Beginning and end ------------------------------------------------------------------------


@pytest.mark.only_with("sqlite", "with PostgreSQL there may be several")
def test_one_node_for_a_folder(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        with pytest.raises(FolderUnusable, match="another process uses"), running(tmp_path):
            pass
        assert find(node, study_of())
    with running(tmp_path):
        pass


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match="cannot be used: "), running(tmp_path / "file"):
        pass


@pytest.mark.only_with("sqlite", "the file of the index")
def test_a_file_that_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "index.sqlite").write_bytes(b"something else" * 1000)
    with pytest.raises(FolderUnusable, match="not a database"), running(tmp_path / "archive"):
        pass


def test_a_folder_whose_files_are_all_gone(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        assert store(node, make_object()) == [0x0000]
    for name in stored_in(tmp_path):
        of_folder(tmp_path).lose(tmp_path, name)
    with pytest.raises(FolderUnusable, match=r"cannot be used: .* mounted") as error:
        Node(configuration_of(tmp_path)).start()
    assert "\n" not in str(error.value)


def test_an_address_in_use_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.create_server((LOCALHOST, 0)) as taken:
        configuration = configuration_of(port=taken.getsockname()[1], folder=tmp_path)
        with pytest.raises(OSError, match="in use"):
            Node(configuration).start()
    with running(tmp_path) as node:
        assert find(node, study_of())


def test_it_waits_for_associations_when_it_stops(tmp_path: Path) -> None:
    node = Node(configuration_of(tmp_path, stop_timeout=20))
    node.start()
    assoc = associate(node, CT)
    stopper = threading.Thread(target=node.stop)
    stopper.start()
    node.wait()  # until it takes no more associations
    assert assoc.send_c_store(make_object()).Status == 0x0000
    assoc.release()
    stopper.join(20)
    assert not stopper.is_alive()
    assert len(stored_in(tmp_path)) == 1


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, stop_timeout=0.1) as node:
        assoc = associate(node, CT)
    assoc.join(20)
    assert assoc.is_aborted


def test_it_can_be_stopped_twice_and_without_a_start(tmp_path: Path) -> None:
    node = Node(configuration_of(tmp_path))
    node.stop()
    node.start()
    node.stop()
    node.stop()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists files as Linux does")
def test_no_file_of_the_folder_is_left_open(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        store(node, make_object())
        find(node, study_of())
        get(node, Receiver(), study_of(), CT)
    files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert [file for file in files if file.startswith(str(tmp_path))] == []
