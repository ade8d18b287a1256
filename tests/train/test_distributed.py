"""Two processes on a CPU train what one trains; if one is killed the run ends and can be gone on with."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from lightning.pytorch.strategies import DDPStrategy

from latentcell._errors import DataError
from latentcell.train.distributed import strategy_of

# runs in an interpreter of its own: processes are forked from it, or it is started anew for each of them
SCRIPT = """
import json, os, signal, sys
from unittest.mock import patch
import anndata as ad, numpy as np, torch
import latentcell as lc

def cells():
    adata = lc.datasets.simulate_groups(seed=0)
    adata.X = np.round(adata.X)
    return ad.concat([adata] * 7, index_unique="-")

def train(adata, kind=lc.model.VAE, devices=2, epochs=5, killed=None, **kwargs):
    kind.setup_anndata(adata)
    model = kind(adata, gene_likelihood="nb", n_latent=4, hidden=(32,))

    def schedule(progress):
        if progress > 0.5 and os.environ.get("LOCAL_RANK", "") == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0 - progress / 2

    if kind is lc.model.VAE:
        kwargs = dict(train_size=0.8, lr_schedule=schedule) | kwargs
    fixed = {"accelerator": "cpu", "batch_size": 64, "enable_progress_bar": False}
    model.train(epochs, devices=devices, **fixed, **kwargs)
    return model

def told(model):
    state = model.module.state_dict()
    return {
        "loss": model.history["train_loss"]["train_loss"].tolist(),
        "held out": model.history["elbo_validation"]["elbo_validation"].tolist(),
        "weights": {name: values.double().sum().item() for name, values in state.items()},
        "latent": model.get_latent_representation().sum().item(),
    }

def error(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]

"""
FORKED = (
    SCRIPT
    + """
folder = sys.argv[1]
found = {"one": told(train(cells(), devices=1))}
before, state = dict(os.environ), torch.get_rng_state()
notebook = {"strategy": "ddp_notebook"}
found["two"] = told(train(cells(), **notebook))
stop = {"early_stopping": True, "early_stopping_patience": 2}
found["stopped early"] = told(train(cells(), epochs=40, lr=0.3, **stop, **notebook))
found["random state is the user's"] = bool((torch.get_rng_state() == state).all())
found["environment"] = {k: v for k, v in os.environ.items() if before.get(k) != v}
adata = cells()
ad.AnnData(adata.X, obs=adata.obs, var=adata.var).write_h5ad(f"{folder}/cells.h5ad")
with patch("latentcell.train.loading.HELD", 0), patch("latentcell._disk.WINDOW", 2**20):
    found["streamed"] = told(train(lc.pp.open_cells(f"{folder}/cells.h5ad"), **notebook))
run = {"checkpoint_dir": f"{folder}/run", **notebook}
found["killed"] = error(lambda: train(cells(), killed="1", **run))
found["checkpoints"] = os.listdir(f"{folder}/run")
found["resumed"] = told(train(cells(), resume=True, **run))
found["gan"] = error(lambda: train(cells(), lc.model.GAN))
found["small batches"] = error(lambda: train(cells()[:16].copy(), devices=7, **notebook))
found["diverged"] = error(lambda: train(cells(), lr=1e25, **notebook))
print(json.dumps(found))
"""
)
STARTED_ANEW = (
    SCRIPT
    + """
folder, killed, resume = sys.argv[1:]
before = dict(os.environ)
run = {"checkpoint_dir": f"{folder}/run", "resume": resume == "resume", "strategy": "ddp"}
models = []
found = {"killed": error(lambda: models.append(train(cells(), killed=killed, **run)))}
found |= {"result": told(models[0])} if models else {}
found["environment"] = {k: v for k, v in os.environ.items() if before.get(k) != v}
found["again"] = error(lambda: train(cells(), strategy="ddp"))
with open(f"{folder}/lines", "a") as file:
    file.write(json.dumps(found) + "\\n")
