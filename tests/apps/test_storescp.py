from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire import ALL_TRANSFER_SYNTAXES, build_context, evt
from dicomwire.apps import storescp
from dicomwire.apps.invocation import program
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.data.sinks import FileSink
from dicomwire.protocol.command import decode_command, encode_command
from dicomwire.protocol.items import MaximumLengthNotification
from dicomwire.protocol.pdu import AssociateRQ, PDataTF, PDUType
from dicomwire.sop_class import NuclearMedicineImageStorageRetired, Verification
from raw_peer import store_request

Capture = pytest.CaptureFixture[str]
Serve = Callable[..., Any]
WriteFile = Callable[..., Path]

CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]


def send(app: Any, path: Path) -> int:
    """Send a file and return the status."""
    head = parse_file_meta(path.read_bytes())
    context = build_context(head.sop_class_uid, head.transfer_syntax_uid)
    with app.associate(context) as association:
        status: int = association.send_c_store(path).Status
    return status


# --- What is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"]
)
def test_a_dataset_is_kept_as_it_came(
    name: str, serve: Serve, wheel: Path, tmp_path: Path, capsys: Capture
) -> None:
    sent = (wheel / name).read_bytes()
    app = serve(storescp.main, "-od", str(tmp_path))
    assert send(app, wheel / name) == 0x0000
    (path,) = tmp_path.iterdir()
    kept = path.read_bytes()
    head, before = parse_file_meta(kept), parse_file_meta(sent)
    assert kept[head.offset :] == padded(sent[before.offset :])
    assert head[:3] == before[:3]
    assert kept[:128] == bytes(128)
    assert path.name[2:] == f".{head.sop_instance_uid}"
    dcmread(path)
    assert app.stop() == 0
    assert capsys.readouterr() == ("", "")


def test_names_have_a_prefix(serve: Serve, write_file: WriteFile, tmp_path: Path) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"))
    assert send(app, write_file("a", "1.2.3")) == 0x0000
    assert send(app, write_file("b", "1.2.4", EncapsulatedPDFStorage)) == 0x0000
    assert sorted(os.listdir(tmp_path / "out")) == ["CT.1.2.3", "UN.1.2.4"]


def test_the_folder_is_made(serve: Serve, write_file: WriteFile, tmp_path: Path) -> None:
    folder = tmp_path / "some" / "folder"
    app = serve(storescp.main, "--output-directory", str(folder))
    assert send(app, write_file("a")) == 0x0000
    assert os.listdir(folder) == ["CT.1.2.3"]


