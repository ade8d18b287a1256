"""What is shown of a run where no line can be drawn upon."""

import io
import os
from unittest.mock import MagicMock

import pytest
from rich.console import Console

from latentcell.train import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def shown(clock, seconds_per_epoch, epochs, *, total=None, first=0, jupyter):
    file = io.StringIO()
    lines = progress._Lines(Console(file=file, force_jupyter=jupyter), "Training Toy", total or epochs, first)
    for epoch in range(epochs):
        clock[0] += seconds_per_epoch
        lines.advance(f"{epoch}.5")
    lines.stop()
    return file.getvalue()


def test_a_log_gets_a_line_every_half_minute_and_one_at_the_end(clock):
    lines = shown(clock, 16.0, 5, jupyter=False).splitlines()
    # 16, 32, 48, 64, 80 seconds: drawn after more than 30, 60, and at the end
    assert lines == [
        "Training Toy: 2/5 epochs, loss 1.5, 0:00:32, left 0:00:48",
        "Training Toy: 4/5 epochs, loss 3.5, 0:01:04, left 0:00:16",
        "Training Toy: 5/5 epochs, loss 4.5, 0:01:20",
    ]


def test_a_short_run_is_one_line_in_a_log(clock):
    assert shown(clock, 0.1, 3, jupyter=False) == "Training Toy: 3/3 epochs, loss 2.5, 0:00:00\n"


def test_the_last_epoch_is_not_said_twice_in_a_log(clock):
    assert shown(clock, 40.0, 1, jupyter=False) == "Training Toy: 1/1 epochs, loss 0.5, 0:00:40\n"


def test_a_notebook_has_one_line_that_is_rewritten(clock):
    text = shown(clock, 0.3, 4, jupyter=True)
    # 0.3, 0.6, 0.9, 1.2 seconds: drawn after more than half a second
    drawn = text.split("\r")
    assert [part.split(",")[0] for part in drawn] == [
        "",
        "Training Toy: 2/4 epochs",
        "Training Toy: 4/4 epochs",
    ]
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert len({len(part.rstrip("\n")) for part in drawn[1:]}) == 1  # nothing of a longer line is left


def test_time_left_is_that_of_a_resumed_run(clock):
    lines = shown(clock, 40.0, 2, total=10, first=6, jupyter=False).splitlines()
    assert lines[0] == "Training Toy: 7/10 epochs, loss 0.5, 0:00:40, left 0:02:00"


@pytest.mark.parametrize(
    ("load_per_core", "policy", "says"),
    [(3.0, None, True), (3.0, "ACTIVE", True), (3.0, "passive", False), (1.0, None, False)],
)
def test_why_training_is_slow_is_said_where_something_can_be_done(load_per_core, policy, says):
    environ = {} if policy is None else {"OMP_WAIT_POLICY": policy}
    found = progress.crowded(load_per_core * (os.cpu_count() or 1), environ)
    assert (found is not None) == says
    assert found is None or "OMP_WAIT_POLICY=PASSIVE" in found


def test_it_is_said_once_and_only_of_long_runs(clock, monkeypatch):
    monkeypatch.setattr(progress, "crowded", lambda load, environ: "busy")
    plan = MagicMock(spec=progress.TrainingPlan, records=[{"train_loss": 1.0}])
    bar, file = progress.ProgressBar("Training Toy"), io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=file, force_jupyter=False))
    bar.on_train_start(MagicMock(max_epochs=9, current_epoch=0), plan)
    for seconds, said in [(15.0, 0), (10.0, 1), (40.0, 1)]:
        clock[0] += seconds
        bar.on_train_epoch_end(MagicMock(), plan)
        assert file.getvalue().count("busy") == said
