"""Random states of a run that goes on: those that were kept, and others where there are none."""

from types import SimpleNamespace

import pytest
import torch

from latentcell.train import randomness


@pytest.fixture
def run(monkeypatch):
    """A plan on two GPUs, and what is done to their random states."""
    done = []
    monkeypatch.setattr(randomness, "draw_anew", lambda entropy, plan: done.append(("anew", entropy)))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: done.append(("put", int(state))))
    strategy = SimpleNamespace(root_device=torch.device("cuda", 1))
    return SimpleNamespace(trainer=SimpleNamespace(global_rank=1, world_size=2, strategy=strategy)), done


@pytest.mark.parametrize(
    ("kept_there", "expected"),
    [([7, 8], [("put", 8)]), ([], [("anew", [3, 2, 1])]), ([7], [("anew", [3, 2, 1])])],
    ids=["kept", "run on a CPU", "one GPU"],
)
def test_a_gpu_without_a_kept_state_does_not_draw_what_the_first_epoch_drew(run, kept_there, expected):
    plan, done = run
    here = [torch.Generator().manual_seed(seed).get_state() for seed in (1, 2)]
    kept = {"rngs": here, "device_rngs": [torch.tensor(number) for number in kept_there]}
    with torch.random.fork_rng(devices=[]):
        randomness.put_random_states_back(plan, kept, 3)
        assert torch.equal(torch.get_rng_state(), here[1])
    assert done == expected
