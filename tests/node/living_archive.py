"""The archive as a process of a node has it, without a server, and with a clock moved by hand."""

from __future__ import annotations

from typing import Any

from spooling import CT, EXPLICIT, encoded, spooled

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration
from dicomwire.node.heads import Origin
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.maintenance import check
from dicomwire.node.objects.opening import open_objects
from dicomwire.node.tasks.threads import TaskThreads


class LivingArchive(Archive):
    """An archive, into which objects are stored one by one."""

    def __init__(self, configuration: Configuration, owner: str = "tests") -> None:
        super().__init__(configuration, owner)
        self.now = 1_800_000_000.0
        self.queue.clock = lambda: self.now

    def put(self, number: int, study_uid: str = "1.2.3", **values: Any) -> int:
        """Store an object of a study; return the status."""
        uid = values.pop("uid", f"{study_uid}.1.{number}")
        own = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": f"{study_uid}.1"}
        payload = spooled(self.spool, encoded(uid, **{**own, **values}))
        try:
            return self.committer.store(payload, Origin(CT, uid, EXPLICIT, "TESTER"))
        finally:
            payload.discard()

    def run_tasks(self, after: float = 0.0) -> None:
        """Run the tasks that are due after so many seconds."""
        self.now += after
        kinds = self.store_tasks.kinds()
        threads = TaskThreads(self.queue, kinds, jitter=lambda: 0.0)
        for kind in kinds:
            while threads.step(kind) == 0:
                pass

    def counts(self) -> list[int]:
        """Return the numbers of patients, studies, series and instances."""
        with self.index.reading() as connection:
            return [
                len(connection.execute(table.select()).all())
                for table in (patient, study, series, instance)
            ]

    def uids(self) -> set[str]:
        """Return the SOP Instance UIDs in the index."""
        return {stored.sop_instance_uid for stored in self.index.stored()}

    def files(self) -> int:
        """Return the number of objects in the store."""
        return len([*self.objects.names()])

    def is_whole(self) -> bool:
        """Return whether `node check` finds nothing."""
        configuration = self.configuration
        objects = open_objects(configuration)
        return not [*check(configuration.folder, index=configuration.index, objects=objects)]
