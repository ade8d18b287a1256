"""Figures: each function draws what it is given and returns the Matplotlib Axes or Figure; none of them trains."""

from ._history import history

__all__ = ["history"]
