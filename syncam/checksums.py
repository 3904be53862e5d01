"""A model folder's list of checksums: written when it is made, compared when it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from syncam.model_card import ModelCard

CHECKSUMS_FILE = "SHA256SUMS"


def write_checksums(folder: Path) -> None:
    """List the sha256 of every file of a model folder, in the format of ``sha256sum``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS_FILE)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def write_card(folder: Path, card: ModelCard) -> None:
    """Put a card beside a model's weights, and into its list of checksums if there is one."""
    (folder / "syncam.json").write_text(card.to_json(), encoding="utf-8")
    if (folder / CHECKSUMS_FILE).is_file():
        write_checksums(folder)


def verify_checksums(folder: Path) -> str:
    """Compare a model's files with its checksums.  Returns the sha256 of their list, which stands for the weights.

    Raises: ValueError naming the first file that differs. A folder without a list (one's own training run) passes.
    """
    listing = folder / CHECKSUMS_FILE
    if not listing.is_file():
        return ""
    for line in listing.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise ValueError(f"the model in {folder.name} is incomplete: {name} is missing")
        if sha256_of(path) != digest:
            raise ValueError(f"the model in {folder.name} is damaged: {name} is not what {CHECKSUMS_FILE} says")
    return sha256_of(listing)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
