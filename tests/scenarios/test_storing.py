"""C-ECHO and C-STORE as a provider serves them: handlers, statuses, and where datasets go."""

from __future__ import annotations

import errno
import os
import threading
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from scenario import RELEASED, Recorder, eventually, make_ct, state

from dicomwire import build_context, evt
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import Abort, PDataTF
from raw_peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, WAIT, RawPeer, context, store_request


def status_of(**elements):
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def fail(event):
    raise ZeroDivisionError("a handler's own error")


# --- Statuses ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (0x0000, 0x0000),
        (0xB000, 0xB000),
        (0xA700, 0xA700),
        (0xC123, 0xC123),
        (0x1234, 0x1234),  # not in the table: as it is
        (True, 1),
        (status_of(Status=0x0000), 0x0000),
        (status_of(), 0xC001),
        (status_of(ErrorComment="?"), 0xC001),
        (None, 0xC002),
        ("0000", 0xC002),
        ((0, None), 0xC002),
    ],
)
def test_what_a_store_handler_answers(face, answer, expected):
    server = face.serve([(evt.EVT_C_STORE, lambda event: answer)])
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == expected
        assert assoc.is_established


def test_a_status_with_more_to_say(face):
    answer = status_of(Status=0xA900, ErrorComment="of another class", OffendingElement=0x00080016)
    server = face.serve([(evt.EVT_C_STORE, lambda event: answer)])
    with face.associate(server) as assoc:
        status = assoc.send_c_store(make_ct())
    assert status.Status == 0xA900
    assert status.ErrorComment == "of another class"
    assert status.OffendingElement == 0x00080016


def test_an_unknown_element_of_a_status_is_not_sent(face, caplog):
    answer = status_of(Status=0xB000, PatientName="Doe^Jane")
    server = face.serve([(evt.EVT_C_STORE, lambda event: answer)])
    with face.associate(server) as assoc:
        status = assoc.send_c_store(make_ct())
    assert list(status.keys()) == [0x00000900]
    assert any("(0010,0010)" in text for text in caplog.messages)
    assert not any("Doe" in text for text in caplog.messages)


def test_a_store_handler_that_fails(face, caplog):
    server = face.serve([(evt.EVT_C_STORE, fail)])
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xC211
        assert assoc.send_c_store(make_ct()).Status == 0xC211
    assert state(assoc) == RELEASED
    assert any("EVT_C_STORE" in text for text in caplog.messages)


def test_no_store_handler(face):
    with face.associate(face.serve()) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xC211


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (lambda event: 0x0000, 0x0000),
        (lambda event: 0x0122, 0x0122),
        (lambda event: status_of(Status=0x0210), 0x0210),
        (lambda event: 0xABCD, 0xABCD),
        (lambda event: status_of(), 0x0000),
        (lambda event: None, 0x0000),
        (lambda event: "0", 0x0000),
        (fail, 0x0000),
    ],
)
def test_whatever_an_echo_handler_does_there_is_an_answer(face, handler, expected):
    server = face.serve([(evt.EVT_C_ECHO, handler)])
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == expected
        assert assoc.is_established


def test_an_echo_needs_no_handler(face):
    with face.associate(face.serve()) as assoc:
        for message_id in (0, 1, 65535):
            assert assoc.send_c_echo(message_id).Status == 0


def test_a_handler_that_exits_ends_its_association_alone(face, caplog):
    def leave(event):
        raise SystemExit

    server = face.serve([(evt.EVT_C_STORE, leave)])
    with face.associate(server) as assoc:
        assert "Status" not in assoc.send_c_store(make_ct())
    assert assoc.failure.by_peer
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
    assert any("SystemExit" in str(each.exc_info) for each in caplog.records)
    caplog.clear()


# --- What a handler is given ---


@pytest.fixture
def stored(face):
    """Store an object, and return what `look` says of the event."""

    def store(look, ds=None, *, contexts=(CT,), **options):
        seen = []

        def handle(event):
            seen.append(look(event))
            return 0

        server = face.serve([(evt.EVT_C_STORE, handle)], **options)
        with face.associate(server, contexts=contexts) as assoc:
            status = assoc.send_c_store(make_ct() if ds is None else ds, msg_id=77)
        assert status.Status == 0
        return seen[0]

    return store


