"""A model folder's list of checksums: written when it is made, compared when it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from syncam.model_card import ModelCard

MANIFEST = "SHA256SUMS"


def write_manifest(folder: Path) -> None:
    """List the sha256 of every file of a model folder, in the format of ``sha256sum``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def write_card(folder: Path, card: ModelCard) -> None:
    """Put a card beside a model's weights, and into the manifest if there is one."""
    (folder / "syncam.json").write_text(card.to_json(), encoding="utf-8")
    if (folder / MANIFEST).is_file():
        write_manifest(folder)


def verify_manifest(folder: Path) -> str:
    """Compare a model's files with its manifest.  Returns the manifest's own sha256, which stands for the weights.

    Raises: ValueError naming the first file that differs. A folder without a manifest (one's own training run) passes.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return ""
    for line in manifest.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise ValueError(f"the model in {folder.name} is incomplete: {name} is missing")
        if sha256_of(path) != digest:
            raise ValueError(f"the model in {folder.name} is damaged: {name} is not what {MANIFEST} says")
    return sha256_of(manifest)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
