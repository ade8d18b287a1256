"""Schedules: monotone, at their target when training ends however short it is, and plain JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcell.nn.schedules import Constant, Cosine, Exponential, Linear, ScheduleJSON, as_schedule

quick = settings(max_examples=60, deadline=None, derandomize=True)
values = st.floats(-1e3, 1e3)
spans = (
    st.tuples(st.integers(0, 100), st.integers(0, 100)).filter(lambda span: span[0] != span[1]).map(sorted)
)


@st.composite
def schedules(draw):
    kind = draw(st.sampled_from([Linear, Cosine]))
    begin, end = draw(spans)
    return kind(draw(values), draw(values), begin=begin / 100, end=end / 100)


@quick
@given(schedules(), st.integers(2, 50))
def test_monotone_from_start_to_target_on_any_number_of_steps(schedule, n_steps):
    curve = np.array([schedule(step / (n_steps - 1)) for step in range(n_steps)])
    direction = np.sign(schedule.stop - schedule.start)
    assert (np.diff(curve) * direction >= -1e-9).all()
    assert curve[0] == schedule.start
    assert curve[-1] == pytest.approx(schedule.stop, rel=1e-12, abs=1e-9)


@quick
@given(schedules())
def test_flat_outside_its_span(schedule):
    before = np.linspace(0, schedule.begin, 5)
    after = np.linspace(schedule.end, 1, 5)
    assert all(schedule(p) == schedule.start for p in before)
    assert all(schedule(p) == pytest.approx(schedule.stop, abs=1e-9) for p in after)
    middle = (schedule.begin + schedule.end) / 2
    assert schedule(middle) == pytest.approx((schedule.start + schedule.stop) / 2, abs=1e-9)


def test_shapes():
    progress = np.linspace(0, 1, 21)
    line = [Linear(2, 6, begin=0.2, end=0.7)(p) for p in progress]
    np.testing.assert_allclose(line, np.interp(progress, [0.2, 0.7], [2, 6]))
    wave = [Cosine(1, 0)(p) for p in progress]
    np.testing.assert_allclose(wave, (1 + np.cos(np.pi * progress)) / 2, atol=1e-12)
    assert {Constant(3.0)(p) for p in progress} == {3.0}


@quick
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), spans, st.integers(2, 50))
def test_exponential_goes_by_equal_factors_to_its_target(start, stop, span, n_steps):
    curve = Exponential(start, stop, begin=span[0] / 100, end=span[1] / 100)
    assert curve(0.0) == start
    assert curve(1.0) == pytest.approx(stop)
    inside = np.log([curve(p) for p in np.linspace(span[0] / 100, span[1] / 100, n_steps)])
    np.testing.assert_allclose(inside, np.linspace(np.log(start), np.log(stop), n_steps), atol=1e-9)
    record = json.loads(json.dumps(ScheduleJSON.encode(curve)))
    assert ScheduleJSON.decode(record) == curve


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (1.0, -1.0)])
def test_an_exponential_stays_above_zero(wrong):
    with pytest.raises(ValueError, match="needs positive values"):
        Exponential(*wrong)


@quick
@given(st.one_of(schedules(), st.builds(Constant, values)))
def test_json_round_trip(schedule):
    record = json.loads(json.dumps(ScheduleJSON.encode(schedule)))
    assert ScheduleJSON.decode(record) == schedule


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="unknown schedule 'Staircase'; known are"):
        ScheduleJSON.decode({"schedule": "Staircase", "start": 1})


def test_what_could_not_be_read_back_is_not_written():
    class Mine(Linear):
        pass

    for schedule in (lambda progress: progress, Mine(0, 1), 3.0):
        with pytest.raises(TypeError, match="none of the schedules"):
            ScheduleJSON.encode(schedule)


@pytest.mark.parametrize("kind", [Linear, Cosine])
@pytest.mark.parametrize(("begin", "end"), [(0.5, 0.5), (0.7, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_bad_spans_are_refused(kind, begin, end):
    with pytest.raises(ValueError, match="0 <= begin < end <= 1"):
        kind(0.0, 1.0, begin=begin, end=end)


def test_numbers_are_constant_schedules():
    assert as_schedule(2) == Constant(2.0)
    schedule = Linear(0, 1)
    assert as_schedule(schedule) is schedule
