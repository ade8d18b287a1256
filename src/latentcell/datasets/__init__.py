"""Data to try things on: bundled, simulated with known truth, or read through scanpy."""

from latentcell.datasets._pbmc import pbmc3k, pbmc68k
from latentcell.datasets._simulate import simulate_groups

__all__ = ["pbmc3k", "pbmc68k", "simulate_groups"]
