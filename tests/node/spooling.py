"""A node's folder without a node: objects are brought to it as handlers of C-STORE would do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from backends import EMBEDDED, Backend, of_folder
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from sqlalchemy import select

from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.node.batches import Waiters
from dicomwire.node.checkpoints import Checkpoints, journaling
from dicomwire.node.commit import Committer
from dicomwire.node.configuration import STORESCP, Configuration, Duplicates, Route
from dicomwire.node.converters import Converters
from dicomwire.node.heads import Origin
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.writer import Index
from dicomwire.node.journal import Batch, Journal, Slot
from dicomwire.node.objects.opening import folder_within
from dicomwire.node.objects.spool import Spool, Spooled
from dicomwire.node.routing import DIGITS, SEND, Routing
from dicomwire.node.tasks.queue import Queue, listed
from dicomwire.node.visible import StudyFilter

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def make(uid: str, note: str = "", **values: object) -> Dataset:
    """Return a dataset; `note` makes it differ from another one of the same UID."""
    ds = Dataset()
    usual = {
        "SOPClassUID": CT,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "PatientID": "P1",
        "PatientName": "Doe^John",
        "Modality": "CT",
        "ImageComments": note,
    }
    with disable_value_validation():
        for keyword, value in (usual | values).items():
            setattr(ds, keyword, value)
    return ds


def encoded(uid: str, note: str = "", pixels: int = 0, **values: object) -> bytes:
    """Return `make` encoded in explicit VR little endian, with so many bytes of pixel data."""
    ds = make(uid, note, **values)
    if pixels:
        ds.add_new("PixelData", "OW", note.encode()[:1] * pixels or bytes(pixels))
    return encode_dataset(ds, EXPLICIT)


def sized(uid: str, note: str, pixels: int) -> Dataset:
    """Return `make` with so many bytes of pixel data, to be sent."""
    ds = make(uid, note)
    if pixels:
        ds.add_new("PixelData", "OW", bytes(pixels))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    return ds


def digits_of(data: bytes, syntax: str = EXPLICIT) -> str:
    """Return the first digits of the digest that an archive has of a dataset."""
    return hashlib.sha256(data + syntax.encode()).hexdigest()[:DIGITS]


def spooled(spool: Spool, data: bytes, piece: int = 50_000) -> Spooled:
    """Return `data` as it is when it has come from the network, in pieces."""
    sink = spool.sink()
    view = memoryview(data)
    for start in range(0, len(view), piece):
        sink.write([view[start : start + piece]])
    return sink.finish()


class LocalStore:
    """A node's folder without an index: the spool, and the store of objects."""

    def __init__(
        self, folder: Path, ceiling: int | None = None, backend: Backend = EMBEDDED
    ) -> None:
        self.folder = folder
        self.spool = Spool(folder, ceiling)
        self.objects = backend.store(folder, self.spool)
        self._journal = ExitStack()

    def __enter__(self) -> LocalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()
        self.spool.close()

    def put(self, payloads: Sequence[Spooled]) -> list[str]:
        """Store sealed objects, as the batch of a committer."""
        folder = folder_within(self.objects)
        if folder.journal is None:
            folder.journal = Journal(str(self.folder))
            self._journal.callback(folder.journal.close)
            self._journal.callback(folder.close)
        names = self.objects.new_names(payloads)
        batch = Batch(1, [Slot("1.2", 0, False)] * len(payloads), [])
        try:
            self.objects.put(payloads, names, batch)
            self.objects.finish(payloads, names)
        except OSError:
            self.objects.take_back(payloads, names)
            raise
        return names


def spool_files(folder: Path) -> list[Path]:
    """Return the files in the spool of a node, without the locks of the processes."""
    spool = (folder / "spool").rglob("*")
    return [path for path in spool if path.is_file() and path.name != "lock"]


