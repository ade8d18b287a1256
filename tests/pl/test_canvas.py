import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcell.pl._canvas import spread


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(0.1, 30))
def test_spread_keeps_order_room_and_bounds(positions, gap):
    positions = np.sort(positions)
    placed = spread(positions, gap, 0, 100)
    room = min(gap, 100 / len(positions))
    assert (np.diff(placed) >= room - 1e-6).all()
    assert placed.min() >= room / 2 - 1e-6
    assert placed.max() <= 100 - room / 2 + 1e-6


def test_spread_leaves_what_has_room_and_moves_the_rest_evenly():
    assert spread(np.array([10.0, 50.0, 90.0]), 5, 0, 100) == pytest.approx([10, 50, 90])
    assert spread(np.array([10.0, 50.0, 51.0]), 5, 0, 100) == pytest.approx([10, 48, 53])
