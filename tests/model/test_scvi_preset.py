"""The preset "scvi" of VAE against scvi-tools' SCVI: the same weights give the same loss."""

import numpy as np
import pytest
import scvi
import torch
from torch.distributions import Normal, kl_divergence

import latentcell as lc
from latentcell.testing import make_cells

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:scvi")
N_BATCHES = 2


def pair(likelihood, batch_key):
    """An SCVI whose weights are not where they start, and our model with the same ones."""
    cells = make_cells()
    scvi.model.SCVI.setup_anndata(cells, batch_key=batch_key)
    # scvi-tools adds 1e-4 to every variance
    extra = {"extra_encoder_kwargs": {"var_eps": 0.0}}
    theirs = scvi.model.SCVI(cells, gene_likelihood=likelihood, **extra).module.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*theirs.named_parameters(), *theirs.named_buffers()]:
            if value.dtype.is_floating_point:
                noise = 0.1 * torch.randn(value.shape, generator=generator)
                value.copy_(value * noise.exp() + (0.0 if name.endswith("running_var") else noise))
    lc.model.VAE.setup_anndata(cells, batch_key=batch_key)
    ours = lc.model.VAE.from_preset("scvi", cells, gene_likelihood=likelihood).module.eval()
    copy_weights(theirs.state_dict(), ours, N_BATCHES if batch_key else 0)
    return theirs, ours, cells


def copy_weights(weights, ours, n_batches):
    encoder, decoder = "z_encoder.encoder.fc_layers.Layer 0", "decoder.px_decoder.fc_layers.Layer 0"
    heads = "decoder.px_scale_decoder.0", "decoder.px_dropout_decoder"
    state = ours.state_dict()
    layers = {
        "encoder.layers.0": f"{encoder}.0",
        "encoder.layers.1": f"{encoder}.1",
        "latent.heads.heads.mean.1": "z_encoder.mean_encoder",
        "latent.heads.heads.scale.1": "z_encoder.var_encoder",
        "decoder.body.layers.0": f"{decoder}.0",
        "decoder.body.layers.1": f"{decoder}.1",
        "decoder.heads.mean": heads[0],
        "decoder.heads.dropout": heads[1],
    }
    copied = set()
    for name in state:
        layer, part = name.rsplit(".", 1)
        if name == "likelihood.log_theta":
            value = weights["px_r"]
        elif layer in layers:
            value = weights[f"{layers[layer]}.{part}"]
            if layer.endswith("body.layers.0") or layer == "encoder.layers.0":
                value = value.T if value.dim() == 2 else value  # ours are genes x units
            if layer == "decoder.body.layers.0" and not n_batches and value.dim() == 2:
                value = value[: state[name].shape[0]]  # scvi-tools has a column for the only batch
            if layer.startswith("decoder.heads") and part == "weight":
                beside = state[name].shape[1] - value.shape[1]  # covariates beside the last layer: ours alone
                value = torch.cat([value, torch.zeros(len(value), beside)], dim=1)
            if layer.endswith("heads.scale.1"):
                value = value / 2  # log of a standard deviation, there of a variance
        else:
            raise AssertionError(f"{name} has no counterpart")
        assert value.shape == state[name].shape, name
        copied.add(name)
        state[name] = value
    assert copied == set(state)
    ours.load_state_dict(state)


def batch_of(cells):
    codes = cells.obs["batch"].cat.codes.to_numpy().astype(np.int64)[:, None]
    x = torch.from_numpy(cells.X.toarray())
    return {"X": x, "batch": torch.from_numpy(codes), "labels": torch.zeros(len(x), 1, dtype=torch.long)}


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_the_weights_of_scvi_give_its_loss(likelihood, batch_key):
    theirs, ours, cells = pair(likelihood, batch_key)
    batch = batch_of(cells)
    if batch_key is None:
        batch["batch"] = torch.zeros_like(batch["batch"])
    draws = []
    with torch.no_grad():
        for module in (theirs, ours):
            torch.manual_seed(3)
            inference, generative, _ = module(batch)
            draws.append(inference["z"])
            kl = kl_divergence(inference["qz"], Normal(0.0, 1.0)).sum(-1)
            loss = kl - generative["px"].log_prob(batch["X"]).sum(-1)
            draws.append(loss)
        torch.manual_seed(3)
        trained_on = ours.terms(batch, progress=1.0)[0]
    torch.testing.assert_close(draws[2], draws[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(draws[3], draws[1], rtol=1e-5, atol=0.0)
    torch.testing.assert_close(trained_on, draws[1].mean(), rtol=1e-5, atol=0.0)


def test_the_warm_up_ends_with_the_training():
    cells = make_cells()
    lc.model.VAE.setup_anndata(cells)
    model = lc.model.VAE.from_preset("scvi", cells)
    model.train(4, accelerator="cpu", enable_progress_bar=False)
    beta = model.history["beta"]["beta"].to_numpy()
    assert beta.round(3).tolist() == [0.333, 0.667, 1.0, 1.0]  # one step an epoch: of the next
    assert model.gene_likelihood == "zinb"
    # the encoder sees counts as they are: depth is in the code, as in scvi-tools
    deeper = cells.copy()
    deeper.X = deeper.X * 3
    look = model.get_latent_representation
    assert np.abs(look(deeper) - look(cells)).max() > 1e-3
