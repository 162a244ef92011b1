"""Publishing is all or nothing, wherever it stops."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bundle.errors import BundleError
from bundle.manifest import MANIFEST, Manifest
from bundle.reader import read_bundle
from bundle.repository import find_bundles
from bundle.writer import publish
from tests.bundle.conftest import FILES


class StoppedError(Exception):
    """The machine, as far as the writer can tell, has gone."""


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> Callable[[], int]:
    """Make the n-th call of a function of `os` raise; return a count of the calls."""
    calls = 0
    original = getattr(os, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise StoppedError(name)
        return original(*arguments, **options)

    monkeypatch.setattr(os, name, counted)
    return lambda: calls


def everything_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_publishes_exactly_the_files(tmp_path: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    folder = publish(tmp_path / "models", manifest, files)
    assert folder == tmp_path / "models" / "g2p-toy" / "1"
    assert everything_in(tmp_path) == {"models", "models/g2p-toy", "models/g2p-toy/1"} | {
        f"models/g2p-toy/1/{name}" for name in (MANIFEST, *FILES)
    }
    assert {name: (folder / name).read_bytes() for name in FILES} == files
    read = read_bundle(folder).manifest
    assert msgspec.structs.replace(read, files={}) == manifest
    assert {name: entry.size for name, entry in read.files.items()} == {n: len(files[n]) for n in FILES}


def test_the_same_bundle_is_the_same_bytes(
    tmp_path: Path, manifest: Manifest, files: dict[str, bytes]
) -> None:
    folders = [publish(tmp_path / place, manifest, files) for place in ("one", "two")]
    assert read_bundle(folders[0]).digest == read_bundle(folders[1]).digest


# Eight files and their folder are flushed before the rename; the two folders above it afterwards.
@pytest.mark.parametrize(
    ("name", "call"), [("rename", 1), ("mkdir", 2), *(("fsync", call) for call in range(1, 10))]
)
def test_a_writer_that_fails_leaves_nothing(
    tmp_path: Path,
    manifest: Manifest,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
) -> None:
    (tmp_path / "models").mkdir()
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_at(patch, name, call)
        publish(tmp_path / "models", manifest, files)
    assert everything_in(tmp_path) <= {"models", "models/g2p-toy"}
    assert find_bundles(tmp_path / "models") == []
    read_bundle(publish(tmp_path / "models", manifest, files))


@pytest.mark.parametrize(
    "name_and_call", [("rename", 1), *(("fsync", call) for call in range(1, 10))], ids=str
)
def test_a_writer_that_is_killed_leaves_no_bundle(
    tmp_path: Path,
    manifest: Manifest,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    name_and_call: tuple[str, int],
) -> None:
    """As above, and without tidying up: what lies there is no bundle to anybody, and is in nobody's way."""
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_at(patch, *name_and_call)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        publish(tmp_path / "models", manifest, files)
    (partial,) = (tmp_path / "models" / "g2p-toy").iterdir()
    assert partial.name.startswith(".1.")
    assert find_bundles(tmp_path / "models") == []
    with pytest.raises(BundleError):
        read_bundle(partial)
    folder = publish(tmp_path / "models", manifest, files)
    assert find_bundles(tmp_path / "models") == [folder]


@pytest.mark.parametrize("call", [10, 11])
def test_after_the_rename_the_bundle_is_whole(
    tmp_path: Path, manifest: Manifest, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_at(patch, "fsync", call)
        publish(tmp_path / "models", manifest, files)
    (folder,) = find_bundles(tmp_path / "models")
    read_bundle(folder)


def test_everything_is_flushed_before_the_rename(
    tmp_path: Path, manifest: Manifest, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_rename(*arguments: Any, **options: Any) -> None:
        events.append("rename")
        rename(*arguments, **options)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    publish(tmp_path / "models", manifest, files)
    partial = events.pop(8)
    assert partial.startswith(".1.")
    assert events == [*FILES, MANIFEST, "rename", "g2p-toy", "models"]


def test_never_replaces_a_version(folder: Path, publish_changed: Callable[..., Path]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BundleError, match=r"^g2p-toy/1: exists already"):
        publish_changed()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert publish_changed(version=2).name == "2"


@pytest.mark.parametrize("kind", ["empty folder", "file", "dangling link"])
def test_never_replaces_anything_else(
    tmp_path: Path, publish_changed: Callable[..., Path], kind: str
) -> None:
    final = tmp_path / "models" / "g2p-toy" / "1"
    final.parent.mkdir(parents=True)
    if kind == "empty folder":
        final.mkdir()
    elif kind == "file":
        final.write_bytes(b"")
    else:
        final.symlink_to("nowhere")
    with pytest.raises(BundleError, match="exists already"):
        publish_changed()
    assert everything_in(tmp_path) == {"models", "models/g2p-toy", "models/g2p-toy/1"}


def test_an_empty_folder_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, publish_changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename alone would replace it in silence."""
    final = tmp_path / "models" / "g2p-toy" / "1"
    monkeypatch.setattr(os, "fsync", lambda _: final.mkdir(exist_ok=True))
    with pytest.raises(BundleError, match="exists already"):
        publish_changed()
    assert list(final.iterdir()) == []


def test_the_second_of_two_writers_loses(
    tmp_path: Path, publish_changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One publishes while the other writes: the later rename finds a folder that is not empty."""
    rename = os.rename

    def beaten(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(os, "rename", rename)
        publish_changed()
        rename(*arguments, **options)

    monkeypatch.setattr(os, "rename", beaten)
    with pytest.raises(OSError, match="not empty"):
        publish_changed()
    assert len(list((tmp_path / "models" / "g2p-toy").iterdir())) == 1
    read_bundle(tmp_path / "models" / "g2p-toy" / "1")


@pytest.mark.parametrize("missing", FILES)
def test_refuses_a_file_too_few_or_too_many(
    tmp_path: Path, manifest: Manifest, files: dict[str, bytes], missing: str
) -> None:
    few = {name: data for name, data in files.items() if name != missing}
    for wrong in (few, {**files, "extra.json": b"{}"}, {**files, MANIFEST: b"{}"}):
        with pytest.raises(BundleError, match=r"^files: .* exactly"):
            publish(tmp_path / "models", manifest, wrong)
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize("name", ["../up", "/etc", "", ".hidden"])
def test_never_writes_outside_the_repository(
    tmp_path: Path, publish_changed: Callable[..., Path], name: str
) -> None:
    with pytest.raises(BundleError, match="name"):
        publish_changed(name=name)
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize("file", FILES)
def test_refuses_what_a_reader_would_refuse(
    tmp_path: Path, publish_changed: Callable[..., Path], file: str
) -> None:
    with pytest.raises(BundleError, match=rf"^{file}: "):
        publish_changed({file: b"not this"})
    assert everything_in(tmp_path) == set()
