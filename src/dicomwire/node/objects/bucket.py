"""A bucket of an object store as the place of the node's objects: S3, Google Cloud Storage, Azure.

The name of an object is its key after the prefix of the URL: two hex digits, "/", 30 more, ".dcm".
`reader` reads, `remote` is the interface to the node.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from dicomwire.node.files import StoreFailure
from dicomwire.node.objects.reader import FIRST, RangeReader, is_key

LOGGER = logging.getLogger("dicomwire")

SCHEMES: Mapping[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
"""The kinds of buckets, by the scheme of their URL."""
DEADLINE = 30.0
"""Seconds that a request takes at the most, its repetitions included: the senders of most objects
wait 30 to 60 seconds for an answer."""
_PART = 5 * 2**20
"""In bytes, a part of an object that is uploaded in several; S3 wants at least 5 MiB."""
_MOST_PARTS = 10_000
"""The most parts of an object in S3."""
_PARTS_AT_A_TIME = 2
"""For one object. Together with `_LARGE_AT_A_TIME` it bounds the memory of uploads: 50 MB."""
_LARGE = 2**20
"""In bytes; for larger objects the number of uploads at a time is bounded."""
_LARGE_AT_A_TIME = 2
_LISTED_AT_A_TIME = 1000
"""Names in one answer of S3."""

_code_in = re.compile(r"<Code>(\w+)</Code>").search
_status_in = re.compile(r"returned non-2xx status code: (\d{3})").search
_kind_in = re.compile(r"HttpError \{\s*kind: (\w+)").search
_is_endpoint = re.compile(r"https?://[^/\s]+(/\S*)?").fullmatch
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_REASONS = {
    **dict.fromkeys(_NO_BUCKET, "there is no such bucket"),
    "AccessDenied": "the credentials do not have the right to do this",
    "AuthorizationFailure": "the credentials do not have the right to do this",
    "AuthorizationPermissionMismatch": "the credentials do not have the right to do this",
    "AuthenticationFailed": "the credentials are not valid",
    "ExpiredToken": "the credentials have expired",
    "InvalidAccessKeyId": "the access key is not known",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "RequestTimeTooSkewed": "the clock of this machine is too far from that of the service",
    "Connect": "it cannot be reached",
    "Timeout": "it does not answer in time",
}
"""By the code of the answer, or the kind of failure without one."""


class Bucket:
    """A bucket, or the part of one whose keys begin with a prefix. Safe to use from any thread.

    Open it after a fork: the threads of its requests do not survive one.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``.
    variables : mapping
        Endpoint, region and credentials, named as in the environment (``AWS_ENDPOINT_URL``, …);
        the environment is used for those that are missing.
    deadline : float
        Seconds; a request that fails for a reason that may pass is repeated for so long.

    Raises
    ------
    StoreFailure
        When the URL or the variables are not valid.
    """

    def __init__(
        self, url: str, variables: Mapping[str, str] | None = None, deadline: float = DEADLINE
    ) -> None:
        self.url = url
        self._large = threading.BoundedSemaphore(_LARGE_AT_A_TIME)
        """Bounds the memory of uploads; the end of another upload wakes a waiting thread."""
        with self._explaining():
            self._store = _store(url, {**(variables or {})}, deadline)

    def upload(
        self, data: Sequence[bytes | bytearray | memoryview] | Path, digits: str = ""
    ) -> str:
        """Store an object; return its name. It is durable and complete when this returns.

        Parameters
        ----------
        data : sequence of bytes, or Path
            The whole DICOM file, in memory or as a file. A long file is read and stored in parts.
        digits : str
            32 hex digits for its name; random ones by default.

        Raises
        ------
        OSError
            When it cannot be read or stored; then there is no object, or one without a name.
        """
        key = name_of(digits or os.urandom(16).hex())
        if not isinstance(data, Path):
            self._put(key, b"".join(data))
        elif (size := data.stat().st_size) <= _LARGE:
            self._put(key, data.read_bytes())
        else:
            with self._large:
                if size <= _PART:
                    self._put(key, data.read_bytes())
                else:
                    self._put_parts(key, data, size)
        return key

    def _put(self, key: str, data: bytes) -> None:
        with self._explaining():
            # The signature of the request has the digest of the data, which S3 checks.
            obstore.put(self._store, key, data, use_multipart=False)

    def _put_parts(self, key: str, file: Path, size: int) -> None:
        with self._explaining():
            obstore.put(
                self._store,
                key,
                file,
                use_multipart=True,
                chunk_size=max(_PART, -(-size // _MOST_PARTS)),
                max_concurrency=_PARTS_AT_A_TIME,
            )
            # The service checks each part, but not whether they are all of the object.
            found = obstore.head(self._store, key)["size"]
        if found != size:
            raise StoreFailure(f"{self.url} has {found} bytes of {size} that it acknowledged")

    def open(self, name: str, offset: int = 0, first: int = FIRST) -> RangeReader:
        """Return an object, open for reading at `offset`; see `RangeReader`."""
        key = _key(name)

        def fetch(start: int, stop: int) -> tuple[memoryview, int]:
            with self._explaining():
                found = obstore.get(self._store, key, options={"range": (start, stop)})
                data = memoryview(found.bytes())
                size = found.meta["size"]
                if len(data) != min(stop, size) - start:
                    raise StoreFailure(f"{self.url} sent {len(data)} bytes of a range")
                return data, size

        return RangeReader(fetch, offset, first)

    def exists(self, name: str) -> bool:
        """Return whether there is an object; OSError if that cannot be determined."""
        try:
            # A HEAD would not tell a missing object from a missing bucket.
            with self._explaining():
                obstore.get_range(self._store, _key(name), start=0, end=1)
        except FileNotFoundError:
            return False
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, those that exist.

        Raises
        ------
        OSError
            When the bucket cannot be used; some may be removed.
        """
        keys = [_key(name) for name in names]
        try:
            with self._explaining():
                obstore.delete(self._store, keys)
        except FileNotFoundError:  # not from S3
            for key in keys:
                with contextlib.suppress(FileNotFoundError), self._explaining():
                    obstore.delete(self._store, key)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects, sorted; only those of one answer are in memory.

        Raises
        ------
        OSError
            When the bucket cannot be listed, or not in the order of its keys.
        """
        last = ""
        with self._explaining():
            for portion in obstore.list(self._store, chunk_size=_LISTED_AT_A_TIME):
                for found in portion:
                    key = found["path"]
                    if key < last:
                        raise StoreFailure(f"{self.url} is not listed in the order of keys")
                    last = key
                    if is_key(key):
                        yield key

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Raise the errors of obstore as `StoreFailure`, or FileNotFoundError for an object."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            code = _code_in(str(error))
            if isinstance(error, FileNotFoundError) and not (code and code[1] in _NO_BUCKET):
                raise FileNotFoundError(f"{self.url} does not have this object") from None
            raise StoreFailure(f"{self.url}: {_reason(error)}") from None


def name_of(digits: str) -> str:
    """Return the name of an object with these 32 hex digits."""
    return f"{digits[:2]}/{digits[2:]}.dcm"


def _key(name: str) -> str:
    if not is_key(name):
        raise FileNotFoundError(f"{name} is no name of an object in a bucket")
    return name


def _store(url: str, variables: dict[str, str], deadline: float) -> ObjectStore:
    scheme, _, place = url.partition("://")
    if scheme not in SCHEMES or not place or place.startswith("/"):
        allowed = ", ".join(f"{each}://…" for each in SCHEMES)
        raise StoreFailure(f"{url} is no bucket: allowed are {allowed}")
    # obstore takes this one as an option of the client only.
    allow_http = variables.pop("AWS_ALLOW_HTTP", os.environ.get("AWS_ALLOW_HTTP", "false"))
    for name in _ENDPOINTS:  # obstore would panic
        endpoint = variables.get(name, os.environ.get(name))
        if endpoint is not None and not _is_endpoint(endpoint):
            raise StoreFailure(f"{name} is no URL: it must begin with https:// or http://")
    # An attempt has a third of the time. None begins in the last third, so that it can end.
    third = timedelta(seconds=deadline / 3)
    kind = SCHEMES[scheme]
    store: ObjectStore = kind.from_url(
        url,
        config=variables,
        client_options={
            "allow_http": allow_http.lower() in ("true", "1"),
            "connect_timeout": third / 2,
            "timeout": third,
        },
        retry_config={
            "max_retries": 1000,  # the time bounds it
            "retry_timeout": 2 * third,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )
    return store


def _reason(error: BaseException) -> str:
    """Return why a request failed; the texts of obstore have the whole answer, on many lines."""
    text = str(error)
    code, status, kind = _code_in(text), _status_in(text), _kind_in(text)
    for found in (code, kind):
        if found and found[1] in _REASONS:
            return _REASONS[found[1]]
    if "BadScheme" in text:
        return "its endpoint is not encrypted: allow that with AWS_ALLOW_HTTP=true, or use https"
    if status:
        return f"it answered {status[1]}" + (f" ({code[1]})" if code else "")
    # The text up to the details; a query may have a signature.
    first = re.sub(r"\?\S*", "", text.partition("\n")[0])
    return first.removeprefix("Generic ")


def variables_in(path: Path) -> dict[str, str]:
    """Return the variables in a file with lines NAME=VALUE, like those that systemd reads.

    Raises
    ------
    StoreFailure
        When it cannot be read, or has another line.
    """
    found = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StoreFailure(f"{path} cannot be read: {reason}") from None
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals:
            raise StoreFailure(f"{path}, line {number}: not NAME=VALUE")
        found[name.strip()] = value.strip().strip("'\"")
    return found
