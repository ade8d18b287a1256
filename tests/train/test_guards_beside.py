"""Losses of a device that works beside the host: looked at later, with the same outcome."""

import signal

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import latentcell as lc
from latentcell import _devices
from latentcell._errors import TrainingDivergedError
from latentcell.testing._cells import KEYS, make_cells
from latentcell.train import guards
from latentcell.train.guards import Losses


class Spoil(Callback):
    """Break a weight before step `step`, and press Ctrl-C before step `interrupt`."""

    def __init__(self, step=None, interrupt=None):
        self.step, self.interrupt, self.seen, self.held_out = step, interrupt, 0, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.seen == self.step:
            with torch.no_grad():
                next(pl_module.module.parameters()).fill_(float("nan"))
        if self.seen == self.interrupt:
            signal.raise_signal(signal.SIGINT)
        self.seen += 1

    def on_validation_batch_start(self, *args):
        self.held_out += 1


@pytest.fixture(params=[False, True], ids=["at once", "later"])
def later(request, monkeypatch):
    monkeypatch.setattr(_devices, "runs_ahead", lambda device: request.param)
    return request.param


def build(Model=lc.model.AE, **arguments):
    adata = make_cells()
    setup = {
        k: v for k, v in (KEYS | {"layer": "log"}).items() if Model is not lc.model.GAN or k != "labels_key"
    }
    Model.setup_anndata(adata, **setup)
    return Model(adata, n_latent=3, hidden=(8,), **arguments)


def fit(model, spoil, epochs=3, **arguments):
    model.train(epochs, accelerator="cpu", enable_progress_bar=False, callbacks=[spoil], **arguments)


@pytest.mark.parametrize("look_after", [1, 3, 1000])
@pytest.mark.parametrize("step", [0, 9, 13])
def test_the_same_error_and_the_same_weights(step, look_after, monkeypatch):
    """Steps 8 to 15 are the second epoch: wherever the loss breaks, the first one's weights come back."""
    monkeypatch.setattr(guards, "LOOK_AFTER", look_after)
    outcomes = []
    for later in (False, True):
        monkeypatch.setattr(_devices, "runs_ahead", lambda device, later=later: later)
        model, spoil = build(), Spoil(step)
        with pytest.raises(TrainingDivergedError) as error:
            fit(model, spoil)
        begin = step - step % 8
        looked = (step - begin) // look_after * look_after + look_after - 1
        assert spoil.seen == (begin + min(7, looked) if later else step) + 1
        outcomes.append((str(error.value), model.module.state_dict()))
    (at_once, kept), (afterwards, put_back) = outcomes
    assert at_once == afterwards
    assert f"the loss became nan at step {step} (reconstruction_loss in 8 cells; learning rate" in at_once
    assert "; cells 'cell" in at_once
    for name, values in kept.items():
        torch.testing.assert_close(put_back[name], values, rtol=0, atol=0)
        assert values.isfinite().all()


def test_the_message_names_the_cell_and_gene_to_blame(later):
    model = build()
    model.adata.layers["log"][17, 4] = 1e20  # after it was checked, and where no mark is looked at
    model._mark = None
    with pytest.raises(TrainingDivergedError) as error:
        fit(model, Spoil())
    message = str(error.value)
    assert "the loss became inf at step" in message
    assert "largest value in the batch 1e+20; cells 'cell17')" in message
    assert "gene 'gene4' of cell 'cell17' is 1e+20, the median of the others" in message


def test_held_out_cells_are_not_looked_at_by_broken_weights(later):
    model, spoil = build(), Spoil(10)
    with pytest.raises(TrainingDivergedError, match="at step 10"):
        fit(model, spoil, early_stopping=True)
    assert spoil.held_out == len(model.history["elbo_validation"]) == 1
    assert np.isfinite(model.history["elbo_validation"].to_numpy()).all()


def test_ctrl_c_keeps_no_broken_weights(monkeypatch):
    monkeypatch.setattr(_devices, "runs_ahead", lambda device: True)
    model = build()
    with pytest.raises((TrainingDivergedError, KeyboardInterrupt)) as error:
        fit(model, Spoil(9, interrupt=11))
    assert "at step 9" in str(error.value)
    assert all(values.isfinite().all() for values in model.module.state_dict().values())
    unbroken = build()
    with pytest.raises(KeyboardInterrupt):
        fit(unbroken, Spoil(interrupt=11))


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_a_gan_that_diverged_goes_back(likelihood, later):
    adata = make_cells()
    lc.model.GAN.setup_anndata(adata)
    model = lc.model.GAN(adata, n_latent=3, hidden=(8,), critic_hidden=(8,), gene_likelihood=likelihood)
    with pytest.raises(TrainingDivergedError, match="at step 9"):
        fit(model, Spoil(9), n_critic=1)
    assert all(values.isfinite().all() for values in model.module.state_dict().values())
    assert len(model.history["train_loss"]) == 1


def test_a_gan_whose_generator_diverged_can_be_trained_again(later):
    adata = make_cells()
    lc.model.GAN.setup_anndata(adata)
    model = lc.model.GAN(adata, n_latent=3, hidden=(8,), critic_hidden=(8,))
    of_generator = model.module.generator_loss
    model.module.generator_loss = lambda *given: of_generator(*given) * float("nan")
    with pytest.raises(TrainingDivergedError):
        fit(model, Spoil(), n_critic=1)
    model.module.generator_loss = of_generator
    assert all(parameter.requires_grad for parameter in model.module.critic.parameters())
    fit(model, Spoil(), epochs=1, n_critic=1)
    assert all(values.isfinite().all() for values in model.module.state_dict().values())


def test_losses_that_are_finite_are_forgotten(monkeypatch):
    monkeypatch.setattr(_devices, "runs_ahead", lambda device: True)
    monkeypatch.setattr(guards, "LOOK_AFTER", 4)
    losses = Losses()
    for step in range(11):
        losses.take(torch.tensor(1.0), {}, {}, step, 0.1, step)
        assert len(losses._kept) == (step + 1) % 4
    losses.names = lambda number: ([f"cell of {number}"], ["gene"])
    losses.read = lambda number: {"X": torch.full((1, 1), float(number))}
    with pytest.raises(
        TrainingDivergedError, match=r"became inf at step 11.*gene 'gene' of cell 'cell of 5' is 5"
    ):
        losses.take(torch.tensor(torch.inf), {}, {}, 11, 0.1, 5)
    losses.look()
