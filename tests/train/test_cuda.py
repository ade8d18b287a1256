"""On a GPU: the losses of the CPU, no waiting in a step, files that the CPU reads; skipped without one."""

import logging

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import latentcell as lc
from latentcell import _devices
from latentcell._errors import TrainingDivergedError
from latentcell._sparse import SparseCells
from latentcell.testing._cells import KEYS, make_cells
from latentcell.train.checkpoints import read_checkpoint
from latentcell.train.loading import Cells
from latentcell.train.resident import ResidentCells

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA or ROCm")
NO_LABELS = {key: value for key, value in KEYS.items() if key != "labels_key"}
CASES = {
    "AE": (lc.model.AE, KEYS | {"layer": "log"}, {"gene_likelihood": "normal"}),
    "AE student_t": (lc.model.AE, KEYS | {"layer": "log"}, {"gene_likelihood": "student_t"}),
    "AE nb": (lc.model.AE, KEYS, {"gene_likelihood": "nb", "encode_covariates": True}),
    "DCA": (lc.model.DCA, KEYS, {}),
    "SAUCIE": (lc.model.SAUCIE, KEYS, {}),
    "DESC": (lc.model.DESC, KEYS, {"clusters_from": 0.5, "rounds": 1}),
    "VAE": (lc.model.VAE, KEYS, {}),
    "VSC": (lc.model.VSC, KEYS, {}),
    "CVAE": (lc.model.CVAE, KEYS, {}),
    "DisentangledVAE": (lc.model.DisentangledVAE, KEYS, {"total_correlation": 2.0}),
    "VASC": (lc.model.VASC, KEYS, {}),
    "SCVIS": (lc.model.SCVIS, KEYS, {}),
    "GAN": (lc.model.GAN, NO_LABELS, {"critic_hidden": (8,)}),
    "ConditionalGAN": (lc.model.ConditionalGAN, KEYS, {"critic_hidden": (8,), "gene_likelihood": "nb"}),
}
NO_NOISE = ("AE", "AE student_t", "AE nb", "DCA")


class Unhurried(Callback):
    """An error where the host waits for the GPU, from the first step of an epoch to the end of its last."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == trainer.num_training_batches:
            torch.cuda.set_sync_debug_mode("default")


def train(case, accelerator="gpu", callbacks=(), max_epochs=4, **arguments):
    Model, setup, options = CASES[case]
    adata = make_cells()
    Model.setup_anndata(adata, **setup)
    if "GAN" not in case:
        options = options | ({"dropout": 0.0} if case in NO_NOISE else {})
        arguments = {"precision": "32-true"} | arguments
    model = Model(adata, **{"n_latent": 3, "hidden": (8,)} | options)
    try:
        model.train(
            max_epochs,
            accelerator=accelerator,
            enable_progress_bar=False,
            callbacks=list(callbacks),
            **({"n_critic": 2} if "GAN" in case else {}) | arguments,
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return model


@pytest.mark.parametrize("case", NO_NOISE)
def test_the_same_losses_as_on_the_cpu(case, caplog):
    caplog.set_level(logging.INFO, "latentcell")
    there = train(case)
    assert "they are held there" in caplog.text
    here = train(case, "cpu")
    for name, curve in here.history.items():
        np.testing.assert_allclose(there.history[name], curve, rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("room", [True, False], ids=["held", "sent"])
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits(case, room, monkeypatch):
    if not room:
        monkeypatch.setattr(_devices, "free_memory", lambda device: 0)
    model = train(case, callbacks=[Unhurried()])
    for name, curve in model.history.items():
        assert np.isfinite(curve.to_numpy()).all(), name
    assert model.module.device.type == "cpu"


def test_batches_are_those_of_the_host():
    adata = make_cells()
    cells = Cells(adata.X, arrays={"codes": np.arange(60)[:, None] % 3})
    rows = [np.array([4, 59, 0]), np.array([7])]
    for wanted, found in zip(rows, ResidentCells(cells, torch.device("cuda:0")).batches(rows), strict=True):
        for name, values in cells.batch(wanted).items():
            assert found[name].is_cuda
            torch.testing.assert_close(found[name].cpu(), values, rtol=0, atol=0)
    sent = SparseCells.from_rows(adata.X).to("cuda:0")
    torch.testing.assert_close(sent.cpu(), torch.from_numpy(adata.X.toarray()))


def test_a_checkpoint_of_a_gpu_goes_on_there_as_if_unbroken_and_is_read_without(tmp_path):
    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        train("VAE", callbacks=[Stop()], checkpoint_dir=tmp_path)
    kept = read_checkpoint(tmp_path / "last.ckpt")
    assert all(values.device.type == "cpu" for values in kept["state_dict"].values())
    on_cpu = tmp_path / "cpu"
    on_cpu.mkdir()
    (on_cpu / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes())
    resumed = train("VAE", checkpoint_dir=tmp_path, resume=True)
    unbroken = train("VAE")
    for name, curve in unbroken.history.items():
        np.testing.assert_allclose(resumed.history[name], curve, rtol=1e-4, err_msg=name)
    elsewhere = train("VAE", "cpu", checkpoint_dir=on_cpu, resume=True)
    assert len(elsewhere.history["train_loss"]) == 4


def test_a_model_trained_on_a_gpu_is_saved_for_any(tmp_path):
    model = train("VAE")
    model.save(tmp_path / "model")
    loaded = lc.model.VAE.load(tmp_path / "model", model.adata, device="cuda:0")
    assert loaded.module.device.type == "cuda"
    np.testing.assert_allclose(
        loaded.get_latent_representation(), model.get_latent_representation(), rtol=1e-3, atol=1e-4
    )


def test_divergence_is_told_as_on_the_cpu():
    with pytest.raises(TrainingDivergedError, match="weights of the last whole epoch were put back"):
        train("AE nb", lr=1e30)
