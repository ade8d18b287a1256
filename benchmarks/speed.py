"""How long models take beside scvi-tools' SCVI, as ratios within one run: same cells, network, batch size.

    python benchmarks/speed.py epoch   [--data pbmc3k pbmc3k-all] [--likelihoods nb zinb poisson normal]
    python benchmarks/speed.py bound   [--data pbmc3k kang cellmix simulated] [--seeds 0 1 2]
    python benchmarks/speed.py infer   [--cells 100000]
    python benchmarks/speed.py size    [--cells 3000 10000 100000 1000000]
    python benchmarks/speed.py import

Several may be named; without a name it is epoch, infer and import. Each takes --rounds 5, --threads 1 2 and
--out FILE.csv. Times are of the processor; rounds alternate between the two packages, A B A B, and the
table gives medians and quartiles. "epoch" and "size" compare the preset "scvi" of VAE, which is SCVI's
network. "bound" trains both at their defaults, on the same cells, and asks when the held out evidence lower
bound is that of SCVI, looking at it every 2 epochs (SCVI: 10), which is not counted. Simulated counts have
some 6 % of entries other than zero. "bound" reads Kang's cells and the mixture from the folder that
LATENTCELL_DATA names; PBMC3k is downloaded.
"""

import argparse
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from counts import counts_of, negative_elbo, peak_gib, rows_of
from lightning.pytorch.callbacks import Callback
from simulated import even_cells

import latentcell as lc

Rows = Iterable[dict[str, Any]]
EPOCHS = 4  # of which the first is left out
STEPS = 150  # of SCVI where a whole epoch would take an hour


class Clock(Callback):
    """Processor time at the end of every epoch, and of every step."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.steps: list[float] = []

    def on_train_start(self, *args: Any) -> None:
        """Start."""
        self.start = time.process_time()

    def on_train_batch_end(self, *args: Any) -> None:
        """Note the step."""
        self.steps.append(time.process_time() - self.start)

    def on_train_epoch_end(self, *args: Any) -> None:
        """Note the epoch."""
        self.epochs.append(time.process_time() - self.start)


class Watch(Clock):
    """The same, and a bound on held-out cells every so many epochs; looking takes no time of the clock."""

    def __init__(self, look: Callable[[], float], every: int) -> None:
        super().__init__()
        self.look, self.every = look, every
        self.bounds: list[tuple[float, float]] = []

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        """Look."""
        super().on_train_epoch_end()
        if (
            trainer.current_epoch % self.every == self.every - 1
            or trainer.current_epoch == trainer.max_epochs - 1
        ):
            before = time.process_time()
            with torch.random.fork_rng(devices=[]):
                self.bounds.append((self.epochs[-1], self.look()))
            trainer.lightning_module.module.train()
            self.start += time.process_time() - before

    def until(self, wanted: float) -> float:
        """Seconds until a bound was first seen that low; NaN if never."""
        return min((seconds for seconds, value in self.bounds if value <= wanted), default=np.nan)


def stock(cells: ad.AnnData, likelihood: str, seed: int) -> Any:
    """SCVI, not trained."""
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(cells)
    return scvi.model.SCVI(cells, gene_likelihood=likelihood)


def ours(cells: ad.AnnData, likelihood: str, seed: int, preset: str | None = "scvi") -> Any:
    """The same network of ours, not trained; without `preset` our own default."""
    lc.model.VAE.setup_anndata(cells)
    if preset is None:
        return lc.model.VAE(cells, gene_likelihood=likelihood, seed=seed)
    return lc.model.VAE.from_preset(preset, cells, gene_likelihood=likelihood, seed=seed)


def train(model: Any, clock: Clock, **options: Any) -> None:
    """Train either, alike: all cells, batches of 128, no progress bar."""
    run = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "train_size": 1.0}
    model.train(callbacks=[clock], batch_size=128, **(run | options))


def epoch(args: argparse.Namespace) -> Rows:
    """Cost of an epoch; the negative bound after the last, of 1,000 of the cells: both do the same."""
    for data in args.data or ["pbmc3k", "pbmc3k-all"]:
        counts = counts_of(data)
        logged = counts.copy()
        sc.pp.normalize_total(logged, target_sum=1e4)
        sc.pp.log1p(logged)
        for likelihood in args.likelihoods:
            cells = logged if likelihood == "normal" else counts
            for round_ in range(args.rounds):
                for name, make in (("SCVI", stock), ("latentcell", ours)):
                    model, clock = make(cells.copy(), likelihood, round_), Clock()
                    train(model, clock, max_epochs=EPOCHS)
                    error = (
                        negative_elbo(model, cells[:1000], None, 1, 0) if likelihood != "normal" else np.nan
                    )
                    values = {"seconds": float(np.median(np.diff(clock.epochs))), "bound": error}
                    yield from rows_of(f"{counts.n_vars} genes, {likelihood}", name, round_, values)


def bound(args: argparse.Namespace) -> Rows:
    """Training at the defaults of both, until SCVI's held-out bound is reached: its last, and its best."""
    for name in args.data or ["pbmc3k", "kang", "cellmix", "simulated"]:
        cells = even_cells(50_000) if name == "simulated" else counts_of(name)
        for seed in args.seeds:
            order = np.random.default_rng(seed).permutation(cells.n_obs)
            parts = np.split(order, [int(0.9 * cells.n_obs)])
            known, held_out = (cells[np.sort(part)].copy() for part in parts)
            watches = {}
            for method, likelihood in (("SCVI", "zinb"), ("nb", "nb"), ("zinb", "zinb")):
                own = known.copy()
                model = stock(own, "zinb", seed) if method == "SCVI" else ours(own, likelihood, seed, None)
                look = partial(negative_elbo, model, held_out, None, 5, 0)
                watch = watches[method] = Watch(look, 10 if method == "SCVI" else 2)
                train(model, watch)
                spent, last = watch.bounds[-1]
                best = min(value for _, value in watch.bounds)
                told = {"seconds": spent, "last": last, "best": best, "until best": watch.until(best)}
                theirs = watches["SCVI"]
                their_best = min(value for _, value in theirs.bounds)
                told["until SCVI's last"] = watch.until(theirs.bounds[-1][1])
                told["until SCVI's best"] = watch.until(their_best)
                told["SCVI's run, times as long"] = theirs.bounds[-1][0] / spent
                print(name, seed, method, {key: round(value, 3) for key, value in told.items()}, flush=True)
                yield from rows_of(name, method, seed, told)