def test_the_request(stored):
    def look(event):
        assert event.assoc.is_acceptor
        assert event.event is evt.EVT_C_STORE
        assert event.context.abstract_syntax == CT
        assert event.context.transfer_syntax == EXPLICIT
        assert event.context.context_id == 1
        assert event.message_id == event.request.MessageID == 77
        assert event.request.AffectedSOPClassUID == CT
        assert event.request.AffectedSOPInstanceUID == "1.2.3.4"
        assert event.request.Priority == 2
        assert not event.is_cancelled
        assert not event.peer_gone
        for absent in ("identifier", "attribute_list", "event_type", "move_destination"):
            with pytest.raises(AttributeError):
                getattr(event, absent)
        return True

    assert stored(look, contexts=[build_context(CT, EXPLICIT)])


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.1.99"])
def test_the_dataset(stored, syntax):
    ds = stored(
        lambda event: (event.dataset, event.dataset)[1],
        make_ct(1000, syntax=syntax),
        contexts=[build_context(CT, syntax)],
    )
    expected = make_ct(1000)
    del expected.file_meta
    assert ds == expected


def test_the_dataset_as_it_came(stored):
    contexts = [build_context(CT, EXPLICIT)]
    whole, bare, meta = stored(
        lambda event: (event.encoded_dataset(), event.encoded_dataset(False), event.file_meta),
        contexts=contexts,
    )
    assert whole[:128] == bytes(128)
    assert whole[128:132] == b"DICM"
    assert whole.endswith(bare)
    read = dcmread(BytesIO(whole))
    assert read.PixelData == make_ct().PixelData
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.TransferSyntaxUID == EXPLICIT
    buffer = BytesIO()
    ds = make_ct()
    ds.save_as(buffer, enforce_file_format=True)
    assert buffer.getvalue().endswith(bare)


def test_a_file_of_the_dataset(stored):
    def look(event):
        path = event.dataset_path
        assert isinstance(path, Path)
        return path, path.read_bytes(), event.encoded_dataset(), event.dataset.PatientName

    path, content, encoded, name = stored(look)
    assert content == encoded
    assert name == "Doe^Jane"
    assert not path.exists()


def test_a_file_that_the_handler_took_away(stored, tmp_path):
    target = tmp_path / "mine.dcm"

    def look(event):
        event.dataset_path.rename(target)

    stored(look)
    assert dcmread(target).PatientName == "Doe^Jane"


# --- Where datasets are kept meanwhile ---

