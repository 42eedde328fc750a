from __future__ import annotations

import logging
import threading
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import events as evt
from dicomwire.data import codec, file_meta
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import FileSink, MemorySink, SpoolSink
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContextTuple
from dicomwire.settings import Settings

CONTEXT = PresentationContextTuple(1, CTImageStorage, ImplicitVRLittleEndian)
ALL_EVENTS = [value for name, value in vars(evt).items() if name.startswith("EVT_")]
INTERVENTIONS = [event for event in ALL_EVENTS if event.is_intervention]

DATASET_PROPERTIES = {
    "dataset": [Command.C_STORE_RQ],
    "identifier": [Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ],
    "attribute_list": [Command.N_CREATE_RQ],
    "modification_list": [Command.N_SET_RQ],
    "action_information": [Command.N_ACTION_RQ],
    "event_information": [Command.N_EVENT_REPORT_RQ],
}
VALUE_PROPERTIES = {
    "dataset_path": [Command.C_STORE_RQ],
    "file_meta": [Command.C_STORE_RQ],
    "move_destination": [Command.C_MOVE_RQ],
    "attribute_identifiers": [Command.N_GET_RQ],
    "action_type": [Command.N_ACTION_RQ],
    "event_type": [Command.N_EVENT_REPORT_RQ],
}
REQUESTS = [command for command in Command if command.name.endswith("_RQ")]


def an_instance() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientID = "42"
    return dataset


ENCODED = codec.encode_dataset(an_instance(), ImplicitVRLittleEndian)


def a_request(command: Command, **attributes: Any) -> Message:
    return Message(command, MessageID=7, **attributes)


def an_event(request: Message, payload: Payload | None = None, **attrs: Any) -> evt.Event:
    event = getattr(evt, f"EVT_{request.command.name.removesuffix('_RQ')}", evt.EVT_C_STORE)
    attrs = {"request": request, "context": CONTEXT, "payload": payload, **attrs}
    return evt.Event(SimpleNamespace(settings=Settings()), event, attrs)


def a_store(payload: Payload | None = None, **attrs: Any) -> evt.Event:
    request = a_request(
        Command.C_STORE_RQ, AffectedSOPClassUID=CTImageStorage, AffectedSOPInstanceUID="1.2.3"
    )
    return an_event(request, payload, **attrs)


def in_memory(data: bytes) -> Payload:
    sink = MemorySink(1 << 20)
    sink.write([memoryview(data)])
    return sink.finish()


class TestEventTypes:
    def test_prints_as_its_name(self) -> None:
        assert f"{evt.EVT_C_STORE}" == "EVT_C_STORE"
        assert str(evt.EVT_PDU_RECV) == "EVT_PDU_RECV"

    def test_is_either_a_notification_or_an_intervention(self) -> None:
        assert len(ALL_EVENTS) == 32
        assert len(INTERVENTIONS) == 15
        for event in ALL_EVENTS:
            assert event.is_notification is not event.is_intervention
            assert isinstance(event, evt.NotificationEvent) is event.is_notification

    def test_constant_and_name_agree(self) -> None:
        for event in ALL_EVENTS:
            assert getattr(evt, event.name) is event


