"""Datasets of more items than the limits allow: decoding fails, and the association goes on."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from scenario import RELEASED, make_ct, state

from dicomwire import evt
from dicomwire.protocol.limits import Limits
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import Printer
from raw_peer import CT

FEW = Limits(dataset_items=100)


def with_items(count: int, ds: Dataset | None = None) -> Dataset:
    ds = Dataset() if ds is None else ds
    ds.QueryRetrieveLevel = "PATIENT"
    ds.ReferencedStudySequence = [Dataset() for _ in range(count)]
    return ds


def associated(face, handlers, **settings):
    """Return an association with a server that has these handlers and limits."""
    server = face.serve(handlers, supported=[CT, FIND, Printer], limits=FEW)
    return face.associate(server, contexts=[CT, FIND, Printer], **settings)


@pytest.mark.parametrize(("count", "status"), [(100, 0x0000), (101, 0xC311)])
def test_an_identifier(face, count, status):
    def handler(event):
        assert event.identifier
        return iter(())

    with associated(face, [(evt.EVT_C_FIND, handler)]) as assoc:
        ((answer, _),) = assoc.send_c_find(with_items(count), FIND)
        assert answer.Status == status
    assert state(assoc) == RELEASED


@pytest.mark.parametrize(("count", "status"), [(100, 0x0000), (101, 0x0110)])
def test_the_dataset_of_an_n_service(face, count, status):
    handlers = [(evt.EVT_N_SET, lambda event: (0x0000, event.modification_list and None))]
    with associated(face, handlers) as assoc:
        answer, _ = assoc.send_n_set(with_items(count), Printer, "1.2.3")
        assert answer.Status == status
    assert state(assoc) == RELEASED


@pytest.mark.parametrize(("count", "status"), [(100, 0x0000), (101, 0xC211)])
def test_an_object(face, count, status):
    def handler(event):
        assert event.dataset
        return 0x0000

    with associated(face, [(evt.EVT_C_STORE, handler)]) as assoc:
        assert assoc.send_c_store(with_items(count, make_ct())).Status == status
    assert state(assoc) == RELEASED


def test_a_large_object_may_have_more(face):
    def handler(event):
        assert event.dataset
        return 0x0000

    with associated(face, [(evt.EVT_C_STORE, handler)]) as assoc:
        assert assoc.send_c_store(with_items(1000, make_ct(24_000))).Status == 0x0000


@pytest.mark.parametrize(("count", "is_there"), [(100, True), (101, False)])
def test_a_match_that_a_provider_sends(face, count, is_there):
    handlers = [(evt.EVT_C_FIND, lambda event: [(0xFF00, with_items(count))])]
    with associated(face, handlers, limits=FEW) as assoc:
        (pending, match), (last, _) = assoc.send_c_find(with_items(1), FIND)
        assert (pending.Status, match is not None, last.Status) == (0xFF00, is_there, 0x0000)
    assert state(assoc) == RELEASED


@pytest.mark.parametrize(("count", "status"), [(100, 0x0000), (101, 0x0110)])
def test_the_reply_of_an_n_service(face, count, status):
    handlers = [(evt.EVT_N_GET, lambda event: (0x0000, with_items(count)))]
    with associated(face, handlers, limits=FEW) as assoc:
        answer, _ = assoc.send_n_get([], Printer, "1.2.3")
        assert answer.Status == status
    assert state(assoc) == RELEASED