"""
)


def run(script, folder, *arguments):
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-W", "ignore", str(path), str(folder), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    done = run(FORKED, tmp_path_factory.mktemp("forked"))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_two_processes_learn_what_one_learns(forked):
    for which in ("loss", "held out"):
        np.testing.assert_allclose(forked["two"][which], forked["one"][which], rtol=0.01)
    assert forked["two"]["loss"][-1] < forked["two"]["loss"][0]


def test_two_processes_draw_different_noise(forked):
    """Not the same numbers as one process, which sees the same batches."""
    assert forked["two"]["loss"] != forked["one"]["loss"]


def test_two_processes_learn_the_same_from_disk(forked):
    np.testing.assert_allclose(forked["streamed"]["loss"], forked["one"]["loss"], rtol=0.01)
    np.testing.assert_allclose(forked["streamed"]["held out"], forked["one"]["held out"], rtol=0.01)


def test_the_best_weights_come_back_from_the_processes(forked):
    stopped = forked["stopped early"]
    assert len(stopped["held out"]) < 40
    assert len(stopped["held out"]) == np.argmin(stopped["held out"]) + 3  # patience of 2


def test_nothing_global_is_touched(forked):
    assert forked["random state is the user's"]
    assert set(forked["environment"]) <= {"MASTER_PORT"}


def test_a_killed_process_ends_the_run_with_a_checkpoint(forked):
    kind, message = forked["killed"]
    assert kind == "DistributedError"
    assert "one of them is gone" in message
    assert "resume=True" in message
    assert forked["checkpoints"] == ["last.ckpt"]
    assert forked["resumed"] == forked["two"]  # as if it had not been broken, to the bit


def test_what_cannot_be_trained_by_several_is_refused(forked):
    assert forked["gan"] == ["DataError", "GANs are trained by one process: pass devices=1"]
    kind, message = forked["small batches"]
    assert kind == "DataError"
    assert "7 processes need at least 14 training cells in every batch, one has 13" in message


def test_a_run_that_diverges_says_so(forked):
    kind, message = forked["diverged"]
    assert kind == "TrainingDivergedError"
    assert "learning rate" in message


def test_a_script_is_started_anew_and_goes_on_alone(forked, tmp_path):
    done = run(STARTED_ANEW, tmp_path, "nobody", "anew")
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (tmp_path / "lines").read_text().splitlines()  # the copies have ended with the training
    found = json.loads(line)
    assert found["killed"] is None
    assert found["result"] == forked["two"]
    assert found["environment"] == {}
    kind, message = found["again"]
    assert kind == "DataError"
    assert "ddp_notebook" in message


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_copy_of_a_script_ends_the_run(forked, tmp_path, rank):
    done = run(STARTED_ANEW, tmp_path, rank, "anew")
    assert done.returncode != 0 or rank == "1"
    (line,) = (tmp_path / "lines").read_text().splitlines()
    kind, message = json.loads(line)["killed"]
    assert kind == "DistributedError"
    assert "one of them is gone" in message
    assert os.listdir(tmp_path / "run") == ["last.ckpt"]
    (tmp_path / "lines").unlink()
    done = run(STARTED_ANEW, tmp_path, "nobody", "resume")
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (tmp_path / "lines").read_text().splitlines()
    assert json.loads(line)["result"] == forked["two"]


@pytest.mark.parametrize(
    ("name", "devices", "kind"),
    [
        ("auto", 1, None),
        ("auto", "auto", None),
        ("auto", [0], None),
        ("auto", 2, "popen"),
        ("auto", [0, 1], "popen"),
        ("ddp", 1, "popen"),
        ("ddp_notebook", 2, "fork"),
    ],
)
def test_strategies_by_name(name, devices, kind):
    found = strategy_of(name, devices)
    if kind is None:
        assert found == "auto"
    else:
        assert isinstance(found, DDPStrategy)
        assert found._start_method == kind


def test_other_strategies_are_refused():
    with pytest.raises(DataError, match=r"'auto', 'ddp', 'ddp_notebook'.*'fsdp'"):
        strategy_of("fsdp", 2)
