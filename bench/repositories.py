"""Model repositories of the run's own: the one model to be measured, and the same with longer answers."""

import shutil
from pathlib import Path

import msgspec

from bundle.folder import read_folder
from bundle.repository import find_bundles
from bundle.writer import publish

PREFERRED = "g2p-en/1"  # the plain encoder-decoder, in every profile: all figures so far are its


def copy_model(repository: Path, name: str, to: Path) -> Path:
    """Copies one version of a model, unchanged, into the repository `to`; returns its folder there.

    `name` is NAME/VERSION, or NAME for the newest one; empty: the only bundle, or g2p-en/1 among several.
    Raises ValueError where there is no such model.
    """
    folders = {f"{folder.parent.name}/{folder.name}": folder for folder in find_bundles(repository)}
    name, _, version = (name or (next(iter(folders)) if len(folders) == 1 else PREFERRED)).partition("/")
    versions = [int(folder.name) for folder in folders.values() if folder.parent.name == name]
    found = folders.get(f"{name}/{version or max(versions, default=0)}")
    if found is None:
        known = ", ".join(sorted(folders)) or "none"
        raise ValueError(f"model {name}{version and f'/{version}'}: {known} are in the repository")
    target = to / name / found.name
    shutil.copytree(found, target)
    return target


def lengthen(folder: Path, steps: int, to: Path) -> None:
    """Publishes a bundle once more, with answers of so many tokens allowed, in the repository `to`."""
    manifest, _, files = read_folder(folder)
    limits = msgspec.structs.replace(
        manifest.limits, max_target_length=max(steps, manifest.limits.max_target_length)
    )
    publish(to, msgspec.structs.replace(manifest, limits=limits), files)
