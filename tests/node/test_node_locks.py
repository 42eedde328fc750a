"""No two locks of an archive are taken in both orders, so that no two threads block each other."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage
from running_node import Receiver, find, get, make_object, running, store, study_of
from web_client import address_of

from dicomwire.threaded import threads
from dicomwire.web import Client
from lock_notes import PACKAGE, locks_of, note_locks


def test_locks_are_taken_in_one_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notes = note_locks(monkeypatch, locks_of(sorted(PACKAGE.rglob("*.py"))))
    monkeypatch.setattr(threads, "_pool", threads.ThreadPool())
    objects = [make_object(number) for number in range(3)]
    with running(tmp_path, http=0) as node:
        assert store(node, *objects, objects[0]) == [0x0000] * 4
        assert len(find(node, study_of())) == 2
        assert len(get(node, Receiver(), study_of(), CTImageStorage)) == 4
        host, port = address_of(node)
        with Client(f"http://{host}:{port}/dicom-web") as client:
            (stored,) = client.store([make_object(4)])
            assert stored.is_stored
            client.delete("1.2.3")

    order = TopologicalSorter[str]()
    for held, taken in notes.nested:
        if held != taken:
            order.add(taken, held)
    order.prepare()  # raises CycleError with the locks of a circle
    assert ("Committer.commit_lock", "Index._lock") in notes.nested
