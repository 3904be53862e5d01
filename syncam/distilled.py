"""Base models and LoRAs of Wan2.1 1.3B that need few steps, and how each wants to be sampled.

Known by what their published files are called; for any other, the same is said by options. Nobody has trained the
multi-view module with these bases, so that whether the views agree is for a measurement to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from syncam.model_card import ModelCard


@dataclass(frozen=True)
class FewSteps:
    """How a distilled model is sampled. ``shift`` None: its solver has noise levels of its own."""

    name: str
    marks: tuple[str, ...]  # all of these are in the file's or the repository's name, in lower case
    solver: str
    num_inference_steps: int
    shift: float | None = None
    licence: str = ""  # where it is not a free one


# rCM, self-forcing and CausVid: as their repositories say; AnyFlow's shift: as diffusers' docstring does. None of these
# files has been run here. A repository whose settings are not sure is not in the list: say them by options.
KNOWN = (
    FewSteps("rCM", ("rcm", "wan"), "trigflow", 4),
    FewSteps("AnyFlow", ("anyflow",), "euler", 4, 5.0, "NVIDIA's own"),
    FewSteps("self-forcing (DMD)", ("self_forcing",), "lcm", 4, 8.0),
    FewSteps("CausVid", ("causvid",), "lcm", 4, licence="CC-BY-NC-4.0, not for commercial use"),
)


def recognised(sources: Iterable[str]) -> FewSteps | None:
    """What one of these files or repositories is known to be, by its name."""
    names = [source.lower().replace("-", "_") for source in sources if source]
    return next((known for known in KNOWN for name in names if all(mark in name for mark in known.marks)), None)


def card_of(model: str, base: str = "", loras: Iterable[str] = (), shift: float | None = None, **others) -> ModelCard:
    """The card of a model as it is with these options of :meth:`syncam.pipeline.Pipeline.load`.

    On a distilled base that is known, that one's solver, steps and shift are the defaults, and there is no guidance.
    Args: shift, of the noise levels; None: what is known of the base, else the model's own.
    Raises: ValueError if there is no such model, the shift is not positive, or the family has none.
    """
    card = ModelCard.load(model)
    if shift is not None and not 0 < shift <= 20:
        raise ValueError(f"shift must be in 0..20, got {shift:g}")
    if shift is not None and card.family != "wan":
        raise ValueError(f"shift is for models of flow matching; {card.title} is none")
    known = recognised([base, *loras]) if card.family == "wan" else None
    if known is None:
        return card if shift is None else replace(card, shift=shift)
    note = f"{card.note} On the distilled base {known.name}: whether views agree in so few steps, nobody has measured."
    if known.licence:
        note += f" Its licence: {known.licence}."
    return replace(
        card,
        solver=known.solver,
        num_inference_steps=known.num_inference_steps,
        guidance_scale=1.0,
        shift=shift or known.shift or card.shift,
        note=note.strip(),
    )