class OpenArchive:
    """Storage, index and committer of one folder, as a running node has them."""

    def __init__(
        self,
        folder: Path,
        duplicates: Duplicates = Duplicates.KEEP_FIRST,
        backend: Backend | None = None,
        *,
        has_checkpoints: bool = True,
        routes: Sequence[Route] = (),
    ) -> None:
        self.folder = folder
        backend = backend or of_folder(folder)
        with ExitStack() as opened:
            self.storage = opened.enter_context(LocalStore(folder, None, backend))
            self.index = opened.enter_context(Index(backend.database(folder)))
            in_folder = folder_within(self.storage.objects)
            opened.enter_context(journaling(in_folder, self.index))
            converters = Converters(self.storage.spool.make_file)
            opened.callback(converters.close)
            self.queue = Queue(self.index, "this process")
            destinations = {name: STORESCP for route in routes for name in route.to}
            configuration = Configuration(destinations=destinations, routes=tuple(routes))
            self.routing = Routing(configuration, self.queue)
            is_journaled = self.storage.objects.is_journaled
            self.committer = Committer(
                *(self.storage.objects, self.index, converters, duplicates),
                routing=self.routing,
                journal=in_folder.journal if is_journaled and not backend.index else None,
            )
            if has_checkpoints:
                opened.enter_context(Checkpoints(in_folder, self.index, self.committer.commit_lock))
            self._open = opened.pop_all()

    def __enter__(self) -> OpenArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self.committer.close()
        self._open.close()

    def store(
        self,
        data: bytes,
        uid: str,
        syntax: str = EXPLICIT,
        sop_class: str = CT,
        studies: StudyFilter | None = None,
        respond: Callable[[], object] | None = None,
    ) -> int:
        """Bring an object, and return the status that its sender would get."""
        payload = spooled(self.storage.spool, data)
        origin = Origin(sop_class, uid, syntax, "SENDER", studies=studies)
        try:
            return self.committer.store(payload, origin, respond)
        finally:
            payload.discard()

    def batches(self) -> list[int]:
        """Return a list to which the number of objects of each further batch is added."""
        numbers: list[int] = []
        store_all = self.committer._store_all

        def note(batch: list[Any], waiters: Waiters) -> None:
            numbers.append(len(batch))
            store_all(batch, waiters)

        self.committer._store_all = note
        return numbers

    def wait_for_journal(self) -> None:
        """Wait until the journal can be used, after a failure."""
        journal = folder_within(self.storage.objects).journal
        assert journal is not None
        with journal._changed:
            assert journal._changed.wait_for(lambda: journal.failure is None, 30)

    def notes(self) -> dict[str, list[str]]:
        """Return what is found, by UID: the comment of each copy, in the order of copies."""
        query = select(instance).order_by(instance.c.copy)
        found: dict[str, list[str]] = {}
        with self.index.reading() as connection:
            for row in connection.execute(query):
                comment = row.attributes["00204000"].get("Value", [""])[0]
                found.setdefault(row.sop_instance_uid, []).append(comment)
        return found

    def datasets(self) -> dict[str, bytes]:
        """Return the dataset of each file in the index, by its name, verified by its digest."""
        found = {}
        with self.index.reading() as connection:
            for row in connection.execute(select(instance)):
                data = self.read(row.file)
                assert len(data) == row.size
                dataset = data[parse_file_meta(data).offset :]
                whole = hashlib.sha256(dataset + row.transfer_syntax_uid.encode())
                assert whole.hexdigest() == row.digest
                found[row.file] = dataset
        return found

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Iterate over UID and dataset of each file that the index knows."""
        for stored in self.index.stored():
            data = self.read(stored.file)
            yield stored.sop_instance_uid, data[parse_file_meta(data).offset :]

    def counts(self) -> tuple[int, ...]:
        """Return how many patients, studies, series and instances the index has."""
        with self.index.reading() as connection:
            return tuple(
                len(connection.execute(select(table.c.id)).all())
                for table in (patient, study, series, instance)
            )

    def read(self, name: str) -> bytes:
        """Return the whole file of an object."""
        with self.storage.objects.open(name) as file:
            return file.read()

    def queued(self) -> set[tuple[str, str, str]]:
        """Return destination, UID and the first digits of the digest of all objects to send."""
        return {
            (task.kind.removeprefix(SEND), task.payload["uid"], task.payload["digest"])
            for task in listed(self.index)
            if task.kind.startswith(SEND)
        }

    def files(self) -> list[Path]:
        """Return all that is in the folder of objects."""
        return sorted(path for path in (self.folder / "objects").rglob("*") if path.is_file())

    def objects(self) -> list[str]:
        """Return the names of all objects in the store."""
        return [*self.storage.objects.names()]

    def spool(self) -> list[Path]:
        """Return all that is in the spool."""
        return spool_files(self.folder)


def all_at_once(tasks: Iterable[Callable[[], None]]) -> None:
    """Run each task in a thread of its own, begun together; the first exception is raised."""
    tasks = list(tasks)
    barrier = threading.Barrier(len(tasks))
    failures: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            barrier.wait()
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