def test_the_folder_is_the_current_one_unless_said(
    serve: Serve, write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file("a")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    app = serve(storescp.main)
    assert send(app, path) == 0x0000
    assert os.listdir(tmp_path / "here") == ["CT.1.2.3"]


def test_a_file_of_that_name_is_replaced(
    serve: Serve, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"), "-ll", "warn")
    assert send(app, write_file("a")) == 0x0000
    (tmp_path / "out" / "CT.1.2.3").write_text("old")
    assert send(app, write_file("a")) == 0x0000
    assert dcmread(tmp_path / "out" / "CT.1.2.3").SOPInstanceUID == "1.2.3"
    app.stop()
    (line,) = capsys.readouterr().err.splitlines()
    assert " W: DICOM file already exists, overwriting: " in line
    assert line.endswith("out/CT.1.2.3")


def test_verbose(serve: Serve, write_file: WriteFile, tmp_path: Path, capsys: Capture) -> None:
    app = serve(storescp.main, "-v", "-od", str(tmp_path / "out"))
    assert send(app, write_file("a")) == 0x0000
    app.stop()
    shown = capsys.readouterr().err
    for expected in (
        f"I: Files go to {tmp_path}/out\n",
        f"I: STORESCP listens on 127.0.0.1, port {app.port}; Ctrl-C stops it\n",
        f"I: Send to it with: {program()} storescu 127.0.0.1 {app.port} FILES\n",
        f"I: or with DCMTK:   storescu 127.0.0.1 {app.port} FILES\n",
        "I: Accepting Association",
        "I: C-STORE from TESTER@127.0.0.1:",
        ": CTImageStorage, 1.2.3: 0x0000 - Success\n",
        "I: Association Released",
    ):
        assert expected in shown
    assert "W: " not in shown
    assert "Accept Parameters" not in shown


def test_debug(serve: Serve, write_file: WriteFile, tmp_path: Path, capsys: Capture) -> None:
    app = serve(storescp.main, "-d", "-od", str(tmp_path / "out"))
    assert send(app, write_file("a")) == 0x0000
    app.stop()
    shown = capsys.readouterr().err
    assert "Accept Parameters" in shown
    assert "pydicom.read_dataset()" in shown
    assert "Nobody" not in shown


def test_ignore(
    serve: Serve, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    app = serve(storescp.main, "--ignore", "-v")
    assert send(app, wheel / "CT_small.dcm") == 0x0000
    assert list(tmp_path.iterdir()) == []
    app.stop()
    assert ": CTImageStorage, " in capsys.readouterr().err


# --- What is accepted -------------------------------------------------------------------------


def test_echo_is_answered(serve: Serve, capsys: Capture) -> None:
    app = serve(storescp.main, "-v", "--ignore")
    with app.associate() as association:
        assert association.send_c_echo(3).Status == 0x0000
    app.stop()
    assert ": Verification: 0x0000 - Success\n" in capsys.readouterr().err


def test_no_echo(serve: Serve) -> None:
    app = serve(storescp.main, "--no-echo", "--ignore")
    with app.associate(build_context(Verification), *CT) as association:
        assert [each.abstract_syntax for each in association.accepted_contexts] == [CTImageStorage]


def test_settings(serve: Serve) -> None:
    app = serve(
        *(storescp.main, "--ignore", "-aet", "STORE", "-pdu", "65536"),
        *("-ta", "5", "-td", "6", "-tn", "inf", "--max-associations", "3"),
    )
    settings = app.server.ae.settings
    assert app.server.ae_title == "STORE"
    assert settings.network_timeout is None
    assert (settings.acse_timeout, settings.dimse_timeout) == (5, 6)
    assert settings.maximum_associations == 3
    with app.associate(*CT) as association:
        assert association.acceptor.maximum_length == 65536


@pytest.mark.parametrize(
    ("option", "accepted"),
    [
        ([], ImplicitVRLittleEndian),
        (["-x="], ExplicitVRLittleEndian),
        (["-xe"], ExplicitVRLittleEndian),
        (["--prefer-little"], ExplicitVRLittleEndian),
        (["-xb"], ExplicitVRBigEndian),
        (["-xi"], ImplicitVRLittleEndian),
    ],
)
def test_transfer_syntaxes(option: list[str], accepted: str, serve: Serve) -> None:
    app = serve(storescp.main, "--ignore", *option)
    context = build_context(CTImageStorage)
    context.transfer_syntax[:] = ALL_TRANSFER_SYNTAXES
    with app.associate(context) as association:
        assert [each.transfer_syntax for each in association.accepted_contexts] == [[accepted]]


def test_retired_storage_classes_are_taken(
    serve: Serve, write_file: WriteFile, tmp_path: Path
) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"))
    assert send(app, write_file("a", "1.2.3", NuclearMedicineImageStorageRetired)) == 0x0000
    assert os.listdir(tmp_path / "out") == ["UN.1.2.3"]


# --- Where it cannot be kept ------------------------------------------------------------------


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "folder"
    assert storescp.main(["0", "-ba", "127.0.0.1", "-od", str(folder)]) == 1
    assert capsys.readouterr().err == f"E: Cannot make the folder {folder}: Not a directory\n"


def test_an_object_that_cannot_be_written(
    serve: Serve, write_file: WriteFile, tmp_path: Path, capsys: Capture
) -> None:
    app = serve(storescp.main, "-od", str(tmp_path / "out"))
    shutil.rmtree(tmp_path / "out")
    assert send(app, write_file("a")) == 0xA700
    (tmp_path / "out").mkdir()
    assert send(app, write_file("a")) == 0x0000
    app.stop()
    (line,) = capsys.readouterr().err.splitlines()
    assert " E: C-STORE from TESTER@127.0.0.1:" in line
    assert ": CTImageStorage, 1.2.3: refused: the dataset cannot be kept: " in line


def test_port_in_use(peer: Any, capsys: Capture, tmp_path: Path) -> None:
    arguments = [str(peer.port), "-ba", "127.0.0.1", "-od", str(tmp_path)]
    assert storescp.main(arguments) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"E: Port {peer.port} is in use")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["port"],
        ["-1"],
        ["65536"],
        ["11112", "-xe", "-xb"],
        ["11112", "-q", "-v"],
        ["11112", "--max-associations", "0"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        storescp.main(arguments)
    assert end.value.code == 2
    assert "dicomwire storescp: " in capsys.readouterr().err


# --- Attacks ----------------------------------------------------------------------------------


class RawClient:
    """An association spoken byte by byte, so that anything can be sent."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        context = build_context(CTImageStorage, ExplicitVRLittleEndian)
        context.context_id = 1
        request = AssociateRQ(
            called_ae_title="ANY",
            calling_ae_title="RAW",
            presentation_contexts=[context],
            user_information=[MaximumLengthNotification(16382)],
        )
        self._socket.sendall(request.encode())
        assert self.receive()[0] == PDUType.ASSOCIATE_AC

    def store(self, sop_instance: bytes, last: bool = True) -> None:
        """Send a C-STORE request for an instance of any UID, and an element as its dataset."""
        marker = "1" * 32
        command = encode_command(store_request(marker, Priority=0))
        uid = sop_instance + b"\0" * (len(sop_instance) % 2)
        element = struct.pack("<HHI", 0, 0x1000, 32) + marker.encode()
        command = command.replace(element, struct.pack("<HHI", 0, 0x1000, len(uid)) + uid)
        dataset = b"\x10\x00\x20\x00LO\x02\x001 "
        self._socket.sendall(PDataTF([(1, 3, command)]).encode())
        self._socket.sendall(PDataTF([(1, 2 if last else 0, dataset)]).encode())

    def receive(self) -> bytes:
        """Return the next PDU; empty at the end of the connection."""
        header = self._read(6)
        return header + self._read(int.from_bytes(header[2:6], "big")) if header else b""

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self._socket.recv(size - len(data))):
            data += more
        return data

    def close(self) -> None:
        self._socket.close()


HOSTILE = [
    b"../../x",
    b"/etc/passwd",
    b"..",
    b".",
    b"~root",
    b"C:x",
    b"a/../../b",
    b"%2e%2e%2f",
    b"$(touch x)",
    b"1.2.3;x",
    b"9" * 64,
]


@pytest.mark.parametrize("uid", HOSTILE)
def test_a_uid_does_not_choose_where_its_file_goes(
    uid: bytes, serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "folder"
    app = serve(storescp.main, "-od", str(folder))
    client = RawClient(app.port)
    client.store(uid)
    assert client.receive()[0] == PDUType.P_DATA_TF
    client.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in files] == [folder]
    assert files[0].name.startswith("CT.")


@pytest.mark.parametrize("uid", [b"1" * 10_000, b"1.2\0/../x", b"..\\..\\x", b"\xff\xfe/", b"a\nb"])
def test_what_is_no_uid_at_all_is_refused(
    uid: bytes, serve: Serve, tmp_path: Path, write_file: WriteFile
) -> None:
    folder = tmp_path / "deep" / "folder"
    app = serve(storescp.main, "-od", str(folder))
    client = RawClient(app.port)
    client.store(uid)
    response = client.receive()
    client.close()
    assert decode_command(response[12:]).Status == 0x0117
    assert list(folder.iterdir()) == []
    assert send(app, write_file("a")) == 0x0000


def test_half_an_object_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    app = serve(storescp.main, "-od", str(tmp_path))
    came: Queue[Any] = Queue()
    app.server.bind(evt.EVT_PDU_RECV, lambda event: came.put(event.pdu))
    client = RawClient(app.port)
    client.store(b"1.2.3", last=False)
    received = [came.get(timeout=10) for _ in ("A-ASSOCIATE-RQ", "command", "dataset")]
    assert isinstance(received[-1], PDataTF)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    assert app.stop() == 0
    client.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_at_the_next_start(
    serve: Serve, tmp_path: Path
) -> None:
    sinks = [FileSink(tmp_path) for _ in range(2)]
    abandoned, busy = tmp_path.iterdir()
    os.utime(abandoned, (0, 0))
    (tmp_path / ".notes.part").touch()
    serve(storescp.main, "-od", str(tmp_path))
    assert set(tmp_path.iterdir()) == {busy, tmp_path / ".notes.part"}
    for sink in sinks:
        sink.discard()


def padded(dataset: bytes) -> bytes:
    """Return `dataset` as it is sent: with a NUL where its length is odd (PS3.5 Annex A.5)."""
    return dataset + bytes(len(dataset) % 2)
