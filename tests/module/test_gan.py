"""Generator and critic as one module: what both see, the losses, the running mean, counts and values."""

import copy

import pytest
import torch
from scvi import REGISTRY_KEYS

from latentcell.module.autoencoder import Covariates
from latentcell.module.gan import GAN, Values
from latentcell.nn.counts import NegativeBinomial, Poisson

N_CELLS, N_GENES, N_LATENT = 10, 6, 3
LIKELIHOODS = {
    "nb": NegativeBinomial,
    "poisson": Poisson,
    "relu": lambda n: Values(n, link="relu"),
    "identity": lambda n: Values(n, link="identity"),
}
COVARIATES = {"n_batch": 2, "n_cats_per_cov": [3], "n_continuous_cov": 1}


def build(likelihood="poisson", *, n_labels=0, decay=0.9, covariates=COVARIATES):
    torch.manual_seed(1)
    module = GAN(
        n_genes=N_GENES,
        n_latent=N_LATENT,
        generator_sizes=(8,),
        critic_sizes=(7, 5),
        inverse_sizes=(4,),
        likelihood=LIKELIHOODS[likelihood](N_GENES),
        covariates=Covariates(**covariates, n_labels=n_labels),
        penalty_weight=10.0,
        decay=decay,
    )
    module.depth.copy_(torch.tensor([2.0, 0.5]))
    module.unit.copy_(torch.tensor(12.0))
    return module


def make_batch(n_labels=0, counts=True):
    x = torch.poisson(torch.full((N_CELLS, N_GENES), 2.0)) + 1 if counts else torch.randn(N_CELLS, N_GENES)
    batch = {
        REGISTRY_KEYS.X_KEY: x,
        REGISTRY_KEYS.BATCH_KEY: torch.randint(2, (N_CELLS, 1)),
        REGISTRY_KEYS.CAT_COVS_KEY: torch.randint(3, (N_CELLS, 1)),
        REGISTRY_KEYS.CONT_COVS_KEY: torch.randn(N_CELLS, 1),
    }
    if n_labels:
        batch[REGISTRY_KEYS.LABELS_KEY] = torch.randint(n_labels, (N_CELLS, 1))
    return batch


def test_critic_sees_composition_depth_and_covariates():
    module, batch = build(), make_batch()
    x = batch[REGISTRY_KEYS.X_KEY]
    seen = module.features(x, module.library(batch), batch)
    for i in range(N_CELLS):
        total = x[i].sum()
        composition = [torch.log(1 + x[i, g] / total * 12.0) for g in range(N_GENES)]
        depth = [(total.log() - 2.0) / 0.5]
        of_batch = torch.eye(2)[batch[REGISTRY_KEYS.BATCH_KEY][i, 0]]
        category = torch.eye(3)[batch[REGISTRY_KEYS.CAT_COVS_KEY][i, 0]]
        expected = [*composition, *depth, *of_batch, *category, *batch[REGISTRY_KEYS.CONT_COVS_KEY][i]]
        torch.testing.assert_close(seen[i], torch.stack(expected))


def test_values_are_seen_in_their_unit_and_without_depth():
    module, batch = build("identity"), make_batch(counts=False)
    seen = module.features(batch[REGISTRY_KEYS.X_KEY], module.library(batch), batch)
    torch.testing.assert_close(seen[:, :N_GENES], batch[REGISTRY_KEYS.X_KEY] / 12.0)
    assert seen.shape == (N_CELLS, N_GENES + 2 + 3 + 1)


def test_size_factors_are_the_depth_where_there_are_some():
    module, batch = build(), make_batch()
    torch.testing.assert_close(module.library(batch), batch[REGISTRY_KEYS.X_KEY].sum(1, keepdim=True))
    batch[REGISTRY_KEYS.SIZE_FACTOR_KEY] = torch.arange(1, N_CELLS + 1)[:, None]
    torch.testing.assert_close(module.library(batch)[:, 0], torch.arange(1.0, N_CELLS + 1))


@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
def test_drawn_cells_have_the_depth_asked_for(likelihood):
    module, batch = build(likelihood), make_batch()
    library = torch.linspace(50, 5000, N_CELLS)[:, None]
    z = module.latent.sample_prior(N_CELLS)
    with torch.no_grad():
        mean = module.likelihood.mean(module.decode_raw(z, batch, library), library)
        torch.testing.assert_close(mean.sum(1, keepdim=True), library)
        drawn = torch.stack([module.eval().draw(z, batch, library) for _ in range(300)])
        expected = module.likelihood.mean(module.decode_raw(z, batch, library), library)
    spread = drawn.std(0) / 300**0.5
    assert ((drawn.mean(0) - expected).abs() < 5 * spread + 0.05).all()


def test_values_of_relu_are_not_negative_and_have_exact_zeros():
    module, batch = build("relu"), make_batch(counts=False)
    drawn = module.draw(module.latent.sample_prior(N_CELLS), batch, module.library(batch))
    assert (drawn >= 0).all()
    assert (drawn == 0).any()


