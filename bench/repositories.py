"""Model repositories of the run's own: the one model to be measured, and the same with longer answers."""

import shutil
from pathlib import Path

import msgspec

from bundle.folder import read_folder
from bundle.repository import find_bundles
from bundle.writer import publish

PREFERRED = "g2p-en"


def copy_model(repository: Path, name: str, to: Path) -> Path:
    """Copies the newest version of a model, unchanged, into the repository `to`; returns its folder there.

    Empty name: the only model, or g2p-en among several. Raises ValueError where there is no such model.
    """
    folders = find_bundles(repository)
    names = sorted({folder.parent.name for folder in folders})
    name = name or (names[0] if len(names) == 1 else PREFERRED)
    if name not in names:
        raise ValueError(f"model {name!r}: {', '.join(names) or 'none'} are in the repository")
    newest = max((folder for folder in folders if folder.parent.name == name), key=lambda f: int(f.name))
    target = to / name / newest.name
    shutil.copytree(newest, target)
    return target


def lengthen(folder: Path, steps: int, to: Path) -> None:
    """Publishes a bundle once more, with answers of so many tokens allowed, in the repository `to`."""
    manifest, _, files = read_folder(folder)
    limits = msgspec.structs.replace(
        manifest.limits, max_target_length=max(steps, manifest.limits.max_target_length)
    )
    publish(to, msgspec.structs.replace(manifest, limits=limits), files)
