"""Which folders count as bundles."""

from pathlib import Path

import pytest

from bundle.errors import BundleError
from bundle.manifest import MANIFEST
from bundle.repository import find_bundles, newest


def make(repository: Path, *places: str) -> None:
    for place in places:
        (repository / place).mkdir(parents=True)
        (repository / place / MANIFEST).write_bytes(b"")


def test_sorted_by_name_and_then_by_version_as_a_number(tmp_path: Path) -> None:
    make(tmp_path, "b/1", "a/10", "a/2", "a.b/1", "a/1")
    found = [folder.relative_to(tmp_path).as_posix() for folder in find_bundles(tmp_path)]
    assert found == ["a/1", "a/2", "a/10", "a.b/1", "b/1"]


@pytest.mark.parametrize(
    "place",
    [".hidden/1", "a/.1.partial", "a/01", "a/0", "a/-1", "a/v1", "a/1.5", "A/1", "a/١", "a/+1", "a/1 "],
)
def test_skips_other_names(tmp_path: Path, place: str) -> None:
    make(tmp_path, "a/3", place)
    assert find_bundles(tmp_path) == [tmp_path / "a" / "3"]


def test_skips_files_but_no_folder_that_lacks_its_manifest(tmp_path: Path) -> None:
    """It is somebody's bundle, and not sound: whoever reads it says so."""
    make(tmp_path, "a/3")
    (tmp_path / "a" / "4").mkdir()
    (tmp_path / "a" / "5").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").mkdir()
    assert find_bundles(tmp_path) == [tmp_path / "a" / "3", tmp_path / "a" / "4"]


def test_newest(tmp_path: Path) -> None:
    make(tmp_path, "a/9", "a/10", "b/11")
    assert newest(tmp_path, "a") == tmp_path / "a" / "10"
    assert newest(tmp_path, "c") is None


def test_an_empty_repository_is_one(tmp_path: Path) -> None:
    assert find_bundles(tmp_path) == []


def test_what_is_no_folder_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "absent"):
        with pytest.raises(BundleError, match=rf"^{name}: cannot be listed: .*; a folder is allowed"):
            find_bundles(tmp_path / name)
