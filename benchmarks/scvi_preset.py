"""The preset "scvi" of VAE beside scvi-tools' SCVI at equal settings: held-out evidence lower bound.

    python benchmarks/scvi_preset.py [--data pbmc3k cellmix] [--seeds 0 1 2] [--epochs 30] [--out FILE.csv]

Same cells, split, network, batch size, optimiser, passes and warm-up of the KL (on a line over the run); the
bound is computed by one piece of code for both, with the KL at full weight. "same start" is the preset with
the weights that SCVI starts from, and with its one rate for all of them; "preset" starts as our models do.
Reads the data sets from the folder that LATENTCELL_DATA names.
"""

import argparse
import logging
import runpy
import warnings
from itertools import product
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from counts import counts_of, negative_elbo, train_scvi

import latentcell as lc

TESTS = Path(__file__).parents[1] / "tests" / "model" / "test_scvi_preset.py"
copy_weights = runpy.run_path(str(TESTS))["copy_weights"]


def started_as_scvi(
    model: lc.model.VAE, cells: ad.AnnData, key: str | None, likelihood: str, seed: int
) -> None:
    """Put the weights into our model that SCVI of this seed starts from, to be trained at one rate."""
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(cells, batch_key=key)
    theirs = scvi.model.SCVI(cells, gene_likelihood=likelihood)
    copy_weights(theirs.module.state_dict(), model.module, cells.obs[key].nunique() if key else 0)
    model.module.likelihood.lr_factor = 1.0


def main() -> None:
    """Train both, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["pbmc3k", "cellmix"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--starts", nargs="+", default=["same start", "preset"])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--out")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    scvi.settings.verbosity = logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = []
    for name, seed in product(args.data, args.seeds):
        cells = counts_of(name)
        held_out = np.zeros(cells.n_obs, dtype=bool)
        held_out[np.random.default_rng(seed).permutation(cells.n_obs)[: cells.n_obs // 5]] = True
        for likelihood, key in product(("nb", "zinb"), (None, "batch") if name == "cellmix" else (None,)):
            train = cells[~held_out].copy()
            lc.model.VAE.setup_anndata(train, batch_key=key)
            models = {}
            for start in args.starts:
                ours = lc.model.VAE.from_preset("scvi", train, gene_likelihood=likelihood, seed=seed)
                if start == "same start":
                    started_as_scvi(ours, train.copy(), key, likelihood, seed)
                ours.train(args.epochs, accelerator="cpu", enable_progress_bar=False)
                models[start] = ours
            models["SCVI"] = train_scvi(
                cells[~held_out].copy(),
                seed,
                {"batch_key": key},
                gene_likelihood=likelihood,
                train={
                    "max_epochs": args.epochs,
                    "batch_size": 128,
                    "plan_kwargs": {"n_epochs_kl_warmup": args.epochs},
                },
            )
            row = {"data": name, "likelihood": likelihood, "batch": key or "-", "seed": seed}
            row |= {n: negative_elbo(m, cells[held_out], key, args.draws, seed=0) for n, m in models.items()}
            row |= {f"{start}, excess %": 100 * (row[start] / row["SCVI"] - 1) for start in args.starts}
            rows.append(row)
            print(pd.DataFrame([row]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)
    table = pd.DataFrame(rows)
    settings = ["data", "likelihood", "batch"]
    print(table.drop(columns="seed").groupby(settings).agg(["mean", "std"]).round(3).to_string())
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
