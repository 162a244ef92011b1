"""Reads the files of one folder into memory, trusting nothing in it. Knows nothing about what the files mean.

A file is opened once; what is checked and what is returned are the same bytes.
"""

import hashlib
import os
import stat
from pathlib import Path

from bundle.errors import BundleError
from bundle.lexicon import LARGEST_LEXICON_BYTES
from bundle.manifest import LEXICON, MANIFEST, FileEntry, Manifest, decode_manifest

_MIB = 2**20
LARGEST_BYTES = {
    MANIFEST: _MIB,
    "source.json": 64 * _MIB,
    "target.json": 64 * _MIB,
    "golden.json": 64 * _MIB,
    LEXICON: LARGEST_LEXICON_BYTES,
}
LARGEST_GRAPH_BYTES = 1024 * _MIB


def read_folder(folder: Path) -> tuple[Manifest, bytes, dict[str, bytes]]:
    """Return the manifest, its bytes, and the bytes of every other file, all as the manifest lists them.

    Raises BundleError where the folder holds anything else, or is not named after its manifest's name and
    version.
    """
    path = folder.absolute()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"{path.name}: cannot be opened: {error.strerror}; a folder is allowed") from error
    try:
        manifest_bytes = _read(descriptor, MANIFEST)
        manifest = decode_manifest(manifest_bytes)
        _check_place(manifest, path)
        _check_listed(manifest)
        _check_names(descriptor, manifest)
        files = {name: _read(descriptor, name, manifest.files[name]) for name in manifest.file_names()}
    finally:
        os.close(descriptor)
    return manifest, manifest_bytes, files


def _check_listed(manifest: Manifest) -> None:
    allowed = sorted(manifest.file_names())
    if sorted(manifest.files) != allowed:
        raise BundleError(f"{MANIFEST}: files lists {sorted(manifest.files)}; exactly {allowed} are allowed")


def _check_names(descriptor: int, manifest: Manifest) -> None:
    found, allowed = set(os.listdir(descriptor)), {MANIFEST, *manifest.file_names()}
    for name in sorted(allowed - found):
        raise BundleError(f"{name}: missing; a bundle holds exactly {sorted(allowed)}")
    for name in sorted(found - allowed):
        raise BundleError(f"{name[:64]!r}: not a file of a bundle, which holds exactly {sorted(allowed)}")


def _check_place(manifest: Manifest, path: Path) -> None:
    place = f"{path.parent.name}/{path.name}"
    if place != f"{manifest.name}/{manifest.version}":
        raise BundleError(
            f"{MANIFEST}: describes {manifest.name}/{manifest.version}, but lies in the folder {place}; "
            "a folder named after the manifest's name and version is allowed"
        )


def _read(folder: int, name: str, entry: FileEntry | None = None) -> bytes:
    """Return a file's bytes; `folder` is a descriptor. A link is refused and a pipe never waited for."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            _check_status(name, status)
            if entry is not None:
                _check_size(name, status.st_size, entry)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(_largest(name) + 1 if entry is None else entry.size + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BundleError(f"{name}: cannot be read: {error.strerror}; a regular file is allowed") from error
    if entry is not None:
        _check_bytes(name, data, entry)
    return data


def _check_status(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{name}: not a regular file; only regular files are allowed")
    if status.st_nlink != 1:
        raise BundleError(f"{name}: has {status.st_nlink} hard links; 1 is allowed")
    if status.st_size > _largest(name):
        raise BundleError(f"{name}: {status.st_size} bytes; at most {_largest(name)} are allowed")


def _largest(name: str) -> int:
    return LARGEST_BYTES.get(name, LARGEST_GRAPH_BYTES)


def _check_size(name: str, size: int, entry: FileEntry) -> None:
    if size != entry.size:
        raise BundleError(f"{name}: {size} bytes; the manifest allows exactly {entry.size}")


def _check_bytes(name: str, data: bytes, entry: FileEntry) -> None:
    _check_size(name, len(data), entry)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(
            f"{name}: its SHA-256 is not the one in the manifest; only those very bytes are allowed"
        )
