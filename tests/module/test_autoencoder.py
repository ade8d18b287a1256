"""The one module, in every combination of parts: its terms add up; scvi-tools' interface says the same."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scvi import REGISTRY_KEYS
from torch.distributions import Normal, kl_divergence

from latentcell._sparse import SparseCells
from latentcell.module.autoencoder import Autoencoder, Covariates
from latentcell.nn.inputs import EncoderInput
from latentcell.nn.latents import Deterministic, Gaussian, SpikeAndSlabLatent
from latentcell.nn.likelihoods import LIKELIHOODS
from latentcell.nn.mlp import MLP, LinearDecoder, MLPDecoder
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Constant, Linear

N_CELLS, N_GENES, N_LATENT = 9, 6, 3
LATENTS = {
    "deterministic": Deterministic,
    "gaussian": Gaussian,
    "spike and slab": lambda n_in, n_latent: SpikeAndSlabLatent(
        n_in, n_latent, alpha=0.3, transform="softplus"
    ),
}
DECODERS = {
    "mlp": lambda *sizes: MLPDecoder(*sizes, sizes=(5,)),
    "linear": lambda *sizes: LinearDecoder(*sizes, non_negative=True),
}
COVARIATES = Covariates(n_batch=2, n_cats_per_cov=[3, 2], n_continuous_cov=1)


def build(
    latent="gaussian",
    likelihood="normal",
    decoder="mlp",
    weights=(),
    encode_covariates=False,
    temperature=None,
):
    torch.manual_seed(1)
    likelihood = LIKELIHOODS[likelihood](N_GENES)
    n_in = N_GENES + (COVARIATES.n_columns if encode_covariates else 0)
    module = Autoencoder(
        encoder_input=EncoderInput(N_GENES, log_normalize=likelihood.data_kind == "counts"),
        encoder=MLP(n_in, (7,)),
        latent=LATENTS[latent](7, N_LATENT),
        decoder=DECODERS[decoder](N_LATENT, COVARIATES.n_columns, N_GENES, likelihood.outputs),
        likelihood=likelihood,
        objective=BetaELBO(dict(weights)),
        covariates=COVARIATES,
        encode_covariates=encode_covariates,
        temperature=temperature or (Constant(0.5) if latent == "spike and slab" else None),
    )
    return module.eval()


def make_batch(likelihood="normal", size_factor=False):
    rng = np.random.default_rng(0)
    x = rng.poisson(3.0, size=(N_CELLS, N_GENES)).astype(np.float32)
    if likelihood == "bernoulli":
        x /= x.max()
    batch = {
        REGISTRY_KEYS.X_KEY: x,
        REGISTRY_KEYS.BATCH_KEY: np.arange(N_CELLS)[:, None] % 2,
        REGISTRY_KEYS.CAT_COVS_KEY: np.stack([np.arange(N_CELLS) % 3, np.arange(N_CELLS) // 5], 1),
        REGISTRY_KEYS.CONT_COVS_KEY: rng.normal(size=(N_CELLS, 1)).astype(np.float32),
    }
    if size_factor:
        batch[REGISTRY_KEYS.SIZE_FACTOR_KEY] = rng.uniform(5, 50, size=(N_CELLS, 1)).astype(np.float32)
    return {name: torch.as_tensor(values) for name, values in batch.items()}


combinations = [
    pytest.mark.parametrize("latent", LATENTS),
    pytest.mark.parametrize("likelihood", LIKELIHOODS),
    pytest.mark.parametrize("decoder", DECODERS),
]


def all_combinations(test):
    for mark in combinations:
        test = mark(test)
    return test


def test_design_is_one_hot_codes_and_values():
    batch = make_batch()
    by_hand = pd.concat(
        [
            pd.get_dummies(batch[REGISTRY_KEYS.BATCH_KEY][:, 0].numpy()),
            pd.get_dummies(batch[REGISTRY_KEYS.CAT_COVS_KEY][:, 0].numpy()),
            pd.get_dummies(batch[REGISTRY_KEYS.CAT_COVS_KEY][:, 1].numpy()),
            pd.DataFrame(batch[REGISTRY_KEYS.CONT_COVS_KEY].numpy()),
        ],
        axis=1,
    ).to_numpy(dtype=np.float32)
    np.testing.assert_array_equal(COVARIATES.design(batch).numpy(), by_hand)
    assert COVARIATES.n_columns == by_hand.shape[1] == 8
    nothing = Covariates().design(batch)
    assert nothing.shape == (N_CELLS, 0)


@all_combinations
def test_loss_is_reconstruction_plus_weighted_kl_and_reaches_every_parameter(latent, likelihood, decoder):
    module = build(latent, likelihood, decoder, {"kl": 0.5, "kl_slab": 2.0, "kl_usage": Linear(0, 4)})
    batch = make_batch(likelihood)
    module.train()
    loss, terms = module.terms(batch, progress=0.25)
    weight = {"reconstruction_loss": 1, "kl": 0.5, "kl_slab": 2.0, "kl_information": 1.0, "kl_usage": 1.0}
    assert set(terms) == {"reconstruction_loss", *module.latent.kl_terms}
    assert all(term.shape == (N_CELLS,) for term in terms.values())
    by_hand = sum(weight[name] * term.mean() for name, term in terms.items())
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # batch normalisation takes away the mean, and with it the bias before it
        if not name.endswith("layers.0.bias"):
            assert parameter.grad.abs().max() > 0, name


@all_combinations
def test_scvi_tools_interface_gives_the_negative_elbo_of_the_same_steps(latent, likelihood, decoder):
    module, batch = build(latent, likelihood, decoder), make_batch(likelihood)
    torch.manual_seed(3)
    inference, generative, losses = module(batch)
    torch.manual_seed(3)
    code = module.encode(batch)
    torch.testing.assert_close(inference["z"], code.z)
    _, library, covariates = module.read(batch)
    raw = module.decoder(code.z, covariates)
    error = module.likelihood.negative_log_likelihood(batch["X"], raw, library)
    torch.testing.assert_close(losses.reconstruction_loss["reconstruction_loss"], error)
    kl = sum(term.mean() for term in code.kl.values()) if code.kl else torch.tensor(0.0)
    torch.testing.assert_close(losses.kl_local["kl_local"].mean(), kl, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses.loss, error.mean() + kl, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(generative["px"].mean, module.decode(code.z, batch))


@all_combinations
def test_several_draws_and_posterior_predictive_samples(latent, likelihood, decoder):
    module, batch = build(latent, likelihood, decoder), make_batch(likelihood)
    inference = module.inference(**module._get_inference_input(batch), n_samples=4)
    assert inference["z"].shape == (4, N_CELLS, N_LATENT)
    generative = module.generative(**module._get_generative_input(batch, inference))
    assert generative["px"].mean.shape == (4, N_CELLS, N_GENES)
    for i in range(4):  # each draw is decoded with the covariates of its cells
        torch.testing.assert_close(generative["px"].mean[i], module.decode(inference["z"][i], batch))
    drawn = module.sample(batch, n_samples=4)
    assert drawn.shape == (4, N_CELLS, N_GENES)
    assert module.sample(batch).shape == (N_CELLS, N_GENES)
    if module.likelihood.data_kind != "finite":
        assert (drawn == drawn.round()).all()
        assert (drawn >= 0).all()


def test_kl_per_cell_is_exact():
    batch = make_batch()
    module = build("gaussian")
    code = module.encode(batch)
    torch.testing.assert_close(module.kl(code), kl_divergence(code.qz, Normal(0.0, 1.0)).sum(1))
    module = build("spike and slab")
    code = module.encode(batch)
    torch.testing.assert_close(
        module.kl(code), kl_divergence(code.qz, module.latent.prior.distribution()).sum(1)
    )
    module = build("deterministic")
    assert module.kl(module.encode(batch)).tolist() == [0.0] * N_CELLS


def test_schedule_values_are_named_after_their_terms():
    module = build(
        "spike and slab", weights={"kl_slab": Linear(0, 1), "kl_usage": 5.0}, temperature=Linear(1.0, 0.5)
    )
    expected = {"beta_slab": 0.5, "beta_information": 1.0, "beta_usage": 5.0, "temperature": 0.75}
    assert module.schedule_values(0.5) == expected
    assert build("gaussian", weights={"kl": 3.0}).schedule_values(0.2) == {"beta": 3.0}
    assert build("deterministic").schedule_values(0.2) == {}


def test_gate_in_training_follows_the_temperature_schedule(monkeypatch):
    """Hot gates are all near 1/2; cold ones near 0 or 1."""
    module = build("spike and slab", temperature=Linear(50.0, 0.01)).train()
    drawn = []
    draw = module.latent._draw_gate
    monkeypatch.setattr(
        module.latent, "_draw_gate", lambda logits, t: drawn.append(draw(logits, t)) or drawn[-1]
    )
    module.terms(make_batch(), progress=0.0)
    module.terms(make_batch(), progress=1.0)
    hot, cold = drawn
    assert (hot - 0.5).abs().max() < 0.1
    assert ((cold - 0.5).abs() > 0.45).float().mean() > 0.9


def test_library_is_the_cells_total_or_the_size_factor():
    module = build(likelihood="nb")
    batch = make_batch("nb")
    x, library, _ = module.read(batch)
    torch.testing.assert_close(library, batch["X"].sum(1, keepdim=True))
    batch = make_batch("nb", size_factor=True)
    _, library, _ = module.read(batch)
    torch.testing.assert_close(library, batch[REGISTRY_KEYS.SIZE_FACTOR_KEY])
    z = torch.zeros(N_CELLS, N_LATENT)
    torch.testing.assert_close(module.decode(z, batch).sum(1, keepdim=True), library)
    _, library, _ = build(likelihood="normal").read(make_batch())
    assert (library == 1).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_covariates_enter_the_decoder_always_and_the_encoder_if_asked(decoder):
    batch = make_batch()
    for key in (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY):
        other = dict(batch) | {
            key: 1 - batch[key] if key != REGISTRY_KEYS.CAT_COVS_KEY else batch[key].flip(0)
        }
        for encode_covariates in (False, True):
            module = build("deterministic", decoder=decoder, encode_covariates=encode_covariates)
            if decoder == "linear":
                torch.nn.init.normal_(module.decoder.covariate_weight["mean"])
            same_code = torch.equal(module.encode(batch).z, module.encode(other).z)
            assert same_code != encode_covariates
            z = torch.zeros(N_CELLS, N_LATENT)
            assert not torch.allclose(module.decode(z, batch), module.decode(z, other))


def test_expression_of_a_cell_does_not_depend_on_its_batch_mates():
    for latent in LATENTS:
        module, batch = build(latent), make_batch()
        alone = module.encode({name: values[4:5] for name, values in batch.items()})
        torch.testing.assert_close(alone.mean[0], module.encode(batch).mean[4])
        torch.testing.assert_close(module.kl(alone)[0], module.kl(module.encode(batch))[4])


@all_combinations
@pytest.mark.parametrize("output_lr_factor", [1.0, 20.0])
def test_every_parameter_is_in_one_group(latent, likelihood, decoder, output_lr_factor):
    module = build(latent, likelihood, decoder)
    module.output_lr_factor = output_lr_factor
    grouped = [(id(p), rest) for parameters, *rest in module.parameter_groups() for p in parameters]
    assert len(grouped) == len(dict(grouped)) == len(list(module.parameters()))
    own = 8.0 if likelihood in ("nb", "zinb") else 1.0
    expected = {"decoder": output_lr_factor, "likelihood": max(own, output_lr_factor)}
    for name, parameter in module.named_parameters():
        part = name.split(".")[0]
        assert dict(grouped)[id(parameter)] == [expected.get(part, 1.0), part != "likelihood"]


def sparse_batch(batch):
    rows = sparse.csr_matrix(batch[REGISTRY_KEYS.X_KEY].numpy())
    return batch | {REGISTRY_KEYS.X_KEY: SparseCells.from_rows(rows)}


@pytest.mark.parametrize("encode_covariates", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("latent", LATENTS)
def test_sparse_cells_give_the_terms_and_gradients_of_dense_ones(
    latent, likelihood, decoder, encode_covariates
):
    module = build(latent, likelihood, decoder, encode_covariates=encode_covariates).train()
    batch = make_batch(likelihood)
    found = []
    for cells in (batch, sparse_batch(batch)):
        module.zero_grad()
        torch.manual_seed(0)
        loss, terms = module.terms(cells, 0.3)
        loss.backward()
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        found.append({"loss": loss.detach()} | {k: v.detach() for k, v in terms.items()} | gradients)
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_sparse_cells_are_made_dense_where_single_precision_is_not_used(precision):
    module, batch = build(), make_batch()
    if precision == torch.float64:
        module = module.double()
        batch[REGISTRY_KEYS.CONT_COVS_KEY] = batch[REGISTRY_KEYS.CONT_COVS_KEY].double()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        torch.manual_seed(0)
        own, _ = module.terms(sparse_batch(batch), 1.0)
        if precision == torch.float64:
            batch[REGISTRY_KEYS.X_KEY] = batch[REGISTRY_KEYS.X_KEY].double()
        torch.manual_seed(0)
        dense, _ = module.terms(batch, 1.0)
    assert torch.equal(own, dense)
    assert own.dtype == (torch.float64 if precision == torch.float64 else torch.float32)
