import pytest
import torch


@pytest.fixture(autouse=True)
def _torch_seed():
    """Every test draws from the same seed, and leaves torch's global state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
