"""Nothing in a training step makes the host wait for a device that works beside it, such as a GPU.

Two looks, neither of which needs a GPU. On the device ``meta``, whose tensors have shapes but no values, each
operation of loss and gradient is seen with the devices of what it takes: values read by the host, sizes that
hang on values, and what is sent from the host. And in whole runs on the CPU that are told it is a device that
works beside the host, no value is read between the first step of an epoch and the end of its last.
"""

import traceback

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

import latentcell as lc
from latentcell import _devices
from latentcell.testing._cells import KEYS, make_cells

WAITS = {
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "argwhere",
    "bincount",
    "equal",
    "is_nonzero",
    "lift_fresh",  # torch.tensor(...): a number is sent
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
"""Operations whose result the host needs, or that send something from it."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Waits(AssertionError):
    """An operation makes the host wait."""


class NoWaiting(TorchDispatchMode):
    """Raise at the first operation that would make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Look at the operation, then do it."""
        kwargs = kwargs or {}
        name = func.__name__.split(".")[0]
        devices = {x.device.type for x in args if isinstance(x, torch.Tensor)}
        if name == "_to_copy" and kwargs.get("device") is not None:
            devices.add(torch.device(kwargs["device"]).type)
        if (
            name in WAITS
            or (name in ("_to_copy", "copy_") and len(devices) > 1)
            or (name in INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1]))
            or (name == "repeat_interleave" and kwargs.get("output_size") is None)
        ):
            raise Waits(f"{func} on {sorted(devices)}:\n" + "".join(traceback.format_stack(limit=12)))
        if name == "_standard_gamma_grad" and devices == {"meta"}:
            return torch.empty_like(args[1])  # element by element; torch has none for meta
        return func(*args, **kwargs)


SMALL = {"n_latent": 3, "hidden": (8,)}
ALL = KEYS | {"unlabeled_category": "1"}
GAN = SMALL | {"critic_hidden": (8,)}
NO_LABELS = {key: value for key, value in KEYS.items() if key != "labels_key"}
CASES = {
    "AE": (lc.model.AE, ALL, {}),
    "VAE": (lc.model.VAE, ALL, {}),
    "VAE told covariates": (lc.model.VAE, ALL, {"encode_covariates": True}),
    "VAE standardised": (lc.model.VAE, ALL, {"standardize_input": True, "input_dropout": 0.2}),
    "VAE poisson": (lc.model.VAE, ALL, {"gene_likelihood": "poisson"}),
    "VAE zinb": (lc.model.VAE, ALL, {"gene_likelihood": "zinb"}),
    "VAE normal": (lc.model.VAE, ALL | {"layer": "log"}, {"gene_likelihood": "normal"}),
    "VAE student_t": (lc.model.VAE, ALL | {"layer": "log"}, {"gene_likelihood": "student_t"}),
    "VAE bernoulli": (lc.model.VAE, ALL | {"layer": "unit"}, {"gene_likelihood": "bernoulli"}),
    "VAE by batch": (lc.model.VAE, ALL, {"dispersion": "gene-batch"}),
    "VAE by label": (lc.model.VAE, ALL, {"dispersion": "gene-label"}),
    "VAE by cell": (lc.model.VAE, ALL, {"dispersion": "gene-cell"}),
    "VAE zinb by cell": (lc.model.VAE, ALL, {"gene_likelihood": "zinb", "dispersion": "gene-cell"}),
    "VAE size factors": (lc.model.VAE, ALL | {"size_factor_key": "size"}, {}),
    "VSC": (lc.model.VSC, ALL, {}),
    "CVAE": (lc.model.CVAE, ALL, {}),
    "DCA": (lc.model.DCA, ALL, {}),
    "DisentangledVAE": (lc.model.DisentangledVAE, ALL, {}),
    "DisentangledVAE correlated": (lc.model.DisentangledVAE, ALL, {"total_correlation": 2.0}),
    "SAUCIE": (lc.model.SAUCIE, ALL, {}),
    "DESC": (lc.model.DESC, ALL, {"clusters_from": 0.25, "rounds": 2}),
    "ScGen": (lc.model.ScGen, {"batch_key": "batch", "labels_key": "label"}, {}),
    "VASC": (lc.model.VASC, ALL, {}),
    "SCVIS": (lc.model.SCVIS, ALL, {}),
    "GAN": (lc.model.GAN, NO_LABELS, GAN),
    "GAN nb": (lc.model.GAN, NO_LABELS, GAN | {"gene_likelihood": "nb"}),
    "GAN values": (lc.model.GAN, NO_LABELS | {"layer": "log"}, GAN),
    "ConditionalGAN": (lc.model.ConditionalGAN, KEYS, GAN),
}


def build(case):
    Model, setup, arguments = CASES[case]
    adata = make_cells()
    Model.setup_anndata(adata, **setup)
    return Model(adata, **SMALL | arguments)


def test_every_model_with_a_network_is_looked_at():
    networks = {name for name in lc.model.__all__ if hasattr(getattr(lc.model, name), "history")}
    without = {"GeneShuffle", "GaussianCopula", "PCAGaussian"}
    assert networks - without == {case.split()[0] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient(case):
    model = build(case)
    batch = model._training_cells().batch(np.arange(20))
    if case == "DESC":
        model._centroids.start(torch.randn(20, 3), torch.arange(20) % 3)
    module = model.module.to("meta").train()
    there = {name: values.to("meta") for name, values in batch.items()}
    with NoWaiting():
        if "GAN" in case:
            loss, terms = module.critic_loss(there)
            loss.backward()
            module.generator_loss(there).backward()
            module.average()
        else:
            loss, terms = module.terms(there, 0.6)
            loss.backward()
    assert loss.device.type == "meta"
    assert all(values.shape == (20,) for values in terms.values())
    assert any(parameter.grad is not None for parameter in module.parameters())


class Within(Callback):
    """No waiting from the first step of an epoch to the end of its last; counts the steps."""

    def __init__(self):
        self.steps, self.mode = 0, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.mode is None:
            self.mode = NoWaiting()
            self.mode.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += 1
        if batch_idx + 1 == trainer.num_training_batches:
            self.leave()

    def leave(self):
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None


@pytest.fixture
def beside(monkeypatch):
    """The CPU counts as a device that works beside the host and has room for cells."""
    monkeypatch.setattr(_devices, "runs_ahead", lambda device: True)
    monkeypatch.setattr(_devices, "free_memory", lambda device: 2**40)


def run(model, watched, **arguments):
    told = {"max_epochs": 4, "accelerator": "cpu", "enable_progress_bar": False, "precision": "32-true"}
    if isinstance(model, lc.model.GAN | lc.model.ConditionalGAN):
        told["n_critic"] = 2
    try:
        model.train(callbacks=[watched], **told | arguments)
    finally:
        watched.leave()
    return watched.steps


@pytest.mark.parametrize("case", CASES)
def test_whole_runs(case, beside):
    model, watched = build(case), Within()
    assert run(model, watched) >= 4  # VASC and SCVIS take large batches
    for name, curve in model.history.items():
        assert np.isfinite(curve.to_numpy()).all(), name


def test_runs_that_clip_decay_and_are_frozen(beside):
    model, watched = build("VAE told covariates"), Within()
    run(model, watched, gradient_clip=0.5, weight_decay=0.1, train_size=0.8)
    new = make_cells(n_cells=40, seed=1)
    new.obs["batch"] = new.obs["batch"].cat.rename_categories({"北京": "new"})
    query = lc.model.VAE.load_query_data(new, model)
    assert run(query, watched, max_epochs=2, train_size=0.8) > 4 * 6


SEEN = {
    "float": (lambda x: float(x.sum()), "cpu meta"),
    "bool": (lambda x: bool((x > 0).any()), "cpu meta"),
    "mask": (lambda x: x[x > 0], "cpu meta"),
    "write by mask": (lambda x: x.index_put_((x > 0,), torch.zeros((), device=x.device)), "cpu meta"),
    "nonzero": (lambda x: x.nonzero(), "cpu meta"),
    "one hot": (lambda x: torch.nn.functional.one_hot(x[:, 0].long()), "cpu meta"),
    "repeat": (lambda x: torch.repeat_interleave(x[:, 0].long()), "cpu meta"),
    "number": (lambda x: torch.tensor(1.0, device=x.device), "cpu"),
    "to": (lambda x: torch.ones(3, 2).to(x), "meta"),
    "copy": (lambda x: x.copy_(torch.ones(3, 2)), "meta"),
    "back": (lambda x: x.cpu(), "meta"),
}
"""What waits, and where that can be seen."""


@pytest.mark.parametrize("name", SEEN)
def test_the_look_sees_what_waits(name):
    operation, devices = SEEN[name]
    for device in devices.split():
        x = torch.ones(3, 2, device=device)
        with pytest.raises(Waits), NoWaiting():
            operation(x)


def test_the_look_lets_pass_what_does_not_wait():
    x = torch.ones(3, 2)
    with NoWaiting():
        x.masked_fill_(x > 0, 2.0)
        torch.where(x > 0, x, 0.0).sum()
        x[torch.arange(2)]
        torch.repeat_interleave(x[:, 0].long(), output_size=6)
        torch.full((), 3.0)
        x.to(torch.float64)


def test_a_step_that_waits_is_found_in_a_run(beside, monkeypatch):
    model = build("AE")
    terms = model.module.terms

    def waiting(batch, progress):
        loss, found = terms(batch, progress)
        return loss * float(loss.detach() > 0), found

    monkeypatch.setattr(model.module, "terms", waiting)
    with pytest.raises(Waits, match="_local_scalar_dense"):
        run(model, Within())