class TestEvent:
    def test_has_what_every_event_has(self) -> None:
        before = datetime.now()
        event = evt.Event("association", evt.EVT_RELEASED)
        assert event.assoc == "association"
        assert event.event is evt.EVT_RELEASED
        assert before <= event.timestamp <= datetime.now()

    def test_attrs_become_attributes(self) -> None:
        event = evt.Event(None, evt.EVT_PDU_RECV, {"pdu": "a PDU"})
        assert event.pdu == "a PDU"

    def test_programs_may_keep_things_on_it(self) -> None:
        event: Any = evt.Event(None, evt.EVT_RELEASED)
        event.mine = 1
        assert event.mine == 1

    @pytest.mark.parametrize("name", ["assoc", "event", "timestamp", "dataset", "encoded_dataset"])
    def test_attrs_may_not_hide_what_every_event_has(self, name: str) -> None:
        with pytest.raises(AttributeError, match=name):
            evt.Event(None, evt.EVT_RELEASED, {name: 1})

    @pytest.mark.parametrize("name", ["request", "context", "pdu", "message", "data", "address"])
    def test_attribute_of_another_event(self, name: str) -> None:
        with pytest.raises(AttributeError, match=name):
            getattr(evt.Event(None, evt.EVT_RELEASED), name)

    @pytest.mark.parametrize("name", [*DATASET_PROPERTIES, *VALUE_PROPERTIES, "message_id"])
    def test_property_of_another_event(self, name: str) -> None:
        event = evt.Event(None, evt.EVT_RELEASED)
        with pytest.raises(AttributeError, match="EVT_RELEASED has no"):
            getattr(event, name)

    def test_bytes_of_another_event(self) -> None:
        with pytest.raises(AttributeError, match="EVT_RELEASED has no"):
            evt.Event(None, evt.EVT_RELEASED).encoded_dataset()

    @pytest.mark.parametrize("command", REQUESTS)
    @pytest.mark.parametrize("name", DATASET_PROPERTIES)
    def test_dataset_property_is_there_for_its_requests_only(
        self, name: str, command: Command
    ) -> None:
        event = an_event(a_request(command), in_memory(ENCODED))
        if command in DATASET_PROPERTIES[name]:
            assert getattr(event, name) == an_instance()
        else:
            assert not hasattr(event, name)

    @pytest.mark.parametrize("command", REQUESTS)
    @pytest.mark.parametrize("name", VALUE_PROPERTIES)
    def test_value_property_is_there_for_its_requests_only(
        self, name: str, command: Command
    ) -> None:
        uids = {"AffectedSOPClassUID": CTImageStorage, "AffectedSOPInstanceUID": "1.2.3"}
        payload = in_memory(ENCODED)
        event = an_event(a_request(command, **uids), payload)
        assert hasattr(event, name) is (command in VALUE_PROPERTIES[name])
        payload.discard()

    @pytest.mark.parametrize("command", REQUESTS)
    def test_any_request_has_a_message_id(self, command: Command) -> None:
        assert an_event(a_request(command)).message_id == 7

    def test_values_of_the_request(self) -> None:
        move = an_event(a_request(Command.C_MOVE_RQ, MoveDestination="ELSEWHERE"))
        assert move.move_destination == "ELSEWHERE"
        action = an_event(a_request(Command.N_ACTION_RQ, ActionTypeID=2))
        assert action.action_type == 2
        report = an_event(a_request(Command.N_EVENT_REPORT_RQ, EventTypeID=3))
        assert report.event_type == 3
        tags = [Tag("PatientName"), Tag("PatientID")]
        get = an_event(a_request(Command.N_GET_RQ, AttributeIdentifierList=tags))
        assert get.attribute_identifiers == tags

    def test_all_attributes_asked_for(self) -> None:
        assert an_event(a_request(Command.N_GET_RQ)).attribute_identifiers == []

    def test_cancellation_is_the_association_s_to_know(self) -> None:
        asked = []

        def is_cancelled(message_id: int) -> bool:
            asked.append(message_id)
            return len(asked) == 2

        event = an_event(a_request(Command.C_FIND_RQ))
        event.assoc.is_cancelled = is_cancelled
        assert not event.is_cancelled
        assert event.is_cancelled
        assert not event.is_cancelled
        assert asked == [7, 7, 7]

    def test_notification_is_never_cancelled(self) -> None:
        assert evt.Event(None, evt.EVT_RELEASED).is_cancelled is False

    @pytest.mark.parametrize("gone", [True, False])
    def test_peer_gone_is_the_association_s_to_know(self, gone: bool) -> None:
        event = an_event(a_request(Command.C_FIND_RQ))
        event.assoc.peer_gone = gone
        assert event.peer_gone is gone


