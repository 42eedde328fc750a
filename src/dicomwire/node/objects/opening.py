"""Opens the store of objects that a configuration names."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path

from dicomwire.node.configuration import Acknowledge, Configuration
from dicomwire.node.files import StoreFailure, sync_folder
from dicomwire.node.objects.cache import Cache
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.places import BUCKET, FOLDER, SPOOLED, Place, Places
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.spool import Spool
from dicomwire.node.objects.waiting import WaitingObjects

_FILE = "file://"


def folder_of(configuration: Configuration) -> Path:
    """Return the folder of objects, and of the spool, from which they are moved there."""
    for url in (configuration.objects, configuration.old_objects):
        if url.startswith(_FILE):
            return Path(url.removeprefix(_FILE))
    return configuration.folder


def open_objects(
    configuration: Configuration, spool: Spool | None = None, is_cached: bool = False
) -> Objects:
    """Return the store of a node's objects.

    Parameters
    ----------
    spool : Spool, optional
        Of a process that stores objects.
    is_cached : bool
        Whether to use the cache, if there is one: not to verify objects.

    Raises
    ------
    StoreFailure, OSError
        When a bucket or the cache cannot be used.
    """
    folder = Place(FOLDER, FolderObjects(folder_of(configuration)))
    urls = (configuration.objects, configuration.old_objects)
    buckets = [url for url in urls if url and not url.startswith(_FILE)]
    spooled = _spooled(configuration)
    if not buckets:
        if configuration.acknowledge is Acknowledge.SPOOLED:
            raise StoreFailure('acknowledge = "spooled" needs a bucket: set objects')
        return folder.objects
    if len(buckets) > 1:
        raise StoreFailure("objects and old_objects are both buckets; one must be a folder")
    is_first = buckets == [configuration.objects]
    bucket = Place(BUCKET, _remote(configuration, buckets[0], spool, is_cached))
    places = [bucket, folder] if is_first else [folder, bucket]
    if spooled is None:
        return Places(places)
    if is_first and configuration.acknowledge is Acknowledge.SPOOLED:
        return Places(places, spooled)
    return Places([*places, spooled])  # what is there still was acknowledged before a change


def _spooled(configuration: Configuration) -> Place | None:
    """Return the place on this disk of objects that are to be uploaded, if there is one."""
    folder = folder_of(configuration) / "spooled"
    if configuration.acknowledge is Acknowledge.SPOOLED:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(folder / "name", "x") as file:
            host = re.sub(r"[^a-z0-9.]+", "-", socket.gethostname().lower())
            file.write(f"{host}-{os.urandom(3).hex()}")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(str(folder))
    elif not folder.exists():
        return None
    name = (folder / "name").read_text()
    return Place(f"{SPOOLED}{name}:", WaitingObjects(folder))


def folder_within(objects: Objects) -> FolderObjects:
    """Return the folder that is a store of `open_objects`, or one of its places."""
    folder = objects.objects_of(FOLDER) if isinstance(objects, Places) else objects
    assert isinstance(folder, FolderObjects)
    return folder


def _remote(
    configuration: Configuration, url: str, spool: Spool | None, is_cached: bool
) -> Objects:
    try:
        from dicomwire.node.objects.bucket import Bucket, variables_in
        from dicomwire.node.objects.remote import RemoteObjects
    except ImportError:
        raise StoreFailure(f"{url} needs obstore (pip install 'dicomwire[objects]')") from None
    file = configuration.objects_variables
    variables = variables_in(Path(file)) if file else {}
    bucket = Bucket(url, variables, configuration.objects_timeout)
    cache = None
    if configuration.cache and is_cached:
        cache = Cache(Path(configuration.cache), configuration.cache_size, bucket.open)
    return RemoteObjects(bucket, cache, spool)
