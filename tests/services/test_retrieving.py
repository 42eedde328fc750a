"""C-GET and C-MOVE as provider: what is sent where, how it is counted, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_port import (
    LOST,
    FakePort,
    FakeStorer,
    image,
    keys,
    received,
    unencodable,
    yielding,
)

from dicomwire import evt
from dicomwire.errors import AssociationRejected, ConnectionLost, LocalProtocolError
from dicomwire.protocol.command import Command
from dicomwire.services.retrieve import without_bulk_data
from dicomwire.sop_class import (
    ColorPaletteQueryRetrieveInformationModelGet,
    ColorPaletteQueryRetrieveInformationModelMove,
    CompositeInstanceRetrieveWithoutBulkDataGet,
    CompositeInstanceRootRetrieveGet,
    CompositeInstanceRootRetrieveMove,
    DefinedProcedureProtocolInformationModelGet,
    DefinedProcedureProtocolInformationModelMove,
    GenericImplantTemplateInformationModelGet,
    GenericImplantTemplateInformationModelMove,
    HangingProtocolInformationModelGet,
    HangingProtocolInformationModelMove,
    InventoryGet,
    InventoryMove,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    ProtocolApprovalInformationModelGet,
    ProtocolApprovalInformationModelMove,
)

GET, MOVE = Command.C_GET_RQ, Command.C_MOVE_RQ
EVENT = {GET: evt.EVT_C_GET, MOVE: evt.EVT_C_MOVE}
MODEL = {
    GET: PatientRootQueryRetrieveInformationModelGet,
    MOVE: PatientRootQueryRetrieveInformationModelMove,
}
SERVICES = [
    (GET, PatientRootQueryRetrieveInformationModelGet),
    (GET, CompositeInstanceRootRetrieveGet),
    (GET, HangingProtocolInformationModelGet),
    (GET, ColorPaletteQueryRetrieveInformationModelGet),
    (GET, GenericImplantTemplateInformationModelGet),
    (GET, DefinedProcedureProtocolInformationModelGet),
    (GET, ProtocolApprovalInformationModelGet),
    (GET, InventoryGet),
    (MOVE, PatientRootQueryRetrieveInformationModelMove),
    (MOVE, CompositeInstanceRootRetrieveMove),
    (MOVE, HangingProtocolInformationModelMove),
    (MOVE, ColorPaletteQueryRetrieveInformationModelMove),
    (MOVE, GenericImplantTemplateInformationModelMove),
    (MOVE, DefinedProcedureProtocolInformationModelMove),
    (MOVE, ProtocolApprovalInformationModelMove),
    (MOVE, InventoryMove),
]
BOTH = pytest.mark.parametrize("command", [GET, MOVE])

PENDING, SUCCESS, CANCEL = 0xFF00, 0x0000, 0xFE00
ALL_FAILED, SOME_FAILED, UNKNOWN_DESTINATION = 0xA702, 0xB000, 0xA801
ADDRESS = ("host", 104)


def first_yields(command, count):
    return [count] if command is GET else [ADDRESS, count]


def make_port(command, *results, answers=()):
    port = FakePort((EVENT[command], yielding(*results)))
    port.storer = FakeStorer(list(answers))
    return port


def request(command, model=None, **how):
    return received(command, model or MODEL[command], keys(PatientID="1"), **how)


def retrieve(command, count, *results, answers=()):
    """Serve a handler that gives `count`, then `results`; return all responses."""
    port = make_port(command, *first_yields(command, count), *results, answers=answers)
    return port.serve(request(command))


def told(sent):
    return [(each.status, *each.counts) for each in sent]


def images(count):
    return [(PENDING, image(f"1.2.{number}")) for number in range(1, count + 1)]


# --- How it should be ---


@pytest.mark.parametrize(("command", "model"), SERVICES)
def test_all_objects_are_sent(command, model):
    port = make_port(command, *first_yields(command, 2), *images(2))
    sent = port.serve(request(command, model))
    assert told(sent) == [
        (PENDING, 1, 1, 0, 0),
        (PENDING, 0, 2, 0, 0),
        (SUCCESS, None, 2, 0, 0),
    ]
    assert [each.data for each in sent] == [None, None, None]
    assert {each.message.command for each in sent} == {command | 0x8000}
    assert {each.message.AffectedSOPClassUID for each in sent} == {model}
    assert [each[0].SOPInstanceUID for each in port.storer.stored] == ["1.2.1", "1.2.2"]
    assert port.storer.closed


def test_the_handler_gets_the_request():
    seen = []

    def handler(event):
        seen.append((event.identifier.PatientID, event.message_id, event.move_destination))
        return [(None, None)]

    FakePort((evt.EVT_C_MOVE, handler)).serve(request(MOVE))
    assert seen == [("1", 7, "DESTINATION")]


def test_where_a_move_goes():
    port = make_port(MOVE, ("host", 104, {"ae_title": "OTHER"}), 1, *images(1))
    port.serve(request(MOVE))
    assert port.destinations == [("DESTINATION", "host", 104, {"ae_title": "OTHER"})]
    port = make_port(MOVE, ["host", 104], 1, *images(1))
    port.serve(request(MOVE))
    assert port.destinations == [("DESTINATION", "host", 104, {})]


def test_the_request_goes_to_the_storer_which_names_the_originator():
    port = make_port(MOVE, ADDRESS, 1, *images(1))
    port.serve(request(MOVE, MessageID=9))
    ((_, _, originator),) = port.storer.stored
    assert (originator.command, originator.MessageID) == (MOVE, 9)


@BOTH
@pytest.mark.parametrize(
    ("message_id", "numbers"),
    [(7, [8, 9, 10]), (65533, [65534, 65535, 1]), (65535, [1, 2, 3]), (0, [1, 2, 3])],
)
def test_message_ids_of_sub_operations(command, message_id, numbers):
    port = make_port(command, *first_yields(command, 3), *images(3))
    port.serve(request(command, MessageID=message_id))
    assert [each[1] for each in port.storer.stored] == numbers


@BOTH
@pytest.mark.parametrize("count", [0, -1, "0"])
def test_nothing_to_send(command, count):
    port = make_port(command, *first_yields(command, count), *images(1))
    (sent,) = port.serve(request(command))
    assert told([sent]) == [(SUCCESS, None, 0, 0, 0)]
    assert sent.data is None
    assert not port.destinations
    assert not port.storer.stored


@BOTH
def test_paths_are_sent_as_they_are(command, tmp_path):
    values = [str(tmp_path / "a"), tmp_path / "b"]
    port = make_port(command, *first_yields(command, 2), *((PENDING, each) for each in values))
    assert told(port.serve(request(command)))[-1] == (SUCCESS, None, 2, 0, 0)
    assert [each[0] for each in port.storer.stored] == values


@BOTH
def test_pending_without_an_object_is_ignored(command):
    sent = retrieve(command, 1, (PENDING, None), *images(1), (PENDING, None))
    assert told(sent) == [(PENDING, 0, 1, 0, 0), (SUCCESS, None, 1, 0, 0)]


@BOTH
@pytest.mark.parametrize("count", ["1", 1.0, True])
def test_a_count_is_whatever_is_a_number(command, count):
    assert told(retrieve(command, count, *images(1)))[-1] == (SUCCESS, None, 1, 0, 0)


# --- How sub-operations are counted ---


@BOTH
@pytest.mark.parametrize(
    ("answers", "counts", "status", "failures"),
    [
        ([0x0000, 0x0000], (2, 0, 0), SUCCESS, None),
        ([0x0000, 0xB000], (1, 0, 1), SOME_FAILED, []),
        ([0xB000, 0xB007], (0, 0, 2), SOME_FAILED, []),
        ([0xA700, 0x0000], (1, 1, 0), SOME_FAILED, ["1.2.1"]),
        ([0xA700, 0xB006], (0, 1, 1), SOME_FAILED, ["1.2.1"]),
        ([0xA700, 0xC123], (0, 2, 0), ALL_FAILED, ["1.2.1", "1.2.2"]),
        ([0x0122, 0x0124], (0, 2, 0), ALL_FAILED, ["1.2.1", "1.2.2"]),
        ([None, None], (0, 2, 0), ALL_FAILED, ["1.2.1", "1.2.2"]),
        ([0xFE00, 0x1234], (0, 2, 0), ALL_FAILED, ["1.2.1", "1.2.2"]),
    ],
)
def test_the_status_follows_from_the_counts(command, answers, counts, status, failures):
    sent = retrieve(command, 2, *images(2), answers=answers)
    assert told(sent)[-1] == (status, None, *counts)
    assert sent[-1].failures == failures
    assert [each.status for each in sent[:-1]] == [PENDING, PENDING]
    assert [each.counts[0] for each in sent[:-1]] == [1, 0]


@BOTH
def test_fewer_objects_than_announced_have_failed(command):
    sent = retrieve(command, 3, *images(1))
    assert told(sent) == [(PENDING, 2, 1, 0, 0), (SOME_FAILED, None, 1, 2, 0)]
    assert sent[-1].failures == []
    assert told(retrieve(command, 3)) == [(ALL_FAILED, None, 0, 3, 0)]


@BOTH
def test_more_objects_than_announced_are_not_sent(command, caplog):
    port = make_port(command, *first_yields(command, 1), *images(3))
    assert told(port.serve(request(command)))[1:] == [(SUCCESS, None, 1, 0, 0)]
    assert len(port.storer.stored) == 1
    assert "after the last sub-operation is ignored" in caplog.text


# --- How the handler may end it ---


@BOTH
def test_success_of_the_handler(command):
    sent = retrieve(command, 1, *images(1), (SUCCESS, None))
    assert told(sent)[-1] == (SUCCESS, None, 1, 0, 0)
    sent = retrieve(command, 2, *images(2), (SUCCESS, None), answers=[0xA700])
    assert told(sent)[-1] == (SOME_FAILED, None, 1, 1, 0)
    sent = retrieve(command, 1, *images(1), (SUCCESS, None), answers=[0xA700])
    assert told(sent)[-1] == (ALL_FAILED, None, 0, 1, 0)
    sent = retrieve(command, 2, *images(1), (SUCCESS, None), *images(1))
    assert told(sent)[-1] == (SOME_FAILED, None, 1, 1, 0)


@BOTH
@pytest.mark.parametrize("status", [0xA701, 0xA900, 0xC000, 0xAA02, 0xB000, 0x0107, 0x1234])
def test_failure_or_warning_of_the_handler(command, status):
    sent = retrieve(command, 3, *images(1), (status, None), *images(1))
    assert told(sent) == [(PENDING, 2, 1, 0, 0), (status, None, 1, 2, 0)]
    assert sent[-1].failures == []
    sent = retrieve(command, 3, *images(2), (status, None), answers=[0xA700])
    assert told(sent)[-1] == (status, None, 1, 2, 0)
    assert sent[-1].failures == ["1.2.1"]


@BOTH
def test_the_handler_may_give_its_own_list_of_failures(command):
    own = keys(FailedSOPInstanceUIDList=["1.9.1", "1.9.2"])
    assert retrieve(command, 2, (0xA701, own))[-1].failures == ["1.9.1", "1.9.2"]
    other = keys(PatientID="1")
    assert retrieve(command, 1, *images(1), (0xA701, other), answers=[0xC000])[-1].failures == [
        "1.2.1"
    ]


@BOTH
@pytest.mark.parametrize(
    "last",
    [
        (SUCCESS, None),
        (CANCEL, keys(FailedSOPInstanceUIDList=["1.9.1"])),
        (0xB000, None),
        (0xA702, keys(FailedSOPInstanceUIDList=["1.9.1"])),
        (0x1234, None),
        (keys(Status=0xC000, ErrorComment="no"), None),
        ("no status", None),
        5,
        ValueError("on purpose"),
    ],
    ids=repr,
)
def test_what_the_handler_says_after_the_last_sub_operation_changes_nothing(command, last):
    sent = retrieve(command, 2, *images(2), last)
    assert told(sent)[-1] == (SUCCESS, None, 2, 0, 0)
    assert (sent[-1].data, sent[-1].message.ErrorComment) == (None, None)
    sent = retrieve(command, 2, *images(2), last, answers=[0xA700])
    assert told(sent)[-1] == (SOME_FAILED, None, 1, 1, 0)
    assert sent[-1].failures == ["1.2.1"]


@BOTH
def test_the_handler_goes_on_after_the_last_sub_operation(command):
    ended = []

    def handler(event):
        yield from [*first_yields(command, 1), *images(1)]
        ended.append("here")

    event = evt.EVT_C_GET if command is GET else evt.EVT_C_MOVE
    assert told(FakePort((event, handler)).serve(request(command)))[-1] == (SUCCESS, None, 1, 0, 0)
    assert ended == ["here"]


@BOTH
def test_a_list_that_cannot_be_encoded_is_left_out(command):
    own = unencodable()
    own.FailedSOPInstanceUIDList = ["1.9.1"]
    (sent,) = retrieve(command, 1, (0xA701, own))
    assert (told([sent]), sent.data) == ([(0xA701, None, 0, 1, 0)], None)


@BOTH
def test_cancel_of_the_handler_tells_what_remains(command):
    sent = retrieve(command, 3, *images(1), (CANCEL, None), answers=[0xA700])
    assert told(sent)[-1] == (CANCEL, 2, 0, 1, 0)
    assert sent[-1].failures == ["1.2.1"]
    own = keys(FailedSOPInstanceUIDList=["1.9.1", "1.9.2"])
    sent = retrieve(command, 3, *images(1), (CANCEL, own))
    assert told(sent)[-1] == (CANCEL, 2, 1, 0, 0)
    assert sent[-1].failures == ["1.9.1", "1.9.2"]


@BOTH
def test_a_status_dataset_of_the_handler(command):
    sent = retrieve(command, 2, (keys(Status=PENDING, ErrorComment="odd"), image()), *images(1))
    assert [each.message.ErrorComment for each in sent] == ["odd", None, None]
    sent = retrieve(command, 2, (keys(Status=0xA701, ErrorComment="full"), None))
    assert [each.message.ErrorComment for each in sent] == ["full"]


# --- Handlers that go wrong ---


@BOTH
def test_a_handler_that_fails(command):
    failed = 0xC411 if command is GET else 0xC511
    results = first_yields(command, 3)
    port = make_port(command, *results, *images(1), ValueError("on purpose"))
    sent = port.serve(request(command))
    assert told(sent) == [(PENDING, 2, 1, 0, 0), (failed, None, 1, 2, 0)]
    assert sent[-1].failures == []
    assert port.storer.closed


@BOTH
def test_the_status_tells_what_a_handler_failed_before(command, caplog):
    # Before there is anything to count there is nothing but the status.
    results = first_yields(command, 3)
    for number, failed in enumerate([0xC413] if command is GET else [0xC514, 0xC513]):
        caplog.clear()
        (sent,) = make_port(command, *results[:number], ValueError()).serve(request(command))
        assert told([sent]) == [(failed, None, None, None, None)]
        assert sent.data is None
        assert len(caplog.records) == 1
    sent = retrieve(command, 3, ValueError())
    assert told(sent) == [(0xC411 if command is GET else 0xC511, None, 0, 3, 0)]


@BOTH
@pytest.mark.parametrize("result", [None, PENDING, (PENDING,), (PENDING, image(), image())])
def test_what_is_no_pair(command, result):
    sent = retrieve(command, 2, *images(1), result)
    assert told(sent)[-1] == (0xC411 if command is GET else 0xC511, None, 1, 1, 0)


@BOTH
@pytest.mark.parametrize(
    ("status", "code"), [(None, 0xC002), ("FF00", 0xC002), (-1, 0xC002), (keys(ErrorID=1), 0xC001)]
)
def test_what_is_no_status(command, status, code):
    sent = retrieve(command, 2, *images(1), (status, image()))
    assert told(sent)[-1] == (code, None, 1, 1, 0)
    assert sent[-1].failures == []


@BOTH
@pytest.mark.parametrize("count", [None, "many", [2], image()])
def test_what_is_no_count(command, count):
    (sent,) = retrieve(command, count, *images(1))
    assert told([sent]) == [(0xC413 if command is GET else 0xC513, None, None, None, None)]


@BOTH
@pytest.mark.parametrize("status", [0xA900, keys(Status=0xA900)])
def test_a_status_before_anything_else_ends_the_operation(command, status):
    port = make_port(command, (status, None), 1, *images(1))
    assert told(port.serve(request(command))) == [(0xA900, None, None, None, None)]


@BOTH
def test_a_status_instead_of_the_count_ends_the_operation(command):
    (sent,) = retrieve(command, (0x0124, None), *images(1))
    assert told([sent]) == [(0x0124, None, None, None, None)]
    assert sent.data is None


@BOTH
def test_no_count(command):
    port = make_port(command, *first_yields(command, 1)[:-1])
    assert [each.status for each in port.serve(request(command))] == [
        0xC413 if command is GET else 0xC513
    ]


@BOTH
def test_too_many_sub_operations(command):
    too_many = 0xC416 if command is GET else 0xC516
    assert [each.status for each in retrieve(command, 65536)] == [too_many]
    assert told(retrieve(command, 65535))[-1] == (ALL_FAILED, None, 0, 65535, 0)


@BOTH
@pytest.mark.parametrize("answer", [None, 5])
def test_a_handler_that_yields_nothing(command, answer):
    port = FakePort((EVENT[command], lambda event: answer))
    assert [each.status for each in port.serve(request(command))] == [
        0xC413 if command is GET else 0xC514
    ]


@BOTH
def test_no_handler(command):
    (sent,) = FakePort().serve(request(command))
    assert sent.status == (0xC411 if command is GET else 0xC511)


@BOTH
def test_a_request_whose_identifier_could_not_be_kept(command):
    (sent,) = make_port(command).serve(request(command, refusal=0xA700))
    assert told([sent]) == [(0xA700, None, None, None, None)]


# --- Destinations of C-MOVE ---


def test_no_destination():
    (sent,) = make_port(MOVE).serve(request(MOVE))
    assert told([sent]) == [(0xC514, None, None, None, None)]


@pytest.mark.parametrize("address", [(None, None), (None, 104), ("host", None), (None, None, {})])
def test_an_unknown_destination(address):
    (sent,) = make_port(MOVE, address, 1, *images(1)).serve(request(MOVE))
    assert told([sent]) == [(UNKNOWN_DESTINATION, None, None, None, None)]
    assert sent.data is None


@pytest.mark.parametrize(
    "address", [None, "host", 104, ("host",), (104, "host"), ("host", "104"), ("host", 104, [])]
)
def test_what_is_no_destination(address):
    (sent,) = make_port(MOVE, address, 1, *images(1)).serve(request(MOVE))
    assert told([sent]) == [(0xC515, None, None, None, None)]


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (LOST, UNKNOWN_DESTINATION),
        (AssociationRejected("no", 1, 1, 7), UNKNOWN_DESTINATION),
        (TypeError("no such option"), 0xC515),
        (ValueError("too many contexts"), 0xC515),
        (LocalProtocolError("no contexts"), 0xC515),
    ],
)
def test_a_destination_that_cannot_be_associated_with(problem, status):
    port = make_port(MOVE, ADDRESS, 2, *images(2))
    port.unreachable = problem
    (sent,) = port.serve(request(MOVE))
    assert told([sent]) == [(status, None, None, None, None)]
    assert sent.data is None


# --- Cancellation, and the peer's end ---


@BOTH
def test_a_handler_that_does_not_look_is_ended_by_a_cancel(command):
    ended = []

    def handler(event):
        try:
            yield from first_yields(command, 3)
            yield images(1)[0]
            port.cancelled.add(7)
            while True:
                yield images(1)[0]
        finally:
            ended.append(True)

    port = FakePort((EVENT[command], handler))
    sent = port.serve(request(command))
    # What it did before it could have looked still goes out.
    assert told(sent)[-1] == (CANCEL, 1, 2, 0, 0)
    assert sent[-1].failures == []
    assert ended
    assert port.storer.closed


@BOTH
def test_a_handler_that_looks_ends_it_itself(command):
    def handler(event):
        yield from first_yields(command, 3)
        yield images(1)[0]
        port.cancelled.add(7)
        if event.is_cancelled:
            yield CANCEL, None

    port = FakePort((EVENT[command], handler))
    assert told(port.serve(request(command)))[-1] == (CANCEL, 2, 1, 0, 0)


@BOTH
def test_a_cancel_after_the_last_object_changes_nothing(command):
    def handler(event):
        yield from first_yields(command, 1)
        yield images(1)[0]
        port.cancelled.add(7)

    port = FakePort((EVENT[command], handler))
    assert told(port.serve(request(command)))[-1] == (SUCCESS, None, 1, 0, 0)


@BOTH
def test_the_peer_is_gone_in_between(command):
    ended = []

    def handler(event):
        try:
            yield from first_yields(command, 3)
            yield images(1)[0]
            port.is_over = True
            while True:
                yield images(1)[0]
        finally:
            ended.append(True)

    port = FakePort((EVENT[command], handler))
    assert len(port.serve(request(command))) == 1
    assert ended
    assert port.storer.closed


def test_the_peer_is_gone_while_an_object_is_sent():
    port = make_port(GET, 2, *images(2), answers=[LOST])
    with pytest.raises(ConnectionLost):
        port.serve(request(GET))
    assert port.sent == []
    assert port.storer.closed


# --- Without bulk data (PS3.4 Annex Z) ---


def heavy():
    ds = image(PatientID="1", Rows=1, EncapsulatedDocument=b"12")
    ds.add_new(0x7FE00010, "OW", b"12")
    ds.add_new(0x7FE00008, "OF", b"1234")
    ds.add_new(0x7FE00009, "OD", b"12345678")
    ds.add_new(0x00287FE0, "UR", "http://example.org")
    ds.add_new(0x56000020, "OF", b"1234")
    for group in (0x6000, 0x601E):
        ds.add_new((group, 0x0010), "US", 1)
        ds.add_new((group, 0x3000), "OW", b"12")
    ds.add_new(0x50003000, "OW", b"12")
    ds.add_new(0x5002200C, "OW", b"12")
    icon = keys(Rows=1)
    icon.add_new(0x7FE00010, "OW", b"12")
    ds.IconImageSequence = [icon]
    wave = keys(WaveformBitsAllocated=8)
    wave.add_new(0x54001010, "OW", b"12")
    ds.WaveformSequence = [wave]
    return ds


def test_what_is_bulk_data():
    original = heavy()
    before = original.to_json()
    reduced = without_bulk_data(original)
    assert {f"{each:08x}" for each in original.keys() - reduced.keys()} == {
        "7fe00010",
        "7fe00008",
        "7fe00009",
        "00287fe0",
        "56000020",
        "00420011",
        "60003000",
        "601e3000",
        "50003000",
        "5002200c",
    }
    assert "PixelData" in reduced.IconImageSequence[0]
    assert "WaveformData" not in reduced.WaveformSequence[0]
    assert "WaveformBitsAllocated" in reduced.WaveformSequence[0]
    assert reduced.file_meta is original.file_meta
    assert original.to_json() == before


def test_a_retrieval_without_bulk_data_has_its_objects_reduced():
    port = make_port(GET, 1, *images(1))
    port.serve(request(GET, CompositeInstanceRetrieveWithoutBulkDataGet))
    assert port.reduce is without_bulk_data
    port = make_port(GET, 1, (PENDING, Path("file")))
    port.serve(request(GET))
    assert port.reduce is None
