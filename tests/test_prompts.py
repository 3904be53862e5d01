"""What of a prompt a model does not know: the same answer from Python, the page, a program and the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncam.__main__ import main
from syncam.model_card import ASSETS_FOLDER, MAX_PROMPT_CHARACTERS, ModelCard
from syncam.prompts import says_nothing, split_words, unknown_words
from syncam.result import read_recipe
from syncam.rig_formats import read_rig
from syncam.shot import Shot
from syncam.studio.texts import prompt_note, source_note

CARD = ModelCard.load("embedded")
UNKNOWN = [
    ("An orange ball on the sand", []),
    ("a dragon, A DRAGON!", ["dragon"]),
    ("🎉", ["🎉"]),
    ("a red ball❤️‍🔥 on sand", ["❤", "🔥"]),
    ("赤いボールが床で弾む", ["赤いボールが床で弾む"]),
    ("ลูกบอลสีแดงเด้ง", ["ลูกบอลสีแดงเด้ง"]),
    ("लाल गेंद on sand", ["लाल", "गेंद"]),
    ("ＲＥＤ ball", []),  # letters as wide as Chinese ones are letters
]


@pytest.mark.parametrize(("prompt", "unknown"), UNKNOWN)
def test_what_a_model_does_not_know_is_told_alike_on_the_page_and_by_the_card(prompt, unknown):
    assert CARD.unknown_words(prompt) == unknown
    note = prompt_note(CARD, prompt)
    assert [word for word in unknown if f"<mark>{word}</mark>" not in note] == []
    assert note.count("<mark>") == len(unknown)


@pytest.mark.parametrize("prompt", ["🎉", "A dragon"])
def test_the_command_line_and_the_recipe_tell_it_too(prompt, tmp_path, capsys):
    quick = ["--num-inference-steps", "1", "--num-frames", "1", "--rig", "4,10,0"]
    assert main(["generate", prompt, *quick, "--out", str(tmp_path / "out")]) == 0
    unknown = CARD.unknown_words(prompt)
    assert f"does not know: {', '.join(unknown)}." in capsys.readouterr().err
    assert read_recipe(tmp_path / "out" / "recipe.json")["unknown_words"] == unknown


@pytest.mark.parametrize("prompt", ["", "  \n", "...", "​﻿", "!?"])
def test_a_prompt_that_says_nothing_is_refused(prompt):
    assert says_nothing(prompt)
    with pytest.raises(ValueError, match="the prompt is empty"):
        CARD.resolve(Shot(prompt, read_rig("arc4")))


def test_a_prompt_that_is_too_long_is_refused_with_its_length_and_not_cut():
    prompt = "a red ball " * 2000
    assert f"has {len(prompt)} characters; at most {MAX_PROMPT_CHARACTERS}" in prompt_note(CARD, prompt)
    with pytest.raises(ValueError, match=f"the prompt has {len(prompt)} characters; at most"):
        CARD.resolve(Shot(prompt, read_rig("arc4")))


def test_a_word_as_long_as_a_sentence_is_named_by_its_beginning():
    note = prompt_note(CARD, "赤いボールが弾む" * 20)
    assert "<mark>赤いボール" in note and len(note) < 200


def test_a_source_video_of_something_else_contradicts_the_prompt():
    assert source_note("a red ball on sand", "A red ball, on sand.") == ""
    assert "shows “a red ball on sand”" in source_note("a red ball on sand", "a blue cube")


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(ASSETS_FOLDER / "embedded" / "tokenizer").backend_tokenizer


@given(
    text=st.text(max_size=60) | st.lists(st.sampled_from(CARD.vocabulary + (" ", "-", "_", "é", "ู", "🎉"))).map("".join)
)
def test_words_that_are_known_are_those_of_the_tokenizer(tokenizer, text):
    normal = tokenizer.normalizer.normalize_str(text)
    theirs = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
    known = set(CARD.vocabulary)
    assert [word for word in split_words(text) if word in known] == [word for word in theirs if word in known]
    assert not known & set(unknown_words(text, CARD.vocabulary))
