"""Folders with one thing wrong: each is refused by name, and nothing outside the folder is ever touched."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bundle.folder
from bundle.errors import BundleError
from bundle.manifest import MANIFEST
from bundle.reader import read_bundle
from tests.bundle.conftest import FILES

EVERY_FILE = (MANIFEST, *FILES)


def refused(folder: Path, file: str, words: str) -> None:
    """Assert that reading fails, names the file, and says nothing about where the folder lies."""
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert words in message
    assert "allow" in message or "exactly" in message or "JSON" in message
    assert str(folder.parent.parent) not in message


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    fields = json.loads((folder / MANIFEST).read_bytes())
    change(fields)
    (folder / MANIFEST).write_text(json.dumps(fields))


def replace_listed(folder: Path, file: str, data: bytes) -> None:
    """Replace a file and list the new one in the manifest, so that only its meaning can be wrong."""
    (folder / file).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite_manifest(folder, lambda fields: fields["files"].update({file: entry}))


def test_reads_a_sound_bundle(folder: Path, files: dict[str, bytes]) -> None:
    read = read_bundle(folder)
    assert (read.manifest.name, read.manifest.version) == ("g2p-toy", 1)
    assert read.digest == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert read.graphs == {name: data for name, data in files.items() if name.endswith(".onnx")}
    assert [read.manifest.profile(name).name for name in ("", "int8")] == ["fp32", "int8"]
    assert read.source.encode("abc") == [2, 3, 4]
    assert read.target.decode([2, 3]) == "X Y"
    assert len(read.golden.cases) == 2


def test_reads_a_relative_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert read_bundle(Path("1")).manifest.version == 1


@pytest.mark.parametrize("file", EVERY_FILE)
@pytest.mark.parametrize("percent", [0, 1, 25, 50, 75, 99])
def test_refuses_a_truncated_file(folder: Path, file: str, percent: int) -> None:
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: len(data) * percent // 100])
    refused(folder, file, "" if file == MANIFEST else "the manifest allows exactly")


@pytest.mark.parametrize("file", FILES)
def test_refuses_a_file_that_lacks_or_has_one_byte_more(folder: Path, file: str) -> None:
    data = (folder / file).read_bytes()
    for wrong in (data[:-1], data + b"\n"):
        (folder / file).write_bytes(wrong)
        refused(folder, file, f"{len(wrong)} bytes; the manifest allows exactly {len(data)}")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("position", [0, 0.5, -1])
def test_refuses_a_flipped_bit(folder: Path, file: str, position: float) -> None:
    data = bytearray((folder / file).read_bytes())
    data[position if position == -1 else int(len(data) * position)] ^= 1
    (folder / file).write_bytes(data)
    refused(folder, file, "SHA-256")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_a_missing_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    refused(folder, file, "No such file" if file == MANIFEST else "missing")


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        ".hidden",
        "encoder.onnx",
        "encoder.fp16.onnx",
        "decoder.fp32.onnx.data",
        "Manifest.json",
        "evil\n\x1b[2J",
    ],
)
def test_refuses_an_extra_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    refused(folder, repr(name), "not a file of a bundle")


def test_refuses_an_extra_folder(folder: Path) -> None:
    (folder / "more").mkdir()
    refused(folder, "'more'", "not a file of a bundle")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_a_folder_in_place_of_a_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).mkdir()
    refused(folder, file, "regular file")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_a_symbolic_link(folder: Path, file: str) -> None:
    elsewhere = folder.parent / file
    (folder / file).rename(elsewhere)
    (folder / file).symlink_to(elsewhere)
    refused(folder, file, "regular file")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_a_hard_link(folder: Path, file: str) -> None:
    os.link(folder / file, folder.parent / file)
    refused(folder, file, "has 2 hard links")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_a_pipe_without_waiting_for_it(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(folder, file, "regular file")


def test_refuses_a_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "golden.json").unlink()
    monkeypatch.chdir(folder)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("golden.json")
        refused(folder, "golden.json", "regular file")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_an_unreadable_file(folder: Path, file: str) -> None:
    (folder / file).chmod(0)
    if os.access(folder / file, os.R_OK):
        pytest.skip("this user may read everything")
    refused(folder, file, "Permission denied")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_file_that_the_system_will_not_open(
    folder: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, for root too."""
    system_open = os.open

    def denied(path: Any, *arguments: Any, **options: Any) -> int:
        if path == file:
            raise PermissionError(13, "Permission denied", str(folder / file))
        return system_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", denied)
    refused(folder, file, "Permission denied")


