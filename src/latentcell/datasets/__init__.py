"""Data to try things on: bundled, simulated with known truth, or read through scanpy."""

from latentcell.datasets._factors import simulate_factors
from latentcell.datasets._pbmc import pbmc3k, pbmc68k
from latentcell.datasets._programmes import ContinuousFactor, DiscreteFactor
from latentcell.datasets._simulate import simulate_groups

__all__ = ["ContinuousFactor", "DiscreteFactor", "pbmc3k", "pbmc68k", "simulate_factors", "simulate_groups"]