class TestReceivedDataset:
    def test_is_decoded_once(self) -> None:
        event = a_store(in_memory(ENCODED))
        assert event.dataset == an_instance()
        assert event.dataset is event.dataset

    @pytest.mark.parametrize("payload", [None, in_memory(b"")])
    def test_none_sent(self, payload: Payload | None) -> None:
        event = a_store(payload)
        assert event.dataset == Dataset()
        assert event.encoded_dataset(include_meta=False) == b""

    def test_error_of_decoding_is_told(self) -> None:
        event = a_store(in_memory(ENCODED[:-1]))
        with pytest.raises(codec.DatasetError):
            _ = event.dataset

    def test_deflated(self) -> None:
        data = codec.encode_dataset(an_instance(), DeflatedExplicitVRLittleEndian)
        context = CONTEXT._replace(transfer_syntax=DeflatedExplicitVRLittleEndian)
        assert a_store(in_memory(data), context=context).dataset == an_instance()
        bounded = a_store(in_memory(data), context=context)
        bounded.assoc.settings = Settings(inflate_ceiling=4)
        with pytest.raises(codec.DatasetError):
            _ = bounded.dataset

    def test_file_meta_is_for_the_dataset(self) -> None:
        meta = a_store().file_meta
        assert meta.FileMetaInformationGroupLength == 0
        assert meta.MediaStorageSOPClassUID == CTImageStorage
        assert meta.MediaStorageSOPInstanceUID == "1.2.3"
        assert meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert meta.ImplementationClassUID
        assert meta.ImplementationVersionName

    def test_file_meta_is_the_handler_s_to_change(self) -> None:
        event = a_store()
        event.file_meta.SourceApplicationEntityTitle = "PEER"
        assert "SourceApplicationEntityTitle" not in event.file_meta

    def test_as_received(self) -> None:
        assert a_store(in_memory(ENCODED)).encoded_dataset(include_meta=False) == ENCODED

    def test_as_a_dicom_file(self) -> None:
        data = a_store(in_memory(ENCODED)).encoded_dataset()
        assert data[:132] == bytes(128) + b"DICM"
        assert data[132:] == file_meta.encode_file_meta(a_store().file_meta) + ENCODED
        read = dcmread(BytesIO(data))
        assert read == an_instance()
        assert read.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian

    def test_in_memory_becomes_a_dicom_file_when_asked_for(self) -> None:
        payload = in_memory(ENCODED)
        path = a_store(payload).dataset_path
        assert dcmread(path) == an_instance()
        payload.discard()
        assert not path.exists()

    def test_none_sent_is_no_file(self) -> None:
        assert not hasattr(a_store(), "dataset_path")

    def test_in_a_dicom_file(self, tmp_path: Path) -> None:
        head = a_store().encoded_dataset()
        sink = FileSink(tmp_path, None, head, 1 << 20)
        sink.write([memoryview(ENCODED)])
        event = a_store(sink.finish())
        assert event.dataset == an_instance()
        assert event.dataset_path.parent == tmp_path
        assert dcmread(event.dataset_path) == an_instance()
        assert event.encoded_dataset(include_meta=False) == ENCODED
        assert event.encoded_dataset() == head + ENCODED

    def test_spooled(self, tmp_path: Path) -> None:
        sink = SpoolSink(4, 1 << 20, tmp_path)
        sink.write([memoryview(ENCODED)])
        payload = sink.finish()
        event = a_store(payload)
        assert event.dataset == an_instance()
        assert dcmread(event.dataset_path) == an_instance()
        assert event.encoded_dataset(include_meta=False) == ENCODED
        payload.discard()
        assert not list(tmp_path.iterdir())


def say_nothing(event: evt.Event, *args: Any) -> None:
    pass


def say_more(event: evt.Event, *args: Any) -> None:
    pass


