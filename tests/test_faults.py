"""Bad input and faults by their numbers: where each is tested; those of a run on the page are tested here.

Tests whose names begin with a number (``test_46_...``) need no line in the table.
"""

import ast
import errno
import re
import time
from functools import lru_cache
from pathlib import Path

import pytest

from syncam.rig_formats import read_rig
from syncam.shot import Shot

HERE = Path(__file__).parent
SHOT = Shot("a red ball", read_rig("3.5,0,0"), seed=1, num_inference_steps=2, num_frames=5)
VALUES = "test_pipeline.py::test_bad_values_are_refused_before_anything_runs"
REQUESTS = "test_studio.py::test_what_is_wrong_with_a_request_is_said"
NO_SENSE = "test_studio.py::test_requests_that_make_no_sense_are_refused_at_once"
FILES = "test_rig_formats.py::test_a_bad_file_is_refused_in_one_line_that_says_what_and_where"
COVERED = {
    1: "test_cameras.py::test_a_bad_place_is_refused_naming_camera_and_field",
    2: "test_cameras.py::test_a_bad_place_is_refused_naming_camera_and_field",
    3: "test_cameras.py::test_straight_overhead_azimuth_still_says_where_right_is",
    4: "test_cameras.py::test_a_bad_place_is_refused_naming_camera_and_field",
    5: "test_cameras.py::test_whole_turns_change_nothing",
    6: "test_cameras.py::test_two_identical_cameras_are_allowed",
    7: REQUESTS,
    8: VALUES,
    9: VALUES,
    10: "test_studio.py::test_what_does_not_fit_into_memory_is_refused_before_it_waits",
    11: VALUES,
    12: VALUES,
    13: "test_shot.py::test_a_seed_left_open_is_another_one_each_time",
    14: REQUESTS,
    15: REQUESTS,
    16: "test_studio.py::test_a_prompt_never_names_a_file_and_comes_back_as_it_was",
    17: "test_page.py::test_a_hostile_prompt_is_only_text_everywhere",
    18: "test_studio.py::test_a_prompt_never_names_a_file_and_comes_back_as_it_was",
    19: "test_public.py::test_no_answer_shows_what_the_program_looks_like_inside",
    20: NO_SENSE,
    21: NO_SENSE,
    22: NO_SENSE,
    23: FILES,
    24: "test_rig_formats.py::test_unknown_keys_are_ignored_and_said_and_do_nothing",
    25: "test_rig_formats.py::test_files_are_measured_before_they_are_read",
    26: FILES,
    27: FILES,
    28: "test_rig_formats.py::test_a_matrix_slightly_off_a_rotation_is_made_one_and_said",
    29: "test_rig_plot.py::test_a_label_with_html_is_shown_as_text",
    30: "test_page.py::test_eight_of_a_dataset_files_cameras_can_be_picked",
    31: "test_rig_formats.py::test_noise_is_refused_and_nothing_worse",
    32: "test_rig_formats.py::test_broken_presets_are_skipped_with_a_line_each",
    33: "test_page.py::test_a_result_that_is_gone_from_the_disk_is_said",
    34: "test_checkpoints.py::test_a_hostile_pickle_is_refused_and_not_executed",
    35: "test_checkpoints.py::test_what_is_not_weights_is_called_by_its_name",
    36: "test_pipeline.py::test_a_damaged_file_is_found_by_its_sha256",
    37: "test_checkpoints.py::test_of_many_differences_the_first_five_are_listed",
    38: "test_pipeline.py::test_added_weights_with_nan_or_missing_parts_are_refused",
    39: "test_checkpoints.py::test_a_small_file_that_declares_a_giant_tensor_is_refused_before_allocation",
    40: "test_pipeline.py::test_what_the_hub_answers_is_said",
    41: "test_checkpoints.py::test_a_truncated_file_is_refused",
    42: "test_checkpoints.py::test_a_model_that_brings_code_is_refused",
    43: "test_pipeline.py::test_a_tokenizer_that_needs_another_package_says_which",
    53: "test_studio.py::test_a_run_that_nobody_watches_any_more_ends",
    54: "test_studio.py::test_stop_ends_a_run_within_a_step_and_leaves_nothing",
    55: "test_studio.py::test_16_visitors_each_get_their_own_result_and_previews_meanwhile",
    56: "test_studio.py::test_the_same_shot_again_is_the_same_to_the_last_bit_also_after_a_stopped_one",
}


@lru_cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("number", range(1, 57))
def test_every_fault_has_a_test(number):
    if number in COVERED:
        file, name = COVERED[number].split("::")
        assert name in names_in(file)
    else:
        everywhere = {name for path in HERE.glob("test_*.py") for name in names_in(path.name)}
        assert any(re.match(rf"test_{number}_", name) for name in everywhere)


# ------------------------------------------------------------------------------------------------- a run on the page


def fail_once(studio, monkeypatch, error: BaseException) -> str:
    """A run that dies of ``error``, then one that does not.  Returns: what the person is told of the first."""
    while studio.engine.status("embedded") == "loading":
        time.sleep(0.1)
    monkeypatch.setattr(studio.engine._pipelines["embedded"], "generate", _raises(error))
    message = wait(studio.engine.submit(SHOT), "failed", seconds=5)
    monkeypatch.undo()
    wait(studio.engine.submit(SHOT), "done", seconds=120)
    return message


def _raises(error: BaseException):
    def generate(*_, **__):
        raise error

    return generate


def wait(job, state: str, seconds: float) -> str:
    """What the job says in the end, which is to come in so many seconds from when it is no longer waiting."""
    while job.state == "waiting":
        time.sleep(0.05)
    until = time.monotonic() + seconds
    while not job.finished and time.monotonic() < until:
        job._watched = time.monotonic()
        time.sleep(0.05)
    assert job.state == state, job.message
    return job.message


def test_44_memory_that_runs_out_is_said_with_what_to_reduce(studio, monkeypatch):
    assert "fewer frames" in fail_once(studio, monkeypatch, MemoryError())


def test_45_nan_is_said_and_nothing_is_saved(studio, monkeypatch):
    before = set(studio.engine.results.outputs.glob("*/recipe.json"))
    message = fail_once(studio, monkeypatch, FloatingPointError("the model produced NaN"))
    assert "NaN" in message
    assert len(set(studio.engine.results.outputs.glob("*/recipe.json")) - before) == 1  # the second run's


def test_48_a_disk_that_is_full_while_the_page_saves_is_said(studio, monkeypatch):
    message = fail_once(studio, monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/srv/secret/x.mp4"))
    assert "No space left on device" in message and "secret" not in message


def test_50_a_worker_that_dies_costs_its_job_and_the_queue_goes_on(studio, monkeypatch):
    assert "logged as" in fail_once(studio, monkeypatch, SystemExit())


def test_51_an_unexpected_error_is_told_by_its_number_only(studio, monkeypatch, caplog):
    message = fail_once(studio, monkeypatch, RuntimeError("secret"))
    assert "secret" not in message and "secret" in caplog.text
    assert message.split("logged as ")[1][:8] in caplog.text
