"""The texts of the page, as HTML. Everything that somebody typed is escaped here."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from PIL import Image

from syncam.model_card import MAX_PROMPT_CHARACTERS, ModelCard
from syncam.prompts import split_words
from syncam.studio.jobs import Job

STAGES = {"text": "encoding prompt", "denoise": "denoising", "decode": "decoding"}
MAX_WORDS_NAMED = 6
MAX_WORD_SHOWN = 30  # scripts without spaces have words as long as a sentence


def status_badge(card: ModelCard, status: str, device: str, named: bool) -> str:
    """Whether the model is there, and where it runs; ``named``: which one, too."""
    kind = status if status in ("loading", "ready") else "failed" if status else "asleep"
    words = {"loading": "loading…", "ready": f"ready · {device}", "": "loads with the first run"}.get(status, status)
    name = f"<b>{html.escape(card.name)}</b> " if named else ""
    return f'<span class="syn-status {kind}" role="status">{name}<i>{html.escape(words)}</i></span>'


def about(card: ModelCard) -> str:
    """What the model is, and every word that it knows if those are few."""
    if not card.vocabulary:
        return f'<p class="syn-note">{html.escape(card.note)}</p>'
    words = " ".join(f"<span>{html.escape(word)}</span>" for word in card.vocabulary)
    return (
        '<details class="syn-words"><summary>The words it knows</summary>'
        f"<p>{html.escape(card.note)}</p><div>{words}</div></details>"
    )


def size_note(card: ModelCard) -> str:
    """What goes with the fields of a video's size."""
    frames = f"1 + a multiple of {card.frames_step}, {card.fps:g} a second, at most {card.max_frames}"
    return f'<p class="syn-note">Frames: {frames}. Width and height: multiples of {card.size_multiple}.</p>'


def footer(card: ModelCard) -> str:
    """The last line of the page."""
    paper = '<a href="https://arxiv.org/abs/2412.07760" target="_blank" rel="noopener">SynCamMaster</a>'
    return (
        f'<p class="syn-foot">{html.escape(card.title)}. {html.escape(card.note)} '
        f"An independent implementation of {paper}, Apache-2.0; published weights have licences of their own.</p>"
    )


def notice(text: str) -> str:
    """A banner, which stays until there is another."""
    return f'<p class="syn-notice" role="alert">{html.escape(text)}</p>' if text else ""


def warning(text: str) -> str:
    """A line about what stands in the way."""
    return f'<p class="syn-note warn" role="status">{html.escape(text)}</p>'


def prompt_note(card: ModelCard, prompt: str) -> str:
    """What is wrong with a prompt: its length, or words that the model has never seen."""
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        return warning(f"The prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed.")
    unknown = card.unknown_words(prompt)
    if not unknown:
        return ""
    shown = (word if len(word) <= MAX_WORD_SHOWN else word[:MAX_WORD_SHOWN] + "…" for word in unknown[:MAX_WORDS_NAMED])
    named = ", ".join(f"<mark>{html.escape(word)}</mark>" for word in shown)
    more = f" and {len(unknown) - MAX_WORDS_NAMED} more" if len(unknown) > MAX_WORDS_NAMED else ""
    plural = "these words" if len(unknown) > 1 else "this word"
    return f'<p class="syn-note warn" role="status">This model does not know {plural}: {named}{more}.</p>'


def source_note(recipe_prompt: str, prompt: str) -> str:
    """That a source video was made here from another prompt than is asked for now."""
    if split_words(recipe_prompt) == split_words(prompt):
        return ""
    return warning(f"The source video shows “{recipe_prompt}”: a prompt for something else contradicts it.")


def range_note(outside: list[str]) -> str:
    """Whether the weights have seen cameras like these."""
    if not outside:
        return '<span class="syn-range inside">in the trained range</span>'
    return _flaw("outside the trained range", "; ".join(outside))


def impossible(reason: str) -> str:
    """In the same place: that there can be no such cameras."""
    return _flaw("not possible", reason)


def _flaw(what: str, why: str) -> str:
    why = html.escape(why)
    return f'<span class="syn-range outside">{what}</span> <small title="{why}">{why}</small>'


def estimate(plan, card: ModelCard) -> str:
    """What a run will take (a ``syncam.planning.Plan``), or what to do if it can't be.

    ``plan`` is None as long as the model is not there.
    """
    if plan is None:
        there = "" if not card.base else "The first run loads it; its files come from the Hugging Face hub, once."
        return f'<p class="syn-note">{there}</p>' if there else ""
    try:
        plan.require()
    except ValueError as error:
        return warning(str(error))
    memory = f", {plan.needed_bytes / 2**30:.1f} GB of memory" if plan.needed_bytes > 2**29 else ""
    return f'<p class="syn-note">about {duration(plan.seconds)}{memory}</p>'


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"


def progress(job: Job, before: int) -> tuple[str, str]:
    """How far a job is: a line, and what can be seen of its views already. Empty when there is nothing left to say."""
    if job.state == "done":
        return "", ""
    if job.finished:
        kept = " Your previous result is still here." if job.state == "stopped" else ""
        kind = "" if job.state == "stopped" else "warn"
        return f'<p class="syn-note {kind}" role="status">{html.escape(job.message)}{kept}</p>', ""
    step, done = job.progress, 0.0
    if job.state == "loading":
        line = f"loading {html.escape(job.model)}"
    elif job.state == "waiting":
        line = f"waiting: {before} before you" if before > 1 else "you are next"
    elif step is None:
        line = "starting"
    else:
        done = step.step / max(1, step.num_steps)
        line = STAGES[step.stage]
        if step.stage != "text":
            line += f" {counted(len(job.shot.rig), 'view')}"
        if step.stage == "denoise":
            line += f", step {step.step}/{step.num_steps}"
        if step.seconds_left is not None:
            line += f", about {duration(step.seconds_left)} left"
    bar = f'<progress max="1" value="{done:.3f}" aria-label="progress"></progress>'
    pictures = "" if step is None or step.preview is None else _pictures(step.preview)
    return f'<div class="syn-running"><p role="status">{line}</p>{bar}</div>', pictures


def _pictures(preview: np.ndarray) -> str:
    cells = "".join(
        f'<img alt="preview {number}" src="{data_url(picture, 70)}">' for number, picture in enumerate(preview, 1)
    )
    return f'<div class="syn-preview"><p>preview</p>{cells}</div>'


def data_url(picture: np.ndarray, quality: int = 80, height: int | None = None) -> str:
    """A picture (h w 3) as a WebP inside an address, to be shown without another request."""
    image = Image.fromarray(picture)
    if height:
        image = image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