class TestBinding:
    def test_nothing_is_bound_at_first(self) -> None:
        handlers = evt.Handlers()
        assert handlers.get_events() == sorted(INTERVENTIONS, key=lambda event: event.name)
        assert handlers.get_handlers(evt.EVT_PDU_RECV) == []
        assert not any(handlers.bound(event) for event in ALL_EVENTS)

    @pytest.mark.parametrize("event", INTERVENTIONS)
    def test_default_handler_is_listed(self, event: evt.InterventionEvent) -> None:
        assert evt.Handlers().get_handlers(event) == (evt.get_default_handler(event), None)

    def test_bindings_of_a_program(self) -> None:
        handlers = evt.Handlers(
            [
                (evt.EVT_CONN_OPEN, say_nothing),
                (evt.EVT_CONN_OPEN, say_more, ["a", 1]),
                (evt.EVT_C_ECHO, say_nothing, None),
            ]
        )
        assert handlers.get_handlers(evt.EVT_CONN_OPEN) == [
            (say_nothing, None),
            (say_more, ["a", 1]),
        ]
        assert handlers.get_handlers(evt.EVT_C_ECHO) == (say_nothing, None)
        assert handlers.bound(evt.EVT_CONN_OPEN)
        assert handlers.bound(evt.EVT_C_ECHO)
        assert not handlers.bound(evt.EVT_CONN_CLOSE)

    def test_events_are_sorted_by_name(self) -> None:
        handlers = evt.Handlers([(evt.EVT_RELEASED, say_nothing), (evt.EVT_ABORTED, say_nothing)])
        names = [event.name for event in handlers.get_events()]
        assert names == sorted(names)
        assert {"EVT_RELEASED", "EVT_ABORTED"} < set(names)
        handlers.unbind(evt.EVT_RELEASED, say_nothing)
        assert evt.EVT_RELEASED not in handlers.get_events()

    def test_duplicates_are_ignored(self) -> None:
        handlers = evt.Handlers()
        handlers.bind(evt.EVT_CONN_OPEN, say_nothing)
        handlers.bind(evt.EVT_CONN_OPEN, say_nothing)
        handlers.bind(evt.EVT_CONN_OPEN, say_nothing, [1])
        handlers.bind(evt.EVT_CONN_OPEN, say_nothing, [1])
        assert handlers.get_handlers(evt.EVT_CONN_OPEN) == [(say_nothing, None), (say_nothing, [1])]

    def test_unbinding_takes_all_args(self) -> None:
        handlers = evt.Handlers(
            [
                (evt.EVT_CONN_OPEN, say_nothing),
                (evt.EVT_CONN_OPEN, say_more),
                (evt.EVT_CONN_OPEN, say_nothing, [1]),
            ]
        )
        handlers.unbind(evt.EVT_CONN_OPEN, say_nothing)
        assert handlers.get_handlers(evt.EVT_CONN_OPEN) == [(say_more, None)]
        handlers.unbind(evt.EVT_CONN_OPEN, say_more)
        assert not handlers.bound(evt.EVT_CONN_OPEN)

    def test_intervention_has_one_handler(self) -> None:
        handlers = evt.Handlers([(evt.EVT_C_STORE, say_nothing), (evt.EVT_C_STORE, say_more, [1])])
        assert handlers.get_handlers(evt.EVT_C_STORE) == (say_more, [1])

    def test_unbinding_restores_the_default(self) -> None:
        handlers = evt.Handlers([(evt.EVT_C_STORE, say_nothing)])
        handlers.unbind(evt.EVT_C_STORE, say_more)
        assert handlers.get_handlers(evt.EVT_C_STORE) == (say_nothing, None)
        handlers.unbind(evt.EVT_C_STORE, say_nothing)
        assert not handlers.bound(evt.EVT_C_STORE)
        default = evt.get_default_handler(evt.EVT_C_STORE)
        assert handlers.get_handlers(evt.EVT_C_STORE) == (default, None)

    def test_unbinding_what_is_not_bound(self) -> None:
        handlers = evt.Handlers()
        handlers.unbind(evt.EVT_CONN_OPEN, say_nothing)
        handlers.unbind(evt.EVT_C_ECHO, say_nothing)
        assert handlers.get_handlers(evt.EVT_CONN_OPEN) == []

    def test_methods_are_unbound_though_each_access_makes_a_new_one(self) -> None:
        class Program:
            def handle(self, event: evt.Event) -> None:
                pass

        program = Program()
        handlers = evt.Handlers([(evt.EVT_RELEASED, program.handle)])
        handlers.unbind(evt.EVT_RELEASED, program.handle)
        assert not handlers.bound(evt.EVT_RELEASED)

    @pytest.mark.parametrize(
        "binding",
        [
            ("EVT_C_ECHO", say_nothing),
            (evt.EVT_C_ECHO, 3),
            (evt.EVT_CONN_OPEN, None),
            (evt.EVT_CONN_OPEN, say_nothing, 1),
            (evt.EVT_CONN_OPEN, say_nothing, "args"),
            (evt.EVT_CONN_OPEN,),
            (evt.EVT_CONN_OPEN, say_nothing, [1], 2),
        ],
    )
    def test_wrong_kinds(self, binding: Any) -> None:
        with pytest.raises(TypeError):
            evt.Handlers([binding])

    def test_no_event(self) -> None:
        handlers: Any = evt.Handlers()
        with pytest.raises(TypeError, match="'x' is not one of"):
            handlers.unbind("x", say_nothing)
        with pytest.raises(TypeError, match="'x' is not one of"):
            handlers.get_handlers("x")

    def test_copy_goes_its_own_way(self) -> None:
        server = evt.Handlers([(evt.EVT_C_ECHO, say_nothing), (evt.EVT_RELEASED, say_nothing)])
        association = server.copy()
        assert association.get_handlers(evt.EVT_C_ECHO) == (say_nothing, None)
        association.bind(evt.EVT_RELEASED, say_more)
        server.unbind(evt.EVT_C_ECHO, say_nothing)
        assert server.get_handlers(evt.EVT_RELEASED) == [(say_nothing, None)]
        assert association.bound(evt.EVT_C_ECHO)