BIG = 300_000


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """The folder of temporary files; nothing may be left in it."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def test_a_large_dataset_is_spooled_to_disk(stored, spool):
    def look(event):
        (file,) = spool.iterdir()
        assert file.stat().st_size >= BIG
        assert event.payload.path == file
        assert event.encoded_dataset(False) == file.read_bytes()[event.payload.offset :]
        assert event.dataset_path.exists()
        return event.dataset

    ds = stored(look, make_ct(BIG), spool_threshold=100_000)
    assert ds.PixelData == make_ct(BIG).PixelData


def test_a_small_dataset_is_not(stored, spool):
    def look(event):
        assert not list(spool.iterdir())
        assert event.payload.path is None
        return event.dataset

    assert stored(look, make_ct(1000), spool_threshold=100_000).PatientName == "Doe^Jane"


def test_no_room_for_spooling(face, monkeypatch, tmp_path):
    log = Recorder(evt.EVT_C_STORE)
    server = face.serve([(evt.EVT_C_STORE, lambda e: log(e) or 0)], spool_threshold=1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct(BIG)).Status == 0xA700
        assert not log.events
        assert assoc.send_c_store(make_ct(10)).Status == 0
    assert state(assoc) == RELEASED


def test_a_ceiling_for_objects(face, spool, caplog):
    log = Recorder(evt.EVT_C_STORE)
    server = face.serve(
        [(evt.EVT_C_STORE, lambda e: log(e) or 0)], store_ceiling=200_000, spool_threshold=100_000
    )
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct(BIG)).Status == 0xA700
        assert not log.events
        assert any("200000" in text for text in caplog.messages)
        assert assoc.send_c_store(make_ct(1000)).Status == 0
        assert assoc.send_c_store(make_ct(150_000)).Status == 0
    assert state(assoc) == RELEASED


STORE = store_request()


def begin_to_store(server):
    """Return a peer that has sent most of a dataset."""
    peer = RawPeer.connect(server.server_address[1])
    peer.associate(context(1, CT))
    peer.send_message(STORE)
    peer.send(PDataTF([(1, 0, bytes(BIG))]))
    return peer


@pytest.mark.parametrize("aborts", [True, False])
def test_spooled_data_goes_when_the_peer_leaves_in_mid_dataset(face, spool, aborts):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], spool_threshold=1000)
    with begin_to_store(server) as peer:
        assert eventually(lambda: list(spool.iterdir()))
        if aborts:
            peer.send(Abort(0, 0))
    assert face.is_quiet(server)
    assert eventually(lambda: not list(spool.iterdir()))


# --- receive_to ---


def files_in(folder):
    return sorted(each for each in folder.rglob("*") if each.is_file())


def test_receiving_into_a_folder(face, tmp_path):
    server = face.serve(receive_to=tmp_path)
    with face.associate(server) as assoc:
        for number in range(3):
            assert assoc.send_c_store(make_ct(instance=f"1.2.{number}")).Status == 0
    files = files_in(tmp_path)
    assert len(files) == 3
    assert {dcmread(each).SOPInstanceUID for each in files} == {"1.2.0", "1.2.1", "1.2.2"}
    for each in files:
        assert each.read_bytes()[:132] == bytes(128) + b"DICM"
        assert dcmread(each).file_meta.MediaStorageSOPClassUID == CT
        assert "1.2." not in each.name  # a UID of the peer's chooses no name


def test_receiving_into_files_of_ones_own_choice(face, tmp_path):
    asked = []

    def choose(request):
        asked.append(request.AffectedSOPInstanceUID)
        return tmp_path / "study" / f"{len(asked)}.dcm"

    (tmp_path / "study").mkdir()
    server = face.serve(receive_to=choose)
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct(instance="1.2.9")).Status == 0
        assert assoc.send_c_store(make_ct(instance="1.2.10")).Status == 0
    assert asked == ["1.2.9", "1.2.10"]
    assert dcmread(tmp_path / "study" / "2.dcm").SOPInstanceUID == "1.2.10"


def test_a_handler_looks_at_what_was_filed(face, tmp_path):
    seen = []

    def handle(event):
        seen.append((event.dataset_path, event.dataset.PatientName, event.encoded_dataset()))
        return 0xB000

    server = face.serve([(evt.EVT_C_STORE, handle)], receive_to=tmp_path)
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct(BIG)).Status == 0xB000
    ((path, name, encoded),) = seen
    assert files_in(tmp_path) == [path]
    assert name == "Doe^Jane"
    assert encoded == path.read_bytes()


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk(face, tmp_path, monkeypatch, caplog):
    server = face.serve(receive_to=tmp_path)
    with face.associate(server) as assoc:
        with monkeypatch.context() as patch:
            patch.setattr("dicomwire.data.new_files.os.writev", no_space)
            assert assoc.send_c_store(make_ct(BIG)).Status == 0xA700
        assert not files_in(tmp_path)
        assert any("No space left" in text for text in caplog.messages)
        assert assoc.send_c_store(make_ct(BIG)).Status == 0
    assert len(files_in(tmp_path)) == 1
    assert state(assoc) == RELEASED


def test_a_disk_that_is_full_at_the_end(face, tmp_path, monkeypatch):
    server = face.serve(receive_to=tmp_path)
    with face.associate(server) as assoc:
        with monkeypatch.context() as patch:
            patch.setattr("dicomwire.data.new_files.os.replace", no_space)
            assert assoc.send_c_store(make_ct(BIG)).Status == 0xA700
        assert not files_in(tmp_path)
        assert assoc.send_c_store(make_ct(BIG)).Status == 0


def test_a_folder_that_is_not_there(face, tmp_path):
    server = face.serve(receive_to=tmp_path / "nowhere")
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xA700
        assert assoc.send_c_echo().Status == 0


def test_a_choice_that_fails(face, tmp_path, caplog):
    def choose(request):
        raise ZeroDivisionError("in the choice")

    server = face.serve(receive_to=choose)
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xC211
        assert assoc.send_c_echo().Status == 0
    assert state(assoc) == RELEASED
    assert any("failed to take the dataset" in text for text in caplog.messages)


def test_a_choice_that_is_no_file_name(face, tmp_path):
    server = face.serve(receive_to=lambda request: tmp_path / "..")
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xC211
    assert not files_in(tmp_path)


def test_a_ceiling_for_files(face, tmp_path):
    server = face.serve(receive_to=tmp_path, store_ceiling=1000)
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct(BIG)).Status == 0xA700
        assert not files_in(tmp_path)
        assert assoc.send_c_store(make_ct(100)).Status == 0


def test_a_partial_file_goes_when_the_peer_leaves(face, tmp_path):
    server = face.serve(receive_to=tmp_path)
    with begin_to_store(server):
        assert eventually(lambda: files_in(tmp_path))
    assert face.is_quiet(server)
    assert eventually(lambda: not files_in(tmp_path))


def test_requests_that_wait_are_let_go_when_the_peer_leaves(face, spool):
    """They came whole while a handler was busy, and nobody will serve them."""
    busy, go_on = threading.Event(), threading.Event()

    def handle(event):
        busy.set()
        assert go_on.wait(WAIT)
        return 0

    server = face.serve([(evt.EVT_C_STORE, handle)], spool_threshold=10)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, CT))
        for _ in range(3):
            peer.send_message(STORE, bytes(1000))
        assert busy.wait(WAIT)
    go_on.set()
    assert face.is_quiet(server)
    assert eventually(lambda: not list(spool.iterdir()))


# --- Many ---


def test_identifiers_are_bounded_but_not_objects(face):
    """The ceiling for what is held in memory is not that of C-STORE."""
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], limits=Limits(identifier=1000))
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct(BIG)).Status == 0


def test_associations_side_by_side(face):
    count, each = 12, 15
    lock, received = threading.Lock(), []

    def handle(event):
        with lock:
            received.append(event.request.AffectedSOPInstanceUID)
        return 0

    server = face.serve([(evt.EVT_C_STORE, handle)], maximum_associations=2 * count)
    together = threading.Barrier(count)
    failures = []

    def send(number):
        with face.associate(server) as assoc:
            together.wait(WAIT)
            for index in range(each):
                ds = make_ct(5000, instance=f"1.2.{number}.{index}")
                if assoc.send_c_store(ds, msg_id=index).Status != 0:
                    failures.append(ds.SOPInstanceUID)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not failures
    assert len(set(received)) == len(received) == count * each
    assert not server.active_associations


def test_threads_that_share_an_association(face):
    served = []

    def handle(event):
        served.append(threading.get_ident())
        return event.request.MessageID

    server = face.serve([(evt.EVT_C_ECHO, handle)])
    with face.associate(server) as assoc:
        answers = []

        def call(first):
            for message_id in range(first, first + 50):
                answers.append(assoc.send_c_echo(message_id).Status == message_id)

        threads = [threading.Thread(target=call, args=(k * 100,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert answers == [True] * 200
    assert len(served) == 200


def test_a_handler_with_an_association_of_its_own(face):
    archive = face.serve([(evt.EVT_C_STORE, lambda event: 0xB007)])
    ae = face.ae("ROUTER")

    def forward(event):
        ds = event.dataset
        ds.file_meta = event.file_meta
        with face.associate(archive, ae=ae) as onward:
            return onward.send_c_store(ds).Status

    router = face.serve([(evt.EVT_C_STORE, forward)])
    with face.associate(router) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xB007


def test_a_handler_with_an_association_to_its_own_server(face):
    ae = face.ae("SELF")

    def again(event):
        depth = event.message_id
        if depth == 0:
            return 0x0211
        with face.associate(server, ae=ae) as inner:
            return inner.send_c_echo(depth - 1).Status

    server = face.serve([(evt.EVT_C_ECHO, again)])
    with face.associate(server, ae=ae) as assoc:
        assert assoc.send_c_echo(5).Status == 0x0211
    assert not ae.active_associations


def test_stores_one_after_the_other_in_one_message_id(face):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], supported=[CT, VERIFICATION])
    with face.associate(server) as assoc:
        for _ in range(50):
            assert assoc.send_c_store(make_ct(2000)).Status == 0
            assert assoc.send_c_echo().Status == 0
