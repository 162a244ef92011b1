"""Publishes a bundle: all of it at once, or nothing. What the files mean, it leaves to the reader."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bundle.errors import BundleError
from bundle.manifest import MANIFEST, FileEntry, Manifest, encode_manifest
from bundle.reader import assemble


def publish(repository: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write the folder `repository/name/version` and return its path.

    `files` holds every file but the manifest; `manifest.files` is filled here, whatever it held. The bytes go
    into a hidden sibling folder, the manifest last, all flushed to the disk; one rename makes them a bundle.

    Raises BundleError where the version exists already or a reader would refuse the bundle, OSError where the
    disk fails.
    """
    names = manifest.file_names()
    if set(files) != set(names):
        raise BundleError(f"files: {sorted(files)} are given; exactly {sorted(names)} are allowed")
    entries = {
        name: FileEntry(size=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
        for name in names
    }
    manifest = msgspec.structs.replace(manifest, files=entries)
    manifest_bytes = encode_manifest(manifest)
    assemble(manifest, manifest_bytes, files)  # nothing is published that a reader would refuse

    parent = repository / manifest.name
    final = parent / str(manifest.version)
    refuse_existing(final)
    parent.mkdir(parents=True, exist_ok=True)
    partial = parent / f".{manifest.version}.{secrets.token_hex(8)}.partial"
    partial.mkdir()
    try:
        for name in names:
            _write(partial / name, files[name])
        _write(partial / MANIFEST, manifest_bytes)
        _flush_folder(partial)
        # A rename would replace an empty folder in silence; a full one, it refuses by itself.
        refuse_existing(final)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _flush_folder(parent)
    _flush_folder(repository)
    return final


def refuse_existing(final: Path) -> None:
    """Raises BundleError where a bundle's folder is there already."""
    if os.path.lexists(final):
        raise BundleError(f"{final.parent.name}/{final.name}: exists already; a new version is allowed")


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