class TestDispatch:
    def test_handlers_are_told_in_turn(self) -> None:
        told: list[Any] = []
        handlers = evt.Handlers(
            [
                (evt.EVT_PDU_RECV, lambda event: told.append(event.pdu)),
                (evt.EVT_PDU_RECV, lambda event, *args: told.append(args), ["a", "b"]),
            ]
        )
        handlers.notify(None, evt.EVT_PDU_RECV, {"pdu": 1})
        assert told == [1, ("a", "b")]

    def test_no_event_is_formed_for_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evt, "Event", None)
        evt.Handlers().notify(None, evt.EVT_PDU_RECV, {"pdu": 1})

    def test_what_a_notified_handler_raises_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(event: evt.Event) -> None:
            raise ZeroDivisionError("in the handler")

        told: list[evt.Event] = []
        handlers = evt.Handlers([(evt.EVT_RELEASED, broken), (evt.EVT_RELEASED, told.append)])
        handlers.notify(None, evt.EVT_RELEASED)
        assert len(told) == 1
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "EVT_RELEASED" in record.getMessage()
        assert "broken" in record.getMessage()
        assert "in the handler" in caplog.text

    def test_answer_of_an_intervention(self) -> None:
        def answer(event: evt.Event, *args: Any) -> Any:
            return event.request, args

        handlers = evt.Handlers([(evt.EVT_C_ECHO, answer, [1, 2])])
        assert handlers.intervene(None, evt.EVT_C_ECHO, {"request": "rq"}) == ("rq", (1, 2))

    def test_what_an_intervention_raises_is_for_the_caller(self) -> None:
        def broken(event: evt.Event) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            evt.Handlers([(evt.EVT_C_ECHO, broken)]).intervene(None, evt.EVT_C_ECHO)

    def test_default_answers(self) -> None:
        handlers = evt.Handlers()
        answers = {evt.EVT_C_ECHO: 0x0000, evt.EVT_SOP_COMMON: {}, evt.EVT_SOP_EXTENDED: {}}
        for event, answer in answers.items():
            assert handlers.intervene(None, event) == answer
        for event in set(INTERVENTIONS) - answers.keys():
            with pytest.raises(NotImplementedError, match=event.name):
                handlers.intervene(None, event)

    def test_handlers_may_unbind_themselves(self) -> None:
        told = []
        handlers = evt.Handlers()

        def once(event: evt.Event) -> None:
            told.append("once")
            handlers.unbind(evt.EVT_RELEASED, once)

        def always(event: evt.Event) -> None:
            told.append("always")

        handlers.bind(evt.EVT_RELEASED, once)
        handlers.bind(evt.EVT_RELEASED, always)
        handlers.notify(None, evt.EVT_RELEASED)
        handlers.notify(None, evt.EVT_RELEASED)
        assert told == ["once", "always", "always"]

    def test_binding_from_many_threads(self) -> None:
        handlers = evt.Handlers([(evt.EVT_RELEASED, say_nothing)])
        own = [[lambda event: None for _ in range(100)] for _ in range(4)]
        over = threading.Event()

        def dispatch() -> None:
            while not over.is_set():
                handlers.notify(None, evt.EVT_RELEASED)
                handlers.intervene(None, evt.EVT_C_ECHO)

        def change(mine: list[Any]) -> None:
            for handler in mine:
                handlers.bind(evt.EVT_RELEASED, handler)
            for handler in mine[:-1]:
                handlers.unbind(evt.EVT_RELEASED, handler)

        dispatcher = threading.Thread(target=dispatch)
        dispatcher.start()
        threads = [threading.Thread(target=change, args=(mine,)) for mine in own]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        dispatcher.join()
        left = handlers.get_handlers(evt.EVT_RELEASED)
        assert isinstance(left, list)
        assert {handler for handler, _ in left} == {say_nothing, *(mine[-1] for mine in own)}


