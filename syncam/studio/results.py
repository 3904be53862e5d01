"""Results on disk: where they are, and what is measured on them."""

from __future__ import annotations

import contextlib
import importlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np

from syncam.model_card import ASSETS_FOLDER
from syncam.prompts import split_words
from syncam.result import MultiViewVideo

EXAMPLES_FOLDER = ASSETS_FOLDER / "examples"
OUTPUTS_FOLDER = Path("outputs")
MAX_VIEWERS = 500
REMOVED = ".removed-"  # how the name of a result begins while it is deleted


class Results:
    """The folders of results: those that were made here, and the shipped examples."""

    def __init__(self, outputs: Path = OUTPUTS_FOLDER, examples: Path = EXAMPLES_FOLDER):
        self.outputs, self._examples = Path(outputs), Path(examples)
        self._started = time.time() - time.monotonic()
        self._shown: dict[str, tuple[str, set[Path]]] = {}  # what each visitor looks at: a result, and its served files

    def require_writable(self) -> None:
        """Raises: OSError if results can't be written: to be known at the start, not after a long run."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self.outputs).close()

    def new_folder(self) -> Path:
        """A place for a new result, not there yet, whose name another visitor can't guess."""
        return self.outputs / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(12)}"

    def folder(self, result_id: str | None) -> Path:
        """Where a result is: a job's in the outputs, or a shipped example's.

        Raises: ValueError if there is none (any more), whatever the page sent for an id.
        """
        if isinstance(result_id, str) and re.fullmatch(r"[\w-]{1,80}", result_id, re.ASCII):
            for folder in (self.outputs / result_id, self._examples / result_id):
                if (folder / "recipe.json").is_file():
                    return folder
        raise ValueError("This result is no longer on disk.")

    def shows(self, session: str, result_id: str, files: Collection[Path] = ()) -> None:
        """Notes what a visitor looks at now, empty for nothing: it is not removed to make room.

        Args: ``files``: those of the result that the page was given.
        """
        self._shown.pop(session, None)
        if result_id:
            self._shown[session] = result_id, set(files)
        while len(self._shown) > MAX_VIEWERS:  # or strangers who only pretend to look would keep everything
            self._shown.pop(next(iter(self._shown)), None)

    def remove(self, result_id: str | None) -> None:
        """Deletes a result that was made here.

        Raises: ValueError if there is none of that id, or if it is a shipped example.
        """
        folder = self.folder(result_id)
        if self.is_example(folder):
            raise ValueError("An example can't be deleted.")
        # First under a name that no reader looks for, so that nobody finds half a result.
        doomed = folder.rename(folder.with_name(f"{REMOVED}{folder.name}"))
        shutil.rmtree(doomed, ignore_errors=True)

    def prune(self, kept_seconds: float, kept_bytes: int) -> None:
        """Deletes results that are too old, then the oldest until the rest is small enough; none that is shown."""
        now = self._started + time.monotonic()  # a clock that is set anew makes nothing old
        made, shown = {}, {name for name, _ in tuple(self._shown.values())}
        for folder in self.outputs.iterdir() if self.outputs.is_dir() else ():
            with contextlib.suppress(OSError):  # another server on the same folder may have removed it
                if folder.name.startswith(REMOVED):  # what a server that was killed did not come to
                    shutil.rmtree(folder, ignore_errors=True)
                elif (folder / "recipe.json").is_file():
                    size = sum(path.stat().st_size for path in folder.iterdir())
                    made[folder.name] = (folder / "recipe.json").stat().st_mtime, size
        total = sum(size for _, size in made.values())
        for name, (when, size) in sorted(made.items(), key=lambda item: item[1]):
            if name not in shown and (now - when > kept_seconds or total > kept_bytes):
                with contextlib.suppress(OSError, ValueError):
                    self.remove(name)
                    total -= size

    def prune_files(self, files: Iterable[Path], kept_seconds: float, kept_bytes: int) -> None:
        """The same for single files that were made for visitors or brought by them. Some may be gone already."""
        made, now = [], self._started + time.monotonic()
        for path in set(files) - self._files_shown():
            with contextlib.suppress(OSError):
                made.append((path.lstat().st_ctime, path.lstat().st_size, path))
        total = sum(size for _, size, _ in made)
        for when, size, path in sorted(made):
            if now - when > kept_seconds or total > kept_bytes:
                path.unlink(missing_ok=True)
                total -= size

    def _files_shown(self) -> set[Path]:
        return {path for _, files in tuple(self._shown.values()) for path in files}

    def is_example(self, folder: Path) -> bool:
        return folder.parent == self._examples

    def examples(self) -> list[Path]:
        """The folders of shipped results, in the order of their names."""
        folders = sorted(self._examples.iterdir()) if self._examples.is_dir() else []
        return [folder for folder in folders if (folder / "recipe.json").is_file()]


def measured(result: MultiViewVideo) -> dict:
    """How well the views of the embedded model's world agree, for the recipe; nothing where that can't be measured."""
    if result.recipe.get("model") != "embedded":
        return {}
    measures = importlib.import_module("syncam.evaluation.measures")  # needs torch: not before the model does
    words = split_words(result.recipe["prompt"])
    figures = measures.measure(result)
    seen = {"subject_found_percent": round(100 * float(figures["found"].mean()), 1)}
    if len(figures["reprojection"]):
        seen["reprojection_error_percent_of_width"] = round(float(figures["reprojection"].mean()), 2)
    if len(figures["lag"]) and not {"bouncing", "jumping", "hopping"}.isdisjoint(words):
        seen["lag_frames"] = round(float(np.abs(figures["lag"]).mean()), 1)
    return {"measured": seen}
