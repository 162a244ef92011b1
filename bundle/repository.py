"""Which bundles a repository holds, by the names of its folders alone. Reads no file of a bundle.

A repository is a folder of `<name>/<version>/` folders. Whether one is sound, the reader decides.
"""

import re
from pathlib import Path

from bundle.errors import BundleError
from bundle.values import NAME

_VERSION = re.compile(r"[1-9][0-9]{0,9}")


def find_bundles(repository: Path) -> list[Path]:
    """Return the folders of bundles, sorted by name and then by version as a number.

    Other names are skipped, among them hidden ones, such as what a crashed writer leaves behind. Raises
    BundleError where the repository is not a folder that can be listed.
    """
    found = [version for name in _folders(repository, NAME) for version in _folders(name, _VERSION)]
    return sorted(found, key=lambda folder: (folder.parent.name, int(folder.name)))


def newest(repository: Path, name: str) -> Path | None:
    """Return the folder of a name's highest version, or None. Raises BundleError as `find_bundles`."""
    versions = [folder for folder in find_bundles(repository) if folder.parent.name == name]
    return versions[-1] if versions else None


def _folders(parent: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return [folder for folder in parent.iterdir() if pattern.fullmatch(folder.name) and folder.is_dir()]
    except OSError as error:
        raise BundleError(
            f"{parent.name}: cannot be listed: {error.strerror}; a folder is allowed"
        ) from error
