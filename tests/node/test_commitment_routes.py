"""Routes that ask for commitment: an object is sent when its destination has committed to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from backends import configuration_of
from committing import Committer
from node_processes import eventually, node_process
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from running_node import LOCALHOST, find, make_object, running, store, study_of

from dicomwire import AE, build_context
from dicomwire.node.commitment import requesting
from dicomwire.node.configuration import load, merged
from dicomwire.node.server import Node
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "storage_commitment.md"


def has_study(address: tuple[str, int]) -> bool:
    """Return whether a node has the study of `make_object`."""
    with AE().associate(*address, [build_context(FIND)]) as assoc:
        return len(list(assoc.send_c_find(study_of(), FIND))) > 1


def send(address: tuple[str, int]) -> None:
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    with AE().associate(*address, contexts) as assoc:
        assert assoc.send_c_store(make_object()).Status == 0x0000


def test_the_example_moves_objects_to_another_archive(tmp_path: Path) -> None:
    """Both are nodes: one asks, and the other one commits, on the association of the request."""
    example = re.search(r"^```toml\n(\[\[routes.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert example is not None
    with running(tmp_path / "big", ae_title="BIG") as big:
        port = str(big.address[1])
        text = example[1].replace("big.example.org", LOCALHOST).replace("= 104", f"= {port}")
        path = tmp_path / "node.toml"
        path.write_text(f"port = 0\nfolder = 'small'\n{text}")
        with Node(load(path)) as small:
            assert store(small, make_object()) == [0x0000]
            assert eventually(lambda: not has_study(small.address))
        assert len(find(big, study_of())) == 2


def test_what_is_not_committed_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requesting, "_GATHER", 0.05)
    big = Committer()
    big.missing = {"1.2.3.1.1"}
    with big.listening(CTImageStorage) as port:
        keys = {
            "destinations": {"BIG": {"host": LOCALHOST, "port": port}},
            "routes": [{"to": ["BIG"], "commit": True, "then": "delete"}],
        }
        configuration = merged(configuration_of(tmp_path), keys)
        with Node(configuration) as node:
            assert store(node, make_object()) == [0x0000]
            assert eventually(lambda: len(big.stored) > 1)
            big.missing = set()
            assert eventually(lambda: not has_study(node.address))


def test_a_report_reaches_a_worker_process(tmp_path: Path) -> None:
    big = Committer("new")
    with big.listening(CTImageStorage) as port:
        keys = {
            "workers": 2,
            "destinations": {"BIG": {"host": LOCALHOST, "port": port}},
            "routes": [{"to": ["BIG"], "commit": True, "then": "delete"}],
        }
        with node_process(tmp_path, **keys) as node:
            big.node = node.address
            send(node.address)
            assert eventually(lambda: big.stored and not has_study(node.address))
