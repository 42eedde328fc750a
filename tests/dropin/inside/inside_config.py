"""What assigning the options of `_config` does."""

from __future__ import annotations

import socket
from contextvars import ContextVar
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, _validators, build_context, build_role, evt, utils
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import CTImageStorage, Verification
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND

from dicomwire.pdu_primitives import AssociateRQ

BAD = "1.2.03"
USER = ContextVar("USER", default="nobody")


def test_the_options_have_the_defaults_of_pynetdicom():
    options = {name: value for name, value in vars(_config).items() if name.isupper()}
    del options["IGNORE"], options["UID"]
    assert options == {
        "CODECS": ("ascii",),
        "ENFORCE_UID_CONFORMANCE": False,
        "LOG_HANDLER_LEVEL": "standard",
        "LOG_REQUEST_IDENTIFIERS": True,
        "LOG_RESPONSE_IDENTIFIERS": True,
        "PASS_CONTEXTVARS": False,
        "STORE_RECV_CHUNKED_DATASET": False,
        "STORE_SEND_CHUNKED_DATASET": False,
        "UNRESTRICTED_STORAGE_SERVICE": False,
        "USE_SHORT_DIMSE_AET": True,
        "VALIDATORS": {"AE": _validators.validate_ae, "UI": _validators.validate_ui},
        "WINDOWS_TIMER_RESOLUTION": 1,
    }


def test_uids_need_not_conform_unless_the_option_says_so(config):
    assert build_context(BAD).abstract_syntax == BAD
    assert build_role(BAD, scu_role=True).sop_class_uid == BAD
    assert utils.set_uid(BAD, "uid") == BAD
    assert utils.validate_uid(UID(BAD, validation_mode=0))
    config(ENFORCE_UID_CONFORMANCE=True)
    for call in (
        lambda: build_context(BAD),
        lambda: build_context(Verification, BAD),
        lambda: build_role(BAD, scu_role=True),
        lambda: utils.set_uid(BAD, "uid"),
    ):
        with pytest.raises(ValueError, match=r"1\.2\.03.*PS3\.5"):
            call()
    assert not utils.validate_uid(UID(BAD, validation_mode=0))
    assert utils.set_uid(BAD, "uid", validate=False) == BAD
    assert build_context(Verification).abstract_syntax == Verification


def test_uids_are_enforced_where_associations_and_servers_begin(config):
    context = PresentationContext()
    context.abstract_syntax = BAD
    context.transfer_syntax = ["1.2.840.10008.1.2"]
    ae = AE()
    ae.add_requested_context(BAD)
    ae.add_supported_context(BAD)
    config(ENFORCE_UID_CONFORMANCE=True)
    for contexts in (None, [context]):
        with pytest.raises(ValueError, match="abstract_syntax"):
            ae.associate("127.0.0.1", 11112, contexts)
        with pytest.raises(ValueError, match="abstract_syntax"):
            ae.start_server(("127.0.0.1", 0), contexts=contexts)


def test_validators_can_refuse_more(connect, monkeypatch):
    assert _validators.validate_ae("TITLE") == (True, "")
    assert _validators.validate_ae("T" * 17)[0] is False
    assert _validators.validate_ui("1." * 40)[0] is False
    monkeypatch.setitem(_config.VALIDATORS, "AE", lambda value: (value == "ONE", "must be ONE"))
    with pytest.raises(ValueError, match=r"'ae_title' value 'PYNETDICOM' - must be ONE"):
        connect()
    ae = AE("ONE")
    ae.add_requested_context(Verification)
    with pytest.raises(ValueError, match="ANY-SCP"):
        ae.associate("127.0.0.1", 11112)
    with pytest.raises(ValueError, match="must be ONE"):
        utils.set_ae("TWO", "title")
    assert utils.set_ae("", "title") == ""


def test_unrestricted_storage(connect, config, ct):
    with pytest.raises(ValueError, match="no supported presentation context"):
        connect(supported=())
    config(UNRESTRICTED_STORAGE_SERVICE=True)
    ct.SOPClassUID = "1.2.3.4.5"
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000)]
    ends = connect(handlers, contexts=("1.2.3.4.5", CTImageStorage), supported=())
    assert [context.result for context in ends.assoc.accepted_contexts] == [0, 0]
    assert ends.assoc.send_c_store(ct).Status == 0x0000


@pytest.mark.parametrize("chunked", [False, True])
def test_a_received_object_has_a_path_either_way(connect, config, ct, chunked):
    config(STORE_RECV_CHUNKED_DATASET=chunked)
    seen = []

    def handle(event):
        seen.append((event.payload.path is not None, event.dataset_path.read_bytes()))
        seen.append((event.dataset_path, event.dataset.PatientName))
        return 0x0000

    ends = connect([(evt.EVT_C_STORE, handle)])
    assert ends.assoc.send_c_store(ct).Status == 0x0000
    ends.assoc.release()
    (in_file, data), (path, name) = seen
    assert in_file == chunked
    assert data[128:132] == b"DICM"
    assert name == "Doe^Jane"
    assert not Path(path).exists()


def test_codecs_decode_titles(config):
    request = AssociateRQ(called_ae_title="ANY-SCP", calling_ae_title="XXXX")
    data = request.encode().replace(b"XXXX", "GÄÄ".encode("latin-1") + b" ")
    titles = []

    def take(codecs):
        config(CODECS=codecs)
        ae = AE()
        ae.add_supported_context(Verification)
        handler = (evt.EVT_REQUESTED, lambda event: titles.append(event.assoc.requestor.ae_title))
        with ae.make_server(("127.0.0.1", 0), evt_handlers=[handler]) as server:
            with socket.create_connection(server.server_address) as sock:
                sock.sendall(data)
                sock.recv(1000)
            ae.shutdown()

    take(("ascii",))
    take(("ascii", "latin-1"))
    assert titles == [r"G\xc4\xc4", "GÄÄ"]


@pytest.mark.parametrize(("passes", "name"), [(False, "nobody"), (True, "me")])
def test_context_variables_reach_handlers(connect, config, passes, name):
    config(PASS_CONTEXTVARS=passes)
    USER.set("me")
    seen = []

    def handle_find(event):
        seen.append(USER.get())
        USER.set("the handler")
        yield 0xFF00, Dataset()
        seen.append(USER.get())
        event.assoc.abort()
        yield 0xFF00, Dataset()

    def note(event):
        seen.append(USER.get())
        USER.set("whoever was told")

    handlers = [(evt.EVT_ACCEPTED, note), (evt.EVT_C_FIND, handle_find), (evt.EVT_ABORTED, note)]
    ends = connect(handlers, contexts=(FIND,))
    assert len(list(ends.assoc.send_c_find(Dataset(), FIND))) == 2
    ends.scp.shutdown()
    assert seen[:2] == [name, name] if passes else "me" not in seen
    if passes:
        assert seen == ["me", "me", "the handler", "me"]
    assert USER.get() == "me"
    assert utils.make_target(USER.get)() == "me"


def test_the_operating_system_decides_how_long_a_connection_may_take():
    ae = AE()
    assert ae.connection_timeout is None
    ae.connection_timeout = -1
    assert ae.connection_timeout is None
