"""The models that keep the contract: a new one joins by one line in CASES.

Every check of ``lc.testing`` that applies to a model runs for it in ``test_contract.py``. The other tests of
this folder are about what is inside: formulas, files, arguments of networks. They run for every model with
a network if they ask for `Model` or `trained`; for those with a posterior if they ask for `variational`;
for those that model any kind of data, not only counts, if they ask for `any_data`.
"""

from types import SimpleNamespace

import anndata as ad
import pytest

import latentcell as lc
from latentcell.testing._cells import KEYS, make_cells

SMALL = {"n_latent": 3, "hidden": (8,)}
ADVERSARIAL = SMALL | {"critic_hidden": (8,)}
CASES = [
    lc.testing.Case(lc.model.AE, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.VAE, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.VSC, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.CVAE, setup={"labels_key": "label"}, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.DCA, arguments=SMALL, counts_only=True),
    lc.testing.Case(lc.model.DisentangledVAE, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.SAUCIE, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.DESC, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.ScGen, arguments=SMALL, counts_only=False),
    lc.testing.Case(lc.model.GAN, arguments=ADVERSARIAL, counts_only=False, epochs=120),
    lc.testing.Case(
        lc.model.ConditionalGAN,
        setup={"labels_key": "label"},
        arguments=ADVERSARIAL,
        counts_only=False,
        epochs=120,
    ),
    lc.testing.Case(lc.model.GeneShuffle, counts_only=False),
    lc.testing.Case(lc.model.GaussianCopula, counts_only=True),
    lc.testing.Case(lc.model.PCAGaussian, counts_only=False),
]
"""Every model, with the keys that it cannot do without."""


def pytest_generate_tests(metafunc):
    if "check" in metafunc.fixturenames:
        pairs = [(case, check) for case in CASES for check in lc.testing.checks_of(case)]
        names = [f"{case.name}-{check.__name__.removeprefix('check_')}" for case, check in pairs]
        metafunc.parametrize(("case", "check"), pairs, ids=names)
    elif "Model" in metafunc.fixturenames:
        needs = {"variational": "posterior", "any_data": "any data"}
        wanted = ["encode", *(needs[name] for name in needs if name in metafunc.fixturenames)]
        cases = [case for case in CASES if all(case.can(capability) for capability in wanted)]
        names = [case.name for case in cases]
        metafunc.parametrize("Model", cases, ids=names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def Model(request):
    return request.param.model


def case_of(Model):
    return next(case for case in CASES if case.model is Model)


@pytest.fixture
def any_data(Model):
    """Marks a test that is for models of any kind of data."""


@pytest.fixture
def cells() -> ad.AnnData:
    return make_cells()


@pytest.fixture(scope="session")
def new_cells() -> ad.AnnData:
    """Other cells, never trained on. Not to be changed: take a copy."""
    return make_cells(n_cells=55, seed=1)


@pytest.fixture(scope="session")
def make():
    """Cells and models of a test's own; ``make.MODELS`` are the classes with a network."""

    def build(Model, adata, *, keys=None, **arguments):
        return case_of(Model).build(adata, keys, **arguments)

    def train(Model, adata, *, keys=None, max_epochs=2, train_arguments=None, **arguments):
        return case_of(Model).train(adata, keys, max_epochs=max_epochs, fit=train_arguments, **arguments)

    return SimpleNamespace(
        CASES=CASES,
        cells=make_cells,
        build=build,
        train=train,
        KEYS=KEYS,
        MODELS=[case.model for case in CASES if case.can("encode")],
        needs_labels=lambda Model: "labels_key" in case_of(Model).setup,
        counts_only=lambda Model: bool(case_of(Model).counts_only),
    )


@pytest.fixture(scope="session")
def trained(Model):
    """A model of counts without covariates. Not to be changed."""
    return case_of(Model).trained


@pytest.fixture(scope="session")
def variational(trained):
    """The same, for models whose code has a posterior."""
    return trained


@pytest.fixture(scope="session")
def with_covariates(Model):
    """A model of counts that knows batch, label, donor and age. Not to be changed."""
    return case_of(Model).informed