def test_refuses_a_size_that_no_memory_holds(folder: Path) -> None:
    """Before it asks for so much."""
    most = 2**40
    rewrite_manifest(folder, lambda fields: fields["files"]["source.json"].update(size=most))
    refused(folder, "source.json", f"the manifest allows exactly {most}")


def test_refuses_a_graph_over_its_size_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(path.stat().st_size for path in folder.glob("*.onnx"))
    monkeypatch.setattr(bundle.folder, "LARGEST_GRAPH_BYTES", size)
    read_bundle(folder)
    monkeypatch.setattr(bundle.folder, "LARGEST_GRAPH_BYTES", size - 1)
    with pytest.raises(BundleError, match=rf"onnx: {size} bytes; at most {size - 1} are allowed"):
        read_bundle(folder)


@pytest.mark.parametrize("file", EVERY_FILE)
def test_refuses_a_file_over_its_size_limit(folder: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / file).stat().st_size
    monkeypatch.setitem(bundle.folder.LARGEST_BYTES, file, size)
    read_bundle(folder)
    monkeypatch.setitem(bundle.folder.LARGEST_BYTES, file, size - 1)
    refused(folder, file, f"at most {size - 1} are allowed")


def test_refuses_a_symbolic_link_to_the_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to("elsewhere")
    refused(folder, "1", "cannot be opened")


def test_refuses_what_is_no_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    refused(folder, "1", "No such file")
    folder.write_bytes(b"")
    refused(folder, "1", "Not a directory")


def test_refuses_another_format_version(folder: Path) -> None:
    rewrite_manifest(folder, lambda fields: fields.update(format_version=4, new_field={}))
    refused(folder, MANIFEST, "format_version is 4; 3 is allowed")


@pytest.mark.parametrize("place", ["g2p-toy/2", "g2p-toy/01", "other/1", "g2p-toy/latest"])
def test_refuses_a_folder_named_otherwise(folder: Path, place: str) -> None:
    moved = folder.parent.parent / place
    moved.parent.mkdir(exist_ok=True)
    folder.rename(moved)
    refused(moved, MANIFEST, f"describes g2p-toy/1, but lies in the folder {place}")


def test_refuses_files_of_two_versions_mixed(folder: Path, publish_changed: Callable[..., Path]) -> None:
    second = publish_changed(version=2)
    assert read_bundle(second).manifest.version == 2
    (second / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())
    refused(second, MANIFEST, "describes g2p-toy/1")


def test_the_manifest_lists_exactly_the_files(folder: Path) -> None:
    rewrite_manifest(folder, lambda fields: fields["files"].pop("golden.json"))
    refused(folder, MANIFEST, "files lists")


@pytest.mark.parametrize("name", ["../golden.json", "/etc/passwd", "manifest.json", "extra.json"])
def test_the_manifest_lists_no_other_file(folder: Path, name: str) -> None:
    rewrite_manifest(folder, lambda fields: fields["files"].update({name: fields["files"]["golden.json"]}))
    refused(folder, MANIFEST, "files lists")


@pytest.mark.parametrize("file", FILES)
def test_refuses_a_manifest_with_another_hash(folder: Path, file: str) -> None:
    rewrite_manifest(folder, lambda fields: fields["files"][file].update(sha256="0" * 64))
    refused(folder, file, "SHA-256")


def test_the_digest_names_every_byte_of_the_manifest(folder: Path) -> None:
    before = read_bundle(folder).digest
    with (folder / MANIFEST).open("ab") as file:
        file.write(b"\n")
    assert read_bundle(folder).digest != before


def test_what_is_checked_is_what_is_returned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is opened once: one replaced behind the reader's back is either the old one or refused."""
    opened: list[Any] = []
    system_open = os.open

    def noted(path: Any, *arguments: Any, **options: Any) -> int:
        opened.append(path)
        return system_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", noted)
    read_bundle(folder)
    assert sorted(opened[1:]) == sorted(EVERY_FILE)


def test_a_file_that_grows_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_fstat = os.fstat

    def grow_afterwards(descriptor: int) -> os.stat_result:
        status = system_fstat(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "golden.json":
            with (folder / "golden.json").open("ab") as file:
                file.write(b"x" * 1000)
        return status

    monkeypatch.setattr(os, "fstat", grow_afterwards)
    refused(folder, "golden.json", "bytes; the manifest allows exactly")


def test_leaves_no_file_open(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    read_bundle(folder)
    for file in EVERY_FILE:
        (folder / file).unlink()
        (folder / file).mkdir()
        with pytest.raises(BundleError):
            read_bundle(folder)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
