"""Figures: each function draws what it is given and returns Matplotlib's Axes or Figure; none trains."""

from ._architecture import architecture
from ._embedding import embedding
from ._heatmap import heatmap
from ._history import history
from ._scores import scores

__all__ = ["architecture", "embedding", "heatmap", "history", "scores"]