@pytest.mark.parametrize("n_labels", [0, 3])
def test_losses_are_their_formulas(n_labels):
    module, batch = build(n_labels=n_labels).eval(), make_batch(n_labels)
    labels = batch[REGISTRY_KEYS.LABELS_KEY][:, 0] if n_labels else torch.zeros(N_CELLS, dtype=torch.long)
    library = module.library(batch)
    torch.manual_seed(3)
    loss, terms = module.critic_loss(batch)

    torch.manual_seed(3)
    z = torch.randn(N_CELLS, N_LATENT)
    drawn = module.draw(z, batch, library).detach()
    share = torch.rand(N_CELLS, 1)
    real, fake = (module.features(x, library, batch) for x in (batch[REGISTRY_KEYS.X_KEY], drawn))
    gap, penalty = [], []
    for i in range(N_CELLS):
        label = labels[i : i + 1]
        gap.append(module.critic(real[i : i + 1], label)[0] - module.critic(fake[i : i + 1], label)[0])
        at = (share[i] * real[i] + (1 - share[i]) * fake[i])[None].detach().requires_grad_()
        (slope,) = torch.autograd.grad(module.critic(at, label).sum(), at)
        penalty.append((slope.norm() - 1).square())
        torch.testing.assert_close(terms["gradient_norm"][i], slope.norm())
    torch.testing.assert_close(terms["critic_gap"], torch.stack(gap))
    torch.testing.assert_close(loss, 10 * torch.stack(penalty).mean() - torch.stack(gap).mean())

    torch.manual_seed(3)
    found = module.generator_loss(batch)
    torch.testing.assert_close(found, -module.critic(fake, labels).mean())


def test_the_critics_loss_moves_the_critic_only_and_the_generators_the_generator():
    module, batch = build("nb").train(), make_batch()
    module.critic_loss(batch)[0].backward()
    moved = {
        name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert moved == {"critic"}
    module.zero_grad(set_to_none=True)
    module.critic.requires_grad_(False)
    module.generator_loss(batch).backward()
    without = {name for name, p in module.generator.named_parameters() if p.grad is None or not p.grad.any()}
    assert not without, "parameters of the generator that do not learn"
    assert all(p.grad is None for name, p in module.named_parameters() if not name.startswith("generator."))


def test_new_cells_are_of_the_running_mean_of_weights():
    module = build(decay=0.5)
    expected = copy.deepcopy(dict(module.averaged.named_parameters()))
    for step in range(1, 5):
        with torch.no_grad():
            for parameter in module.generator.parameters():
                parameter.add_(torch.randn_like(parameter))
        module.average()
        kept = min(0.5, step / (step + 9))  # the first weights are forgotten soon
        for name, now in module.generator.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * now
    for name, mean in module.averaged.named_parameters():
        torch.testing.assert_close(mean, expected[name])
    batch, z = make_batch(), torch.randn(N_CELLS, N_LATENT)
    assert torch.equal(
        module.eval().decode_raw(z, batch)["mean"],
        module.averaged(
            torch.cat([z, module._beside(module.library(batch), batch)], 1), module._labels(batch)
        )["mean"],
    )


def test_the_running_mean_goes_on_where_the_state_was():
    """Its pace hangs on the steps done, which a resumed run has in its state."""
    module, resumed = build(), build()
    for _ in range(3):
        module.average()
    resumed.load_state_dict(module.state_dict())
    for one in (module, resumed):
        with torch.no_grad():
            one.generator.head.bias.fill_(7.0)
        one.average()
    assert int(resumed.n_averaged) == 4
    torch.testing.assert_close(
        dict(resumed.averaged.named_parameters()), dict(module.averaged.named_parameters())
    )
    kept = 4 / 13
    expected = kept * build().generator.head.bias + (1 - kept) * 7.0
    torch.testing.assert_close(resumed.averaged.head.bias, expected)


def test_the_inverse_is_told_the_label():
    module, batch = build(n_labels=3), make_batch(3)
    x, library = batch[REGISTRY_KEYS.X_KEY], module.library(batch)
    other = batch | {REGISTRY_KEYS.LABELS_KEY: (batch[REGISTRY_KEYS.LABELS_KEY] + 1) % 3}
    assert not torch.allclose(module.place(x, library, batch), module.place(x, library, other))


def test_the_inverse_learns_the_noise_of_a_generator_that_keeps_it():
    module = build("identity", covariates={}).eval()
    with torch.no_grad():
        module.averaged.body.layers[0].weight.mul_(3.0)
        module.averaged.head.weight.mul_(20.0)
    batch = {REGISTRY_KEYS.X_KEY: torch.randn(512, N_GENES)}
    module.inverse.requires_grad_(True)
    optimizer = torch.optim.Adam(module.inverse.parameters(), lr=0.01)
    losses = []
    for _ in range(300):
        loss = module.inverse_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.9  # the variance of the noise, which knows nothing
    assert losses[-1] < 0.6