class TestLogHandlers:
    LOG_HANDLERS = [(evt.EVT_PDU_RECV, say_nothing)]

    @pytest.fixture
    def logger(self) -> Any:
        logger = logging.getLogger("dicomwire")
        level = logger.level
        yield logger
        logger.setLevel(level)

    def test_count_while_debug_is_on(self, logger: logging.Logger) -> None:
        logger.setLevel(logging.INFO)
        handlers = evt.Handlers(log_handlers=self.LOG_HANDLERS)
        assert handlers.get_handlers(evt.EVT_PDU_RECV) == [(say_nothing, None)]
        assert not handlers.bound(evt.EVT_PDU_RECV)
        logger.setLevel(logging.DEBUG)
        handlers.arm()
        assert handlers.bound(evt.EVT_PDU_RECV)
        logger.setLevel(logging.INFO)
        assert handlers.bound(evt.EVT_PDU_RECV), "until it is armed again"
        handlers.arm()
        assert not handlers.bound(evt.EVT_PDU_RECV)

    def test_handlers_of_the_program_always_count(self, logger: logging.Logger) -> None:
        logger.setLevel(logging.INFO)
        told: list[evt.Event] = []
        handlers = evt.Handlers([(evt.EVT_PDU_RECV, told.append)], self.LOG_HANDLERS)
        assert handlers.get_handlers(evt.EVT_PDU_RECV) == [(say_nothing, None), (told.append, None)]
        assert handlers.bound(evt.EVT_PDU_RECV)
        handlers.notify(None, evt.EVT_PDU_RECV)
        assert len(told) == 1

    def test_are_unbound_like_others(self, logger: logging.Logger) -> None:
        logger.setLevel(logging.DEBUG)
        handlers = evt.Handlers(log_handlers=self.LOG_HANDLERS)
        handlers.unbind(evt.EVT_PDU_RECV, say_nothing)
        assert not handlers.bound(evt.EVT_PDU_RECV)
        assert handlers.get_handlers(evt.EVT_PDU_RECV) == []

    def test_copy_knows_them(self, logger: logging.Logger) -> None:
        logger.setLevel(logging.DEBUG)
        server = evt.Handlers(log_handlers=self.LOG_HANDLERS)
        logger.setLevel(logging.INFO)
        association = server.copy()
        assert association.get_handlers(evt.EVT_PDU_RECV) == [(say_nothing, None)]
        assert not association.bound(evt.EVT_PDU_RECV)


class TestTrigger:
    def test_calls_what_is_bound_to_the_association(self) -> None:
        told: list[evt.Event] = []
        bindings: list[evt.EventHandlerType] = [
            (evt.EVT_RELEASED, told.append),
            (evt.EVT_C_ECHO, lambda event, *args: args, [1]),
        ]
        assoc = evt.Handlers(bindings)  # trigger asks an association for nothing else
        assert evt.trigger(assoc, evt.EVT_RELEASED, {"note": "x"}) is None
        assert told[0].assoc is assoc
        assert vars(told[0])["note"] == "x"
        assert evt.trigger(assoc, evt.EVT_C_ECHO) == (1,)
        with pytest.raises(NotImplementedError):
            evt.trigger(assoc, evt.EVT_C_STORE)
