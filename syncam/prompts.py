"""The words of a prompt, as the embedded model's tokenizer sees them. Needs no torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection


def split_words(text: str) -> list[str]:
    """Its words in lower case: runs of letters, their marks, digits and underscores, whatever the script."""
    text = unicodedata.normalize("NFKC", text).lower()
    words = "".join(character if _is_of_a_word(character) else " " for character in text).split()
    return [word for word in words if any(c.isalnum() or c == "_" for c in word)]  # not a mark that stands alone


def unknown_words(text: str, vocabulary: Collection[str]) -> list[str]:
    """The words and symbols, such as emoji, that a vocabulary doesn't have, in order, each once.

    "an" is known where "a" is: a model without the one has lost nothing of the meaning.
    """
    known = {*vocabulary, *(["an"] if "a" in vocabulary else [])}
    apart = "".join(f" {c} " if _is_symbol(c) else c for c in text)
    parts = [part for piece in apart.split() for part in ([piece] if _is_symbol(piece[0]) else split_words(piece))]
    return list(dict.fromkeys(part for part in parts if part not in known))


def says_nothing(text: str) -> bool:
    """Whether there is nothing but spaces, punctuation and what can't be seen."""
    return not any(character.isalnum() or _is_symbol(character) for character in text)


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) == "So"
