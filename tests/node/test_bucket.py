"""A bucket as the place of objects: what it stores, reads, lists and removes, and how it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import BUCKET, READER, FaultProxy, new_url, variables
from cloud_services import Service

from dicomwire.node.files import StoreFailure
from dicomwire.node.objects.bucket import Bucket, variables_in
from dicomwire.node.objects.reader import FIRST, LONGEST


@pytest.fixture
def bucket(service: Service) -> Bucket:
    return Bucket(service.new_url(), service.variables)


@pytest.fixture
def proxy(seaweedfs_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs_port) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy: FaultProxy) -> Bucket:
    """A bucket behind the proxy."""
    return Bucket(new_url(), proxy.variables)


def test_an_object_is_read_as_it_was_stored(bucket: Bucket) -> None:
    name = bucket.upload([b"head", bytearray(b"dataset")])
    assert bucket.open(name).read() == b"headdataset"
    assert bucket.open(name, 4).read(4) == b"data"


def test_a_large_file_is_stored_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(11 * 2**20))
    assert bucket.open(bucket.upload(file)).read() == file.read_bytes()


def test_a_bucket_lists_its_objects_in_order(bucket: Bucket, service: Service) -> None:
    names = [bucket.upload([b"object"]) for _ in range(20)]
    Bucket(service.new_url(), service.variables).upload([b"elsewhere"])
    assert [*bucket.names()] == sorted(names)


def test_removing_leaves_the_others(bucket: Bucket) -> None:
    one, other, third = (bucket.upload([b"object"]) for _ in range(3))
    bucket.remove([one])
    bucket.remove([one, third])
    assert [bucket.exists(name) for name in (one, other, third)] == [False, True, False]
    with pytest.raises(FileNotFoundError):
        bucket.open(one)


def test_a_missing_bucket_is_not_a_missing_object(bucket: Bucket, service: Service) -> None:
    name = bucket.upload([b"object"])
    missing = Bucket(f"{service.scheme}://missing/prefix", service.variables)
    for use in (missing.exists, missing.open):
        with pytest.raises(StoreFailure, match="there is no such bucket"):
            use(name)
    with pytest.raises(StoreFailure, match="there is no such bucket"):
        [*missing.names()]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (READER, "do not have the right"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the access key is not known"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong"),
        ({"AWS_ALLOW_HTTP": "false"}, "AWS_ALLOW_HTTP=true"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "it cannot be reached"),
    ],
)
def test_a_failure_has_a_reason_in_one_line(
    seaweedfs_port: int, changed: dict[str, str], reason: str
) -> None:
    given = {**variables(seaweedfs_port), **changed}
    bucket = Bucket(f"s3://{BUCKET}/prefix", given, deadline=0.4)
    with pytest.raises(StoreFailure, match=reason) as raised:
        bucket.upload([b"object"])
    assert "\n" not in str(raised.value)
    assert "secret of" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "given", "reason"),
    [
        ("ftp://bucket", {}, "allowed are s3://"),
        ("s3:///prefix", {}, "is no bucket"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "somewhere"}, "AWS_ENDPOINT_URL is no URL"),
        ("s3://bucket", {"AWS_SECRET": "x"}, "aws_secret"),
        ("az://container", {}, "[Aa]ccount"),
    ],
)
def test_what_is_no_bucket_is_refused(url: str, given: dict[str, str], reason: str) -> None:
    with pytest.raises(StoreFailure, match=reason):
        Bucket(url, given)


# --- Reading by ranges ------------------------------------------------------------------------


def gets(proxy: FaultProxy) -> int:
    return sum(each.startswith("GET") for each in proxy.requests)


def test_a_head_takes_one_request_and_an_object_few(proxy: FaultProxy, behind: Bucket) -> None:
    data = os.urandom(2 * LONGEST)
    name = behind.upload([data])
    with behind.open(name) as file:
        file.read(640)
        file.seek(132)
        file.read(500)
        assert gets(proxy) == 1
        file.seek(0)
        assert file.read() == data
    assert gets(proxy) == 5  # 64 and 256 KiB, 1, 4 and the rest of 8 MiB
    with behind.open(name, first=LONGEST) as file:
        file.read(LONGEST)
    assert gets(proxy) == 6


def test_a_reader_requests_little_where_it_is_put(proxy: FaultProxy, behind: Bucket) -> None:
    name = behind.upload([bytes(2 * LONGEST)])
    with behind.open(name) as file:
        file.seek(-10, os.SEEK_END)
        assert len(file.read()) == 10
        file.seek(LONGEST)
        file.read(1)
    assert proxy.requests[-1].endswith(f"bytes={LONGEST}-{LONGEST + FIRST - 1}")


# --- Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "503", "reset", "half-request"])
def test_an_upload_is_repeated(proxy: FaultProxy, behind: Bucket, fault: str) -> None:
    proxy.fail(fault, method="PUT")
    assert behind.open(behind.upload([b"object"])).read() == b"object"


@pytest.mark.parametrize("fault", ["500", "503", "reset", "half"])
def test_a_range_is_requested_again(proxy: FaultProxy, behind: Bucket, fault: str) -> None:
    name = behind.upload([b"object"])
    proxy.fail(fault, method="GET")
    assert behind.open(name).read() == b"object"


def test_a_request_without_an_answer_is_repeated_within_the_deadline(proxy: FaultProxy) -> None:
    bucket = Bucket(new_url(), proxy.variables, deadline=1.5)
    proxy.fail("silent", "silent", method="PUT")
    with pytest.raises(StoreFailure, match="does not answer in time"):
        bucket.upload([b"object"])
    proxy.fail("silent", method="PUT")
    assert bucket.exists(bucket.upload([b"object"]))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("503", "503"), ("507", "507"), ("reset", "s3:"), ("silent", "does not answer in time")],
)
def test_a_request_ends_at_its_deadline(proxy: FaultProxy, fault: str, reason: str) -> None:
    bucket = Bucket(new_url(), proxy.variables, deadline=0.6)
    proxy.fail_always(fault)
    with pytest.raises(StoreFailure, match=reason):
        bucket.upload([b"object"])


@pytest.mark.parametrize("fault", ["500", "503", "reset", "half-request"])
def test_a_part_is_repeated(proxy: FaultProxy, behind: Bucket, tmp_path: Path, fault: str) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(11 * 2**20))
    proxy.fail(fault, fault, method="PUT")
    assert behind.open(behind.upload(file)).read() == file.read_bytes()
    parts = [each for each in proxy.requests if each.startswith("PUT") and "partNumber" in each]
    assert len(parts) == len(set(parts)) + 2


def test_a_part_that_fails_for_good_leaves_no_object(
    proxy: FaultProxy, behind: Bucket, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(11 * 2**20))
    proxy.fail_always("403", method="PUT")
    with pytest.raises(StoreFailure):
        behind.upload(file)
    assert [*behind.names()] == []


# --- Variables --------------------------------------------------------------------------------


def test_variables_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_text("# of the archive\nAWS_REGION=eu-central-1\n\nAWS_ACCESS_KEY_ID='a=b'\n")
    assert variables_in(file) == {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a=b"}
    file.write_text("AWS_REGION\n")
    with pytest.raises(StoreFailure, match="line 1: not NAME=VALUE"):
        variables_in(file)
    with pytest.raises(StoreFailure, match="cannot be read"):
        variables_in(tmp_path / "missing")
