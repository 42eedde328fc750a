"""What the tests within the process of the drop-in need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.sop_class import CTImageStorage, Verification


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give what sets options for one test."""

    def set_options(**options: Any) -> None:
        for name, value in options.items():
            assert hasattr(_config, name)
            monkeypatch.setattr(_config, name, value)

    return set_options


@pytest.fixture
def ct() -> Dataset:
    """Give an object to store."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = "1.2.3"
    ds.PatientName = "Doe^Jane"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.fixture
def connect() -> Iterator[Callable[..., SimpleNamespace]]:
    """Give what starts a server and requests an association from it."""
    entities = []

    def begin(
        on_server: list[Any] | None = None,
        on_client: list[Any] | None = None,
        contexts: tuple[str, ...] = (Verification, CTImageStorage),
        supported: tuple[str, ...] | None = None,
        **options: Any,
    ) -> SimpleNamespace:
        scp, scu = AE(), AE()
        entities.extend((scp, scu))
        for uid in contexts if supported is None else supported:
            scp.add_supported_context(uid)
        for uid in contexts:
            scu.add_requested_context(uid)
        server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=on_server)
        port = server.server_address[1]
        assoc = scu.associate("127.0.0.1", port, evt_handlers=on_client, **options)
        return SimpleNamespace(scp=scp, scu=scu, server=server, port=port, assoc=assoc)

    yield begin
    for entity in entities:
        entity.shutdown()
