"""Likelihoods: loss against their torch distribution, scipy and the documents' losses; starts at the data."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import log_loss
from torch.nn import functional as F

from latentcell.nn.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Gaussian,
    NegativeBinomial,
    StudentT,
    ZeroInflatedNegativeBinomial,
)

N_CELLS, N_GENES = 6, 5


COUNTS = ("poisson", "nb", "zinb")


def random_raw(*shape):
    """Every raw output that any likelihood asks for."""
    names = ("mean", "dropout", "log_theta")
    return {name: torch.randn(*shape, N_GENES, dtype=torch.float64) for name in names}


@pytest.fixture
def raw():
    return random_raw(N_CELLS)


@pytest.fixture
def library():
    return torch.rand(N_CELLS, 1, dtype=torch.float64) * 90 + 10


def data(name, n_cells=N_CELLS):
    if name in COUNTS:
        return torch.poisson(torch.full((n_cells, N_GENES), 2.0)).double()
    x = torch.rand(n_cells, N_GENES, dtype=torch.float64)
    return x.round() if name == "bernoulli" else 3 * x - 1


def make(name):
    """A likelihood whose learned parameters are not where they start."""
    likelihood = LIKELIHOODS[name](N_GENES).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.linspace(-1, 1.5, N_GENES).expand_as(parameter))
    return likelihood


def test_every_likelihood_is_called_by_its_name():
    assert {name: kind.name for name, kind in LIKELIHOODS.items()} == {
        n: n for n in ("normal", "bernoulli", "student_t", "poisson", "nb", "zinb")
    }


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_loss_is_minus_the_log_probability_of_its_distribution(name, raw, library):
    likelihood, x = make(name), data(name)
    expected = -likelihood.distribution(raw, library).log_prob(x).sum(-1)
    torch.testing.assert_close(
        likelihood.negative_log_likelihood(x, raw, library), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_mean_is_that_of_its_distribution(name, raw, library):
    likelihood = make(name)
    torch.testing.assert_close(likelihood.mean(raw, library), likelihood.distribution(raw, library).mean)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_several_draws_of_a_code_give_a_loss_each(name, library):
    likelihood, x = make(name), data(name)
    draws = random_raw(3, N_CELLS)
    loss = likelihood.negative_log_likelihood(x, draws, library)
    assert loss.shape == (3, N_CELLS)
    for i in range(3):
        alone = likelihood.negative_log_likelihood(x, {k: v[i] for k, v in draws.items()}, library)
        torch.testing.assert_close(loss[i], alone)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_start_gives_the_data_s_mean(name):
    likelihood = LIKELIHOODS[name](N_GENES).double()
    x = data(name, n_cells=400) * torch.tensor([1.0, 0.5, 0.1, 1.0, 0.0]).double()
    if name in COUNTS:
        x = x.round()
    if name == "bernoulli":
        x = x.clamp(0.01, 0.99)
    bias = likelihood.start(x.mean(0).float(), x.std(0, unbiased=False).float()).double()
    library = x.sum(1, keepdim=True)
    never = torch.full((400, N_GENES), -30.0).double()
    mean = likelihood.mean({"mean": bias.expand(400, -1), "dropout": never}, library)
    torch.testing.assert_close(mean.mean(0), x.mean(0), rtol=1e-4, atol=1e-5)


def test_baseline_leaves_room_above_it():
    """Where a decoder that can only add starts: half the mean; half the odds; the same shares."""
    mean = torch.tensor([0.2, 0.5, 0.9])
    std, none = torch.ones(3), torch.zeros(0)
    normal, bernoulli, nb = Gaussian(3), Bernoulli(3), NegativeBinomial(3)
    torch.testing.assert_close(
        normal.mean({"mean": normal.baseline(normal.start(mean, std))}, none), mean / 2
    )
    started = bernoulli.mean({"mean": bernoulli.baseline(bernoulli.start(mean, std))}, none)
    torch.testing.assert_close(started / (1 - started), mean / (1 - mean) / 2)
    shares = nb.mean({"mean": nb.baseline(nb.start(mean, std))}, torch.ones(1))
    torch.testing.assert_close(shares, mean / mean.sum())


def test_gaussian_is_scipys_and_starts_at_the_datas_scale(raw, library):
    x = data("normal")
    likelihood = make("normal")
    scale = likelihood.scale().detach().numpy()
    expected = -stats.norm.logpdf(x, raw["mean"], scale).sum(1)
    np.testing.assert_allclose(
        likelihood.negative_log_likelihood(x, raw, library).detach(), expected, rtol=1e-6
    )
    likelihood = Gaussian(3, min_scale=0.1)
    likelihood.start(torch.zeros(3), torch.tensor([2.0, 0.5, 0.0]))
    torch.testing.assert_close(likelihood.scale(), torch.tensor([2.0, 0.5, 0.1]))
    with torch.no_grad():
        likelihood.raw_scale.fill_(-50.0)
    torch.testing.assert_close(likelihood.scale(), torch.full((3,), 0.1))


def test_gaussian_of_scale_root_half_is_the_sum_of_squared_errors(raw, library):
    x = data("normal")
    likelihood = Gaussian(N_GENES, scale=0.5**0.5)
    loss = likelihood.negative_log_likelihood(x, raw, library)
    squares = (x - raw["mean"]).square().sum(1)
    torch.testing.assert_close(
        loss - squares, torch.full_like(loss, N_GENES / 2 * np.log(np.pi)), rtol=1e-5, atol=0
    )
    assert not list(likelihood.parameters())
    assert not likelihood.state_dict()


@pytest.mark.parametrize("scale", [0.0, -1.0, "cell", None])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="'gene' or a positive number"):
        Gaussian(3, scale=scale)


def test_bernoulli_is_binary_cross_entropy_also_between_0_and_1(raw, library):
    x = torch.rand(N_CELLS, N_GENES, dtype=torch.float64)
    loss = Bernoulli(N_GENES).negative_log_likelihood(x, raw, library)
    p = torch.sigmoid(raw["mean"])
    by_hand = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)
    torch.testing.assert_close(loss, by_hand)
    binary = x.round()
    total = Bernoulli(N_GENES).negative_log_likelihood(binary, raw, library).sum()
    flat = log_loss(binary.ravel().numpy(), p.ravel().numpy(), normalize=False, labels=[0, 1])
    assert total.item() == pytest.approx(flat)
    extreme = {"mean": torch.full_like(raw["mean"], 500.0)}
    assert torch.isfinite(Bernoulli(N_GENES).negative_log_likelihood(x, extreme, library)).all()


def test_negative_binomial_is_scipys_with_the_means_of_a_softmax(raw, library):
    x, likelihood = data("nb"), make("nb")
    mu = (library * torch.softmax(raw["mean"], 1)).numpy()
    theta = np.exp(np.linspace(-1, 1.5, N_GENES))
    expected = -stats.nbinom.logpmf(x, theta, theta / (theta + mu)).sum(1)
    np.testing.assert_allclose(
        likelihood.negative_log_likelihood(x, raw, library).detach(), expected, rtol=1e-6
    )
    np.testing.assert_allclose(likelihood.mean(raw, library), mu)
    torch.testing.assert_close(likelihood.mean(raw, library).sum(1, keepdim=True), library)
    d = likelihood.distribution(raw, library)
    np.testing.assert_allclose(d.variance.detach(), mu + mu**2 / theta)


def test_negative_binomial_is_scvi_tools(raw, library):
    from scvi.distributions import NegativeBinomial as Theirs

    x, likelihood = data("nb"), make("nb")
    theirs = Theirs(mu=likelihood.mean(raw, library), theta=likelihood.theta(), validate_args=False)
    expected = -theirs.log_prob(x).sum(1)
    torch.testing.assert_close(
        likelihood.negative_log_likelihood(x, raw, library), expected, rtol=1e-6, atol=0
    )


def test_log_link_models_each_gene_on_its_own(raw, library):
    """Raw outputs are log shares: one more unit is e times the gene, and no other gene moves."""
    likelihood = NegativeBinomial(N_GENES, link="log").double()
    mean = likelihood.mean(raw, library)
    torch.testing.assert_close(mean, library * raw["mean"].clamp(max=2.0).exp())
    more = {"mean": raw["mean"].clamp(max=1.0)}
    before = likelihood.mean(more, library)
    more["mean"] = more["mean"] + torch.eye(N_GENES).double()[0]
    change = likelihood.mean(more, library) / before
    torch.testing.assert_close(change, torch.tensor([np.e, 1, 1, 1, 1]).double().expand(N_CELLS, -1))
    with pytest.raises(ValueError, match="link must be 'softmax' or 'log', got 'probit'"):
        NegativeBinomial(N_GENES, link="probit")


@pytest.mark.parametrize("kind", ["poisson", "nb"])
def test_log_link_starts_at_the_mean_composition(kind):
    likelihood, library = LIKELIHOODS[kind](3, link="log"), torch.tensor([[20.0], [5.0]])
    bias = likelihood.start(torch.tensor([1.0, 3.0, 6.0]), torch.ones(3))
    expected = library * torch.tensor([0.1, 0.3, 0.6])
    torch.testing.assert_close(likelihood.mean({"mean": bias.expand(2, 3)}, library), expected)


def test_negative_binomial_loss_has_the_gradients_of_autograd(raw, library):
    x, likelihood = data("nb"), make("nb")
    output = raw["mean"].requires_grad_()
    wanted = (output, likelihood.log_theta)
    ours = torch.autograd.grad(likelihood.negative_log_likelihood(x, {"mean": output}, library).sum(), wanted)
    theirs = torch.autograd.grad(
        -likelihood.distribution({"mean": output}, library).log_prob(x).sum(), wanted
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_negative_binomial_dispersion_stays_in_bounds():
    likelihood = NegativeBinomial(2)
    with torch.no_grad():
        likelihood.log_theta.copy_(torch.tensor([-1e3, 1e3]))
    torch.testing.assert_close(likelihood.theta().log(), torch.tensor([-10.0, 10.0]))
    loss = likelihood.negative_log_likelihood(
        torch.ones(1, 2), {"mean": torch.zeros(1, 2)}, torch.tensor([[2.0]])
    )
    assert torch.isfinite(loss).all()


def test_all_zero_genes_do_not_break_a_start():
    bias = NegativeBinomial(3).start(torch.tensor([0.0, 2.0, 2.0]), torch.zeros(3))
    assert torch.isfinite(bias).all()
    torch.testing.assert_close(F.softmax(bias, 0), torch.tensor([0.0, 0.5, 0.5]), rtol=0, atol=1e-6)
    assert torch.isfinite(Bernoulli(2).start(torch.tensor([0.0, 1.0]), torch.zeros(2))).all()


# --- distributions: probabilities, moments, draws ---


@pytest.mark.parametrize("name", COUNTS)
def test_probabilities_of_counts_sum_to_one_and_give_the_moments(name, raw):
    likelihood = make(name)
    distribution = likelihood.distribution(raw, torch.full((N_CELLS, 1), 20.0).double())
    counts = torch.arange(3000.0).double()[:, None, None]
    p = distribution.log_prob(counts.expand(-1, N_CELLS, N_GENES)).exp()
    mean = (p * counts).sum(0)
    torch.testing.assert_close(p.sum(0), torch.ones(N_CELLS, N_GENES).double())
    torch.testing.assert_close(mean, distribution.mean)
    variance = (p * (counts - mean).square()).sum(0)
    torch.testing.assert_close(variance, distribution.variance, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_moments_of_the_distribution(name, raw, library):
    likelihood = make(name)
    if name == "student_t":
        likelihood.degrees = 12.0  # so that the variance of the variance is small enough to see
    distribution = likelihood.distribution(raw, library)
    torch.manual_seed(0)
    draws = distribution.sample((20_000,))
    assert draws.shape == (20_000, N_CELLS, N_GENES)
    error = (distribution.variance / 20_000).sqrt()
    assert ((draws.mean(0) - distribution.mean).abs() < 5 * error + 1e-12).all()
    torch.testing.assert_close(draws.var(0), distribution.variance, rtol=0.25, atol=1e-3)
    if name in COUNTS:
        assert torch.equal(draws, draws.round())


@pytest.mark.parametrize("name", ["student_t", "poisson", "nb", "zinb"])
def test_gradients_are_those_of_finite_differences(name, raw, library):
    likelihood, x = make(name), data(name)
    inputs = [raw[key].requires_grad_() for key in likelihood.outputs]

    def loss(*outputs):
        return likelihood.negative_log_likelihood(
            x, dict(zip(likelihood.outputs, outputs, strict=True)), library
        )

    assert torch.autograd.gradcheck(loss, inputs)


def test_student_t_is_scipys_and_starts_at_the_datas_spread(raw, library):
    x, likelihood = data("student_t"), make("student_t")
    scale = likelihood.scale().detach().numpy()
    expected = -stats.t.logpdf(x, 5.0, raw["mean"], scale).sum(1)
    ours = likelihood.negative_log_likelihood(x, raw, library).detach()
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    started = StudentT(3)
    started.start(torch.zeros(3), torch.tensor([2.0, 0.5, 1.0]))
    spread = started.distribution({"mean": torch.zeros(3)}, library).variance.sqrt()
    torch.testing.assert_close(spread, torch.tensor([2.0, 0.5, 1.0]))
    with pytest.raises(ValueError, match="above 2"):
        StudentT(3, degrees=2.0)


def test_one_outlier_moves_the_mean_under_student_t_less_than_under_the_normal():
    x = torch.cat([torch.zeros(20), torch.tensor([50.0])])[:, None]

    def best_mean(likelihood):
        losses = [
            likelihood.negative_log_likelihood(x, {"mean": torch.full_like(x, m)}, x).sum().item()
            for m in np.linspace(0, 5, 101)
        ]
        return np.linspace(0, 5, 101)[np.argmin(losses)]

    assert best_mean(Gaussian(1, scale=1.0)) == pytest.approx(50 / 21, abs=0.05)
    assert best_mean(StudentT(1)) < 0.2


def test_zero_inflation_is_scvi_tools(raw, library):
    from scvi.distributions import ZeroInflatedNegativeBinomial as Theirs

    x, likelihood = data("zinb"), make("zinb")
    theirs = Theirs(
        mu=likelihood.log_mean(raw, library).exp(),
        theta=likelihood.theta().detach(),
        zi_logits=raw["dropout"],
        validate_args=False,
    )
    ours = likelihood.negative_log_likelihood(x, raw, library).detach()
    # scvi-tools adds 1e-8 to means and dispersions
    torch.testing.assert_close(ours, -theirs.log_prob(x).sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(likelihood.mean(raw, library), theirs.mean)


# --- dispersion ---


@pytest.mark.parametrize("kind", [NegativeBinomial, ZeroInflatedNegativeBinomial])
@pytest.mark.parametrize("dispersion", ["gene-batch", "gene-label"])
def test_dispersion_by_group_takes_each_cells_own(kind, dispersion, raw, library):
    x = data("nb")
    group = torch.tensor([1, 0, 2, 1, 0, 2])
    likelihood = kind(N_GENES, dispersion=dispersion, n_groups=3).double()
    with torch.no_grad():
        likelihood.log_theta.copy_(torch.randn(3, N_GENES))
    loss = likelihood.negative_log_likelihood(x, raw | {"group": group}, library)
    for i, g in enumerate(group.tolist()):
        alone = kind(N_GENES).double()
        with torch.no_grad():
            alone.log_theta.copy_(likelihood.log_theta[g])
        one = {name: values[i : i + 1] for name, values in raw.items()}
        expected = alone.negative_log_likelihood(x[i : i + 1], one, library[i : i + 1])
        torch.testing.assert_close(loss[i : i + 1], expected)
    loss.sum().backward()
    assert (likelihood.log_theta.grad != 0).all()


@pytest.mark.parametrize("kind", [NegativeBinomial, ZeroInflatedNegativeBinomial])
@pytest.mark.parametrize(("link", "start"), [("softmax", 1.0), ("log", 10.0)])
def test_theta_starts_where_the_decoder_can_use_it(kind, link, start):
    torch.testing.assert_close(kind(N_GENES, link=link).theta(), torch.full((N_GENES,), start))


@pytest.mark.parametrize("kind", [NegativeBinomial, ZeroInflatedNegativeBinomial])
@pytest.mark.parametrize(("link", "start"), [("softmax", 1.0), ("log", 10.0)])
def test_dispersion_by_cell_comes_from_the_decoder(kind, raw, library, link, start):
    x = data("nb")
    likelihood = kind(N_GENES, dispersion="gene-cell", link=link).double()
    assert likelihood.outputs == (*kind.outputs, "log_theta")
    assert not list(likelihood.parameters())
    torch.testing.assert_close(likelihood.theta(raw), start * raw["log_theta"].exp())
    theta = likelihood.theta(raw)
    expected = -likelihood.distribution(raw, library).log_prob(x).sum(1)
    torch.testing.assert_close(likelihood.negative_log_likelihood(x, raw, library), expected)
    if kind is NegativeBinomial:
        mu = likelihood.mean(raw, library)
        scipys = -stats.nbinom.logpmf(x, theta, theta / (theta + mu)).sum(1)
        np.testing.assert_allclose(expected, scipys, rtol=1e-8)


def test_dispersions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="dispersion must be one of"):
        NegativeBinomial(3, dispersion="cell")
    with pytest.raises(ValueError, match="number of groups"):
        NegativeBinomial(3, dispersion="gene-batch")
