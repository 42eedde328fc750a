"""A node whose objects are in a bucket: what it stores, sends and survives."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import configuration_of, of_folder, options_of
from buckets import FaultProxy, new_url, variables, write_variables
from cloud_services import SERVICES, Service
from node_processes import Senders
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from running_node import Receiver, counts, find, get, make_object, running, store, study_of

from dicomwire import build_context
from dicomwire.apps.node import main
from dicomwire.node.archive import FolderUnusable
from dicomwire.node.carrying import names_to_remove
from dicomwire.node.configuration import Duplicates
from dicomwire.node.heads import read_head
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.maintenance import Finding, Problem, check, reindex
from dicomwire.node.objects.bucket import Bucket
from dicomwire.node.objects.opening import open_objects
from dicomwire.node.server import Node


@pytest.fixture
def proxy(seaweedfs_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs_port) as proxy:
        yield proxy


@pytest.fixture
def keys(proxy: FaultProxy, tmp_path: Path) -> dict[str, Any]:
    """The configuration of a node with a bucket of its own, behind the proxy."""
    return {
        "folder": tmp_path / "archive",
        "objects": new_url(),
        "objects_variables": write_variables(tmp_path / "variables", proxy.server_port),
        "objects_timeout": 5.0,
    }


@pytest.fixture
def bucket(seaweedfs_port: int, keys: dict[str, Any]) -> Bucket:
    return Bucket(keys["objects"], variables(seaweedfs_port))


def large(number: int = 1, size: int = 12 * 2**20, **elements: Any) -> Dataset:
    """Return an object that is uploaded in parts."""
    ds = make_object(number, **elements)
    ds.add_new("PixelData", "OW", bytes(range(256)) * (size // 256))
    return ds


def received(node: Node, syntax: str = ExplicitVRLittleEndian) -> tuple[Any, list[Any]]:
    """Retrieve the study; return the final status, and the datasets."""
    receiver = Receiver()
    answers = get(node, receiver, study_of(), build_context(CTImageStorage, syntax))
    return counts(answers[-1][0]), [data for _, _, data in receiver.objects]


def findings(keys: dict[str, Any]) -> list[Finding]:
    """Return what `node check` finds."""
    configuration = configuration_of(**keys)
    index, objects = configuration.index, open_objects(configuration)
    return [*check(configuration.folder, index=index, objects=objects)]


def reading(keys: dict[str, Any]) -> IndexReader:
    """Open the index of the node."""
    return IndexReader(of_folder(keys["folder"]).database(keys["folder"]))


def test_objects_are_in_the_bucket_and_come_back(keys: dict[str, Any], bucket: Bucket) -> None:
    objects = [make_object(1), large(2, 300_000), large(3)]
    with running(**keys) as node:
        assert store(node, *objects) == [0x0000] * 3
        assert len([*bucket.names()]) == 3
        assert not [*(keys["folder"] / "objects").glob("**/*.dcm")]
        assert not [*(keys["folder"] / "spool").glob("**/*.dcm")]
        status, datasets = received(node)
        assert status == (0x0000, 3, 0)
        assert sorted(map(len, datasets))[2] > 12 * 2**20
        status, _ = received(node, ImplicitVRLittleEndian)
        assert status == (0x0000, 3, 0)
    assert findings(keys) == []


@pytest.mark.parametrize(
    ("policy", "status", "kept"),
    [
        (Duplicates.KEEP_FIRST, 0x0111, 1),
        (Duplicates.REPLACE, 0x0000, 1),
        (Duplicates.KEEP_BOTH, 0x0000, 2),
        (Duplicates.IGNORE, 0x0000, 1),
    ],
)
def test_duplicates_leave_no_further_object(
    keys: dict[str, Any], bucket: Bucket, policy: Duplicates, status: int, kept: int
) -> None:
    with running(**keys, duplicates=policy) as node:
        one, other = make_object(1), make_object(1, ImageComments="other")
        assert store(node, one, one, other) == [0x0000, 0x0000, status]
    with reading(keys) as index:
        leaving = names_to_remove(index)
    assert len({f"bucket:{name}" for name in bucket.names()} - leaving) == kept


def test_the_index_is_made_again_from_the_bucket(keys: dict[str, Any]) -> None:
    configuration = configuration_of(**keys)
    with running(**keys) as node:
        store(node, make_object(1), make_object(2))
    of_folder(configuration.folder).forget_index(configuration.folder)
    with running(**keys) as node:  # a new folder is enough
        assert received(node)[0] == (0x0000, 2, 0)
    folder, index, objects = configuration.folder, configuration.index, open_objects(configuration)
    assert reindex(folder, index=index, objects=objects).indexed == 2


def test_an_object_that_is_missing_in_the_bucket_is_not_sent(
    keys: dict[str, Any], bucket: Bucket
) -> None:
    with running(**keys) as node:
        store(node, make_object(1), make_object(2))
        missing = next(bucket.names())
        bucket.remove([missing])
        assert received(node)[0] == (0xB000, 1, 1)
    assert [(found.problem, found.file) for found in findings(keys)] == [
        (Problem.MISSING, f"bucket:{missing}")
    ]


@pytest.mark.parametrize("service", sorted(SERVICES.keys() - {"seaweedfs", "moto"}), indirect=True)
def test_a_node_uses_a_bucket_that_is_not_of_s3(service: Service, tmp_path: Path) -> None:
    lines = (f"{name}={value}\n" for name, value in service.variables.items())
    (tmp_path / "variables").write_text("".join(lines))
    keys = {
        "folder": tmp_path / "archive",
        "objects": service.new_url(),
        "objects_variables": str(tmp_path / "variables"),
        "duplicates": Duplicates.REPLACE,
    }
    first, second = make_object(1), make_object(1, ImageComments="second")
    with running(**keys) as node:
        assert store(node, first, large(2, 6 * 2**20), second) == [0x0000] * 3
        status, datasets = received(node)
        assert status == (0x0000, 2, 0)
        assert any(b"second" in data for data in datasets)
    assert findings(keys) == []
    configuration = configuration_of(**keys)
    index, objects = configuration.index, open_objects(configuration)
    assert reindex(configuration.folder, index=index, objects=objects).indexed == 2


def test_a_node_does_not_start_without_its_bucket(keys: dict[str, Any], proxy: FaultProxy) -> None:
    with running(**keys) as node:
        store(node, make_object(1))
    keys["objects"] = "s3://missing/prefix"
    with pytest.raises(FolderUnusable, match="there is no such bucket"), running(**keys):
        pass
    keys["objects"] = new_url()
    with pytest.raises(FolderUnusable, match="is this the right place"), running(**keys):
        pass


def test_a_start_does_not_list_the_bucket(keys: dict[str, Any], proxy: FaultProxy) -> None:
    with running(**keys) as node:
        store(node, make_object(1))
    proxy.requests.clear()
    with running(**keys) as node:
        assert received(node)[0] == (0x0000, 1, 0)
    assert [each for each in proxy.requests if "list-type" in each] == []


@pytest.mark.parametrize("fault", ["500", "503", "507", "silent", "half-request"])
def test_a_store_that_fails_is_answered_with_a_failure_and_the_next_succeeds(
    keys: dict[str, Any], proxy: FaultProxy, bucket: Bucket, fault: str
) -> None:
    keys["objects_timeout"] = 1.0
    with running(**keys) as node:
        proxy.fail_always(fault, method="PUT")
        assert store(node, make_object(1)) == [0xA700]
        assert len(find(node, study_of())) == 1  # the final response only
        proxy.fail_always(None)
        assert store(node, make_object(1)) == [0x0000]
    assert len([*bucket.names()]) == 1


def test_a_bucket_that_fails_now_and_then_loses_nothing(
    keys: dict[str, Any], proxy: FaultProxy, bucket: Bucket
) -> None:
    with running(**keys) as node:
        proxy.fail(*["500", "503", "507", "reset", "half-request", "half"] * 4, method="PUT")
        with Senders([node.address[1]], "1.2", 4) as senders:
            senders.wait(60)
    objects = open_objects(configuration_of(**keys))
    with reading(keys) as index:
        found = index.find(list(senders.acknowledged))
    for uid, digest in senders.acknowledged.items():
        (stored,) = found[uid]
        with objects.open(stored.file) as file:
            content = file.read()
        _, offset, _ = read_head(content, len(content))
        assert hashlib.sha256(content[offset:]).hexdigest() == digest
    assert findings(keys) == []


@pytest.mark.parametrize("fault", ["503", "silent", "half"])
def test_a_bucket_that_fails_lets_retrievals_fail_until_it_is_back(
    keys: dict[str, Any], proxy: FaultProxy, fault: str
) -> None:
    keys["objects_timeout"] = 2.0
    with running(**keys) as node:
        store(node, make_object(1))
        proxy.fail_always(fault, method="GET")
        *_, (status, _) = get(node, Receiver(), study_of(), CTImageStorage)
        assert counts(status) == (0xA702, 0, 1)
        assert status.ErrorComment.startswith("1 not sent: its file cannot be read: ")
        assert "s3:" not in status.ErrorComment
        proxy.fail_always(None)
        assert received(node)[0] == (0x0000, 1, 0)


def test_an_object_is_sent_from_the_cache(
    keys: dict[str, Any], proxy: FaultProxy, tmp_path: Path
) -> None:
    with running(**keys, cache=str(tmp_path / "cache")) as node:
        store(node, make_object(1))
        first = received(node)
        proxy.requests.clear()
        assert received(node) == first
        assert proxy.requests == []


def test_check_does_not_take_a_bucket_that_is_away_for_damage(
    keys: dict[str, Any], proxy: FaultProxy
) -> None:
    with running(**keys) as node:
        store(node, make_object(1))
    names = [*open_objects(configuration_of(**keys)).names()]
    proxy.fail_always("503", method="GET")
    with pytest.raises(OSError, match="503"):
        findings(keys | {"objects_timeout": 1.0})
    assert len(names) == 1


def test_credentials_come_from_the_environment_and_are_never_shown(
    seaweedfs_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in variables(seaweedfs_port).items():
        monkeypatch.setenv(name, value)
    keys: dict[str, Any] = {
        "folder": tmp_path / "archive",
        "objects": new_url(),
        "objects_variables": "",
    }
    secret = variables(seaweedfs_port)["AWS_SECRET_ACCESS_KEY"]
    with running(**keys) as node:
        assert store(node, make_object(1)) == [0x0000]
        assert received(node)[0] == (0x0000, 1, 0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"not the {secret}")
    keys |= {"folder": tmp_path / "other", "objects_timeout": 1.0}
    with pytest.raises(FolderUnusable) as error, running(**keys):
        pass
    assert secret not in caplog.text
    assert secret not in str(error.value)


def test_objects_do_not_move_to_where_a_running_node_does_not_see_them(
    keys: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = options_of(**keys)
    with running(keys["folder"], objects="") as node:
        store(node, make_object(1))
        assert main(["move-objects", *options]) == 1
        assert "restart it with these keys first" in capsys.readouterr().err
    with running(**keys) as node:
        assert main(["move-objects", *options]) == 0
        assert received(node)[0] == (0x0000, 1, 0)
