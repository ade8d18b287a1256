"""The objective is a weighted sum, averaged over cells."""

import pytest
import torch

from latentcell.nn.objectives import BetaELBO, Capacity
from latentcell.nn.schedules import Linear


def test_loss_is_the_weighted_sum_averaged_over_cells():
    reconstruction = torch.tensor([10.0, 20.0])
    kl = {
        "kl_slab": torch.tensor([1.0, 3.0]),
        "kl_usage": torch.tensor([2.0, 2.0]),
        "kl_other": torch.tensor([4.0, 6.0]),
    }
    objective = BetaELBO({"kl_slab": 0.5, "kl_usage": Linear(0.0, 4.0)})
    # (10 + 20)/2 + 0.5 * 2 + 4 * progress * 2 + 1 * 5
    assert objective(reconstruction, kl, 0.0).item() == pytest.approx(21.0)
    assert objective(reconstruction, kl, 0.25).item() == pytest.approx(23.0)
    assert objective(reconstruction, kl, 1.0).item() == pytest.approx(29.0)


def test_weights_follow_their_schedules_and_are_1_where_none_is_given():
    objective = BetaELBO({"kl_slab": 2, "kl_usage": Linear(0.0, 4.0)})
    assert objective.weights_at(["kl_slab", "kl_usage", "kl"], 0.5) == {
        "kl_slab": 2.0,
        "kl_usage": 2.0,
        "kl": 1.0,
    }
    assert objective.weights_at([], 0.5) == {}


def test_without_kl_terms_the_loss_is_the_reconstruction_error():
    assert BetaELBO({"kl": 3.0})(torch.tensor([1.0, 5.0]), {}, 0.3).item() == 3.0


def test_capacity_is_the_distance_of_the_batch_mean_from_c():
    reconstruction, kl = torch.tensor([10.0, 20.0]), {"kl": torch.tensor([1.0, 5.0])}
    objective = Capacity(4.0, Linear(0.0, 6.0, end=0.5))
    assert objective(reconstruction, kl, 0.0).item() == pytest.approx(15 + 4 * 3)  # C = 0: the beta-VAE
    assert objective(reconstruction, kl, 0.25).item() == pytest.approx(15 + 4 * 0)  # C = 3: the mean itself
    assert objective(reconstruction, kl, 1.0).item() == pytest.approx(15 + 4 * 3)  # C = 6: too little KL
    assert objective.schedule_values(["kl"], 0.25) == {"beta": 4.0, "capacity": 3.0}


def test_capacity_0_is_the_beta_vae():
    reconstruction, kl = torch.rand(8) * 9, {"kl": torch.rand(8)}
    beta = BetaELBO({"kl": 3.0})(reconstruction, kl, 0.4).item()
    assert Capacity(3.0, 0.0)(reconstruction, kl, 0.4).item() == pytest.approx(beta)


def test_capacity_turns_round_where_the_kl_is_below_it():
    kl = torch.tensor([2.0, 2.0], requires_grad=True)
    Capacity(4.0, 3.0)(torch.zeros(2), {"kl": kl}, 1.0).backward()
    assert kl.grad.tolist() == [-2.0, -2.0]
