"""The logger "pynetdicom", which programs set up, has what dicomwire logs."""

from __future__ import annotations

import io
import logging
import logging.config

import pynetdicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND

OWN = logging.getLogger("pynetdicom")


@pytest.fixture(autouse=True)
def _own_as_before():
    level, handlers, disabled = OWN.level, OWN.handlers[:], OWN.disabled
    yield
    OWN.setLevel(level)
    OWN.handlers[:] = handlers
    OWN.disabled = disabled


def test_it_has_a_handler_that_does_nothing():
    assert [type(handler) for handler in OWN.handlers] == [logging.NullHandler]


def test_its_level_counts_and_its_handlers_get_everything(connect):
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    handler.addFilter(logging.Filter("pynetdicom"))
    OWN.addHandler(handler)
    OWN.setLevel(logging.INFO)
    connect().assoc.release()
    assert "pynetdicom INFO Releasing Association\n" in log.getvalue()
    assert "DEBUG" not in log.getvalue()
    OWN.setLevel(logging.DEBUG)
    assoc = connect().assoc
    assoc.send_c_echo()
    assoc.release()
    for title in ("OUTGOING A-ASSOCIATE-RQ PDU", "INCOMING DIMSE MESSAGE"):
        assert f"= {title} =" in log.getvalue()


def test_pytest_sees_it(connect, caplog):
    with caplog.at_level(logging.INFO, "pynetdicom"):
        connect()
    assert ("pynetdicom", logging.INFO, "Association Accepted") in caplog.record_tuples


def test_a_configuration_that_names_it_keeps_it_on(connect, capsys):
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "loggers": {"pynetdicom": {"level": "INFO", "handlers": ["out"]}},
        }
    )
    connect()
    assert "Association Accepted" in capsys.readouterr().out


def test_a_configuration_that_does_not_name_it_disables_it(connect, caplog):
    OWN.setLevel(logging.INFO)
    logging.config.dictConfig({"version": 1})
    connect()
    assert not caplog.records


def test_debug_logger_logs_everything_to_standard_error(connect, capsys):
    pynetdicom.debug_logger()
    assert OWN.level == logging.DEBUG
    connect().assoc.release()
    log = capsys.readouterr().err
    assert "I: Association Released\n" in log
    assert "D: Accept Parameters\n" in log


def test_log_handlers_are_bound_unless_the_option_says_otherwise(connect, config):
    logged = (evt.EVT_PDU_RECV, evt.EVT_PDU_SENT, evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT)
    ends = connect()
    assert all(len(ends.assoc.get_handlers(event)) == 1 for event in logged)
    assert all(len(ends.server.get_handlers(event)) == 1 for event in logged)
    config(LOG_HANDLER_LEVEL="none")
    ends = connect()
    assert all(ends.assoc.get_handlers(event) == [] for event in logged)
    assert all(ends.server.get_handlers(event) == [] for event in logged)


@pytest.mark.parametrize("option", ["LOG_REQUEST_IDENTIFIERS", "LOG_RESPONSE_IDENTIFIERS", None])
def test_identifiers_are_not_logged_where_either_option_says_so(connect, config, caplog, option):
    def handle(event):
        yield 0xFF00, event.identifier

    identifier = Dataset()
    identifier.PatientName = "Doe^Jane"
    if option:
        config(**{option: False})
    with caplog.at_level(logging.DEBUG, "pynetdicom"):
        assoc = connect([(evt.EVT_C_FIND, handle)], contexts=(FIND,)).assoc
        assert len(list(assoc.send_c_find(identifier, FIND))) == 2
    assert ("Doe^Jane" in caplog.text) == (option is None)
    assert "C-FIND-RQ" in caplog.text
