"""What all kinds of training share: their options, and how fast they learn."""

from pathlib import Path

import pytest

from syncam.training.embedded import EmbeddedConfig
from syncam.training.loop import schedule
from syncam.training.module import ModuleConfig


def test_the_learning_rate_warms_up_holds_and_falls_to_nothing():
    rates = [schedule(step, 1000, 0.3) for step in range(1000)]
    assert rates[0] < rates[49] == rates[500] == 1.0 > rates[900] > rates[999] > 0


@pytest.mark.parametrize(
    ("word", "said"), [("stepz=3", "unknown option"), ("seed=x", "must be int"), ("relative_poses=1", "true or false")]
)
@pytest.mark.parametrize("kind", [EmbeddedConfig, ModuleConfig])
def test_a_mistake_in_an_option_is_named(kind, word, said):
    with pytest.raises(ValueError, match=said):
        kind.from_words([word])


@pytest.mark.parametrize("kind", [EmbeddedConfig, ModuleConfig])
def test_options_are_read_as_the_kind_of_value_that_they_are(kind):
    config = kind.from_words(["seed=3", "relative_poses=false", "muon_lr=1e-2", "data=toys", "out=here"], num_scenes=7)
    assert config == kind(seed=3, relative_poses=False, muon_lr=0.01, data=Path("toys"), out=Path("here"), num_scenes=7)
