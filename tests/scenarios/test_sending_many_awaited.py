"""Many objects to one peer from an asyncio program; what is sent where is in test_sending_many."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from scenario import Threaded, make_ct

from dicomwire import ALL_TRANSFER_SYNTAXES, AssociationFailure, Retry, evt
from dicomwire.aio import AE, send_many
from raw_peer import CT, WAIT

SOON = Retry(delay=0.01, longest_delay=0.05)


class Archive:
    """A server of the threaded face that remembers what it stored."""

    def __init__(self, face: Threaded) -> None:
        self.stored: Counter[str] = Counter()
        self.before = lambda event: None
        self.busiest = 0
        ae = face.ae("SCP", operations_window=16)
        ae.add_supported_context(CT, ALL_TRANSFER_SYNTAXES)
        self.server = face.serve([(evt.EVT_C_STORE, self._store)], ae=ae)
        self.address = ("127.0.0.1", self.server.server_address[1])
        self.is_quiet = lambda: face.is_quiet(self.server)

    def _store(self, event) -> int:
        self.busiest = max(self.busiest, len(self.server.active_associations))
        status = self.before(event)
        if status is None:
            self.stored[event.request.AffectedSOPInstanceUID] += 1
            return 0
        return status


@pytest.fixture
def archive() -> Iterator[Archive]:
    threaded = Threaded()
    yield Archive(threaded)
    threaded.close()


def objects(count: int) -> list:
    return [make_ct(instance=f"1.2.3.{number}") for number in range(count)]


def expected(count: int) -> dict[str, int]:
    return {f"1.2.3.{number}": 1 for number in range(count)}


async def sent_by(results) -> list:
    return [each async for each in results]


@pytest.mark.parametrize(("associations", "window"), [(1, 1), (1, 16), (4, 4)])
def test_all_are_stored_once(archive, associations, window):
    async def program():
        options = {"associations": associations, "window": window}
        return await sent_by(send_many(AE(), archive.address, objects(200), **options))

    results = asyncio.run(program())
    assert all(each.is_stored for each in results)
    assert len(results) == 200
    assert archive.stored == expected(200)
    assert archive.busiest <= associations
    assert archive.is_quiet()


def test_items_that_are_awaited(archive):
    async def items():
        for each in objects(50):
            await asyncio.sleep(0)
            yield each

    async def program():
        return await sent_by(send_many(AE(), archive.address, items(), associations=3, window=4))

    assert all(each.is_stored for each in asyncio.run(program()))
    assert archive.stored == expected(50)


def test_associations_that_are_lost(archive):
    calls = iter(range(1_000_000))

    def before(event):
        if next(calls) % 20 == 19:
            event.assoc.abort()
        return None if event.assoc.is_established else 0xC000

    archive.before = before

    async def program():
        options = {"associations": 3, "window": 8, "retry": SOON}
        return await sent_by(send_many(AE(), archive.address, objects(150), **options))

    results = asyncio.run(program())
    assert all(each.is_stored for each in results)
    assert archive.stored == expected(150)


def test_nobody_there(archive):
    archive.server.shutdown()

    async def program():
        return await sent_by(send_many(AE(), archive.address, objects(9), associations=2))

    results = asyncio.run(program())
    assert len(results) == 9
    assert all(isinstance(each.failure, AssociationFailure) for each in results)


def test_an_iterable_that_fails(archive):
    async def items():
        yield make_ct()
        raise ZeroDivisionError

    async def program():
        results = send_many(AE(), archive.address, items())
        assert (await anext(results)).is_stored
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        assert await sent_by(results) == []

    asyncio.run(program())


def test_an_iterable_that_waits_for_an_earlier_result(archive):
    async def program():
        is_stored = asyncio.Event()

        async def items():
            yield make_ct(instance="1.2.3.0")
            await is_stored.wait()
            yield make_ct(instance="1.2.3.1")

        async with asyncio.timeout(WAIT):
            async for each in send_many(AE(), archive.address, items(), associations=2):
                assert each.is_stored
                is_stored.set()

    asyncio.run(program())
    assert archive.stored == expected(2)


def test_the_program_has_enough_while_the_iterable_is_slow(archive):
    async def items():
        yield make_ct()
        await asyncio.Event().wait()

    async def program():
        results = send_many(AE(), archive.address, items(), associations=2)
        assert (await anext(results)).is_stored
        async with asyncio.timeout(WAIT):
            await results.aclose(0.05)
        assert len(asyncio.all_tasks()) == 1
        assert await asyncio.to_thread(archive.is_quiet)

    asyncio.run(program())


def test_no_loop_waits_for_the_disk_that_the_ledger_is_on(archive, tmp_path, monkeypatch):
    synced_by = []
    monkeypatch.setattr("dicomwire.bulk.ledger._SYNC_EVERY", 3)
    monkeypatch.setattr(os, "fsync", lambda file: synced_by.append(threading.current_thread()))

    async def program():
        options = {"window": 4, "ledger": tmp_path / "ledger"}
        assert len(await sent_by(send_many(AE(), archive.address, objects(10), **options))) == 10

    asyncio.run(program())
    assert len(synced_by) == 4  # after every third, and at the end
    assert threading.current_thread() not in synced_by


def test_the_program_has_enough_and_resumes(archive, tmp_path):
    ledger = tmp_path / "ledger"

    async def some():
        options = {"window": 4, "ledger": ledger}
        async with send_many(AE(), archive.address, iter(objects(100)), **options) as results:
            for _ in range(20):
                assert (await anext(results)).is_stored

    async def rest():
        return await sent_by(send_many(AE(), archive.address, objects(100), ledger=ledger))

    asyncio.run(some())
    before = sum(archive.stored.values())
    assert 20 <= before < 100
    results = asyncio.run(rest())
    assert sum(each.is_resumed for each in results) == before
    assert archive.stored == expected(100)
    assert archive.is_quiet()


def test_a_task_that_is_cancelled(archive):
    go_on = threading.Event()
    archive.before = lambda event: go_on.wait(WAIT) and None

    async def program():
        options = {"associations": 2, "window": 4}
        results = send_many(AE(), archive.address, objects(99), **options)
        task = asyncio.create_task(sent_by(results))
        while not archive.busiest:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
        go_on.set()
        assert await asyncio.to_thread(archive.is_quiet)

    asyncio.run(program())
