"""Results on disk: where they are, and what is measured on them."""

from __future__ import annotations

import importlib
import re
import secrets
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np

from syncam.model_card import ASSETS_FOLDER, split_words
from syncam.video import MultiViewVideo

EXAMPLES_FOLDER = ASSETS_FOLDER / "examples"
OUTPUTS_FOLDER = Path("outputs")


class Results:
    """The folders of results: those that were made here, and the shipped examples."""

    def __init__(self, outputs: Path = OUTPUTS_FOLDER, examples: Path = EXAMPLES_FOLDER):
        self.outputs, self._examples = Path(outputs), Path(examples)

    def require_writable(self) -> None:
        """Raises: OSError if results can't be written: to be known at the start, not after a long run."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self.outputs).close()

    def new_folder(self) -> Path:
        """A place for a new result, not there yet, whose name another visitor can't guess."""
        return self.outputs / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"

    def folder(self, result_id: str) -> Path:
        """Where a result is: a job's in the outputs, or a shipped example's.

        Raises: ValueError if there is none (any more), whatever the page sent for an id.
        """
        if isinstance(result_id, str) and re.fullmatch(r"[\w-]{1,80}", result_id, re.ASCII):
            for folder in (self.outputs / result_id, self._examples / result_id):
                if (folder / "recipe.json").is_file():
                    return folder
        raise ValueError("This result is no longer on disk.")

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
    lags = measures.lags(measures.subject_places(result.frames))
    if lags and not {"bouncing", "jumping", "hopping"}.isdisjoint(words):
        seen["lag_frames"] = round(float(np.abs(lags).mean()), 1)
    return {"measured": seen}
