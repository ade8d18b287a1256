"""The disentangled VAE: capacity is reached, beta = 1 is the VAE, total correlation falls."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import latentcell as lc
from latentcell._errors import DataError
from latentcell.nn.latents import Code
from latentcell.nn.penalties import TotalCorrelation
from latentcell.nn.schedules import Constant, Linear

QUICK = {"n_latent": 4, "hidden": (32,)}


def cells(n_cells=400, seed=0):
    """Log values of 30 genes: two processes that go together (r = 0.7), each with genes of its own."""
    rng = np.random.default_rng(seed)
    usage = rng.multivariate_normal([0, 0], [[1.0, 0.7], [0.7, 1.0]], size=n_cells)
    weights = np.zeros((2, 30))
    weights[0, :12], weights[1, 12:24] = 1.0, 1.0
    x = (usage @ weights + rng.normal(0, 0.5, size=(n_cells, 30))).astype(np.float32)
    adata = ad.AnnData(x)
    adata.obs["side"] = pd.Categorical(np.where(usage[:, 0] > 0, "high", "low"))
    return adata


def trained(adata, epochs=60, labels_key=None, Model=lc.model.DisentangledVAE, **arguments):
    Model.setup_anndata(adata, labels_key=labels_key)
    model = Model(adata, **(QUICK | {"dropout": 0.0} | arguments))
    model.train(epochs, lr=5e-3, enable_progress_bar=False)
    return model


def kl(model):
    return model.history["kl_local_train"]["kl_local_train"].iloc[-1]


@pytest.mark.parametrize("capacity", [1.5, 3.0])
def test_the_code_ends_with_the_capacity_asked_for(capacity):
    model = trained(cells(), beta=30.0, capacity=capacity)
    assert kl(model) == pytest.approx(capacity, abs=0.25)


def test_a_capacity_is_reached_on_a_line_over_half_of_training():
    model = trained(cells(100), epochs=8, beta=2.0, capacity=6.0)
    values = model.history["capacity"]["capacity"].to_numpy()
    assert values[-1] == 6.0
    assert (np.diff(values[:4]) > 0).all()
    assert (values[4:] == 6.0).all()
    assert (model.history["beta"]["beta"] == 2.0).all()


def test_beta_1_without_a_capacity_is_the_vae_to_the_bit():
    adata = cells(100)
    mine = trained(adata, epochs=3, beta=1.0)
    vae = trained(adata, epochs=3, Model=lc.model.VAE)
    assert np.array_equal(mine.get_latent_representation(), vae.get_latent_representation())


def test_a_larger_beta_keeps_fewer_nats():
    adata = cells()
    kept = [kl(trained(adata, epochs=30, beta=beta)) for beta in (1.0, 5.0, 25.0)]
    assert kept[0] > kept[1] > kept[2]


def test_total_correlation_falls_when_it_is_weighed():
    """Three dimensions for two processes: without the penalty, they share them."""
    adata = cells()

    def correlation(weight):
        model = trained(adata, beta=0.1, n_latent=3, total_correlation=weight)
        loc, variance = (torch.from_numpy(x) for x in model.get_latent_representation(return_dist=True))
        draw = loc + variance.sqrt() * torch.randn(loc.shape, generator=torch.Generator().manual_seed(0))
        q = torch.distributions.Normal(loc, variance.sqrt())
        return TotalCorrelation(1.0)(Code(z=draw, mean=loc, mode=loc, qz=q, draw=draw)).item(), model.history

    free, history = correlation(0.0)
    pressed, history_pressed = correlation(30.0)
    assert free > 0.5
    assert pressed < 0.5 * free
    assert "total_correlation_train" not in history
    assert history_pressed["total_correlation_weight"]["total_correlation_weight"].eq(30.0).all()


def test_penalties_are_no_part_of_the_bound():
    history = trained(cells(100), epochs=2, total_correlation=5.0).history
    last = {name: frame[name].iloc[-1] for name, frame in history.items()}
    assert last["elbo_train"] == pytest.approx(last["reconstruction_loss_train"] + last["kl_local_train"])
    loss = last["reconstruction_loss_train"] + 4.0 * last["kl_local_train"]
    loss += 5.0 * last["total_correlation_train"]
    assert last["train_loss"] == pytest.approx(loss, rel=1e-4)


def test_conditional_codes_leave_out_what_the_label_says():
    adata = cells()

    def share_of_label(**arguments):
        z = trained(adata, labels_key="side", beta=2.0, **arguments).get_latent_representation()
        high = (adata.obs["side"] == "high").to_numpy()
        return max(abs(np.corrcoef(dim, high)[0, 1]) for dim in z.T)

    assert share_of_label(conditional=True) < share_of_label() - 0.2


def test_conditional_needs_labels():
    adata = cells(50)
    lc.model.DisentangledVAE.setup_anndata(adata)
    with pytest.raises(DataError, match="labels_key"):
        lc.model.DisentangledVAE(adata, conditional=True)


@pytest.mark.parametrize("name", ["beta", "capacity", "total_correlation"])
def test_negative_and_missing_weights_are_refused(name):
    adata = cells(50)
    lc.model.DisentangledVAE.setup_anndata(adata)
    for value, words in ((-1.0, "0 or more"), (float("nan"), "finite"), ("4", f"a number.*{name}=4")):
        with pytest.raises(DataError, match=f"{name} must be {words}"):
            lc.model.DisentangledVAE(adata, **{name: value})


def test_schedules_are_saved(tmp_path):
    schedules = {"beta": Constant(3.0), "capacity": Linear(1.0, 9.0), "total_correlation": Linear(0.0, 2.0)}
    adata = cells(60)
    model = trained(adata, epochs=2, **schedules)
    model.save(tmp_path / "m")
    again = lc.model.load(tmp_path / "m", adata)
    assert {name: again.params[name] for name in schedules} == schedules
    assert np.array_equal(again.get_latent_representation(), model.get_latent_representation())