def infer(args: argparse.Namespace) -> Rows:
    """Embedding and normalised expression of many cells."""
    for n_cells in args.cells or [100_000]:
        cells = even_cells(n_cells)
        some = cells[:2000].copy()
        models = {"SCVI": stock(some.copy(), "nb", 0), "latentcell": ours(some.copy(), "nb", 0)}
        for model in models.values():
            train(model, Clock(), max_epochs=1)
        for round_ in range(args.rounds):
            for name, model in models.items():
                asked: dict[str, Callable[[], Any]] = {
                    "embedding": model.get_latent_representation,
                    "expression": partial(model.get_normalized_expression, return_numpy=True),
                }
                for what, ask in asked.items():
                    start = time.process_time()
                    found = ask(cells)
                    seconds = time.process_time() - start
                    del found
                    yield from rows_of(f"{what}, {n_cells} cells", name, round_, {"seconds": seconds})


def size(args: argparse.Namespace) -> Rows:
    """Cells per second of training, as the number of cells grows; of SCVI over some steps."""
    for n_cells in args.cells or [3_000, 10_000, 100_000, 1_000_000]:
        cells = even_cells(n_cells, mixed_types=n_cells >= 1_000_000)
        for name in ("latentcell", "SCVI"):
            clock = Clock()
            if name == "SCVI":
                train(stock(cells, "nb", 0), clock, max_epochs=1, limit_train_batches=STEPS)
            else:
                train(ours(cells, "nb", 0), clock, max_epochs=2 if n_cells <= 100_000 else 1)
            steps = clock.steps[-STEPS:]
            rate = 128 * (len(steps) - 1) / (steps[-1] - steps[0])
            values = {"cells per second": rate, "peak, GiB": peak_gib()}
            yield from rows_of(f"{n_cells} cells", name, 0, values)


def import_(args: argparse.Namespace) -> Rows:
    """Seconds of ``import latentcell`` in a new process, on top of an empty one."""
    for round_ in range(args.rounds):
        for name in ("latentcell", "scvi"):
            seconds = []
            for code in ("pass", f"import {name}"):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], check=True)
                seconds.append(time.perf_counter() - start)
            yield from rows_of("import", name, round_, {"seconds": seconds[1] - seconds[0]})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Medians and quartiles, and how many times as fast each is as SCVI."""
    found = table.groupby(["data", "method", "metric"])["value"].describe()[["50%", "25%", "75%"]]
    if "seconds" not in set(table["metric"]):
        return found.round(4)
    seconds = found["50%"].unstack("method").xs("seconds", level="metric", drop_level=False)
    for base in ("SCVI", "scvi"):
        if base in seconds:
            found["times as fast"] = (
                (1 / seconds.div(seconds[base], axis=0))
                .stack()
                .reindex([(d, m, method) for d, method, m in found.index])
                .to_numpy()
            )
    return found.round(4)


def main() -> None:
    """Measure and print."""
    commands = {"epoch": epoch, "bound": bound, "infer": infer, "size": size, "import": import_}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", default=["epoch", "infer", "import"], metavar="COMMAND")
    parser.add_argument("--likelihoods", nargs="+", default=["nb", "zinb", "poisson", "normal"])
    parser.add_argument("--data", nargs="+")
    parser.add_argument("--cells", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    scvi.settings.verbosity = logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if unknown := set(args.commands) - set(commands):
        parser.error(f"no such command: {', '.join(sorted(unknown))}; there are {', '.join(commands)}")
    tables = []
    for name, threads in product(args.commands, args.threads):
        torch.set_num_threads(threads)
        table = pd.DataFrame(commands[name](args))
        print(f"\n{name}, {threads} threads\n{summary(table).to_string()}", flush=True)
        tables.append(table.assign(command=name, threads=threads))
    if args.out:
        pd.concat(tables).to_csv(args.out, index=False)
    print(f"torch {torch.__version__}, scvi-tools {scvi.__version__}, peak {peak_gib():.1f} GiB")


if __name__ == "__main__":
    main()
