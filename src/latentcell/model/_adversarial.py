"""What GANs do: train two networks in turn, draw cells, place cells."""

import math
import os
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell._errors import DataError, ModeCollapseWarning
from latentcell.module.autoencoder import Batch
from latentcell.module.gan import Values
from latentcell.nn.counts import Raw
from latentcell.nn.schedules import Exponential, Schedule
from latentcell.train.adversarial import AdversarialPlan
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.run import Callback

from . import _sound
from ._base import INFERENCE_BATCH, default_batch_size
from ._cells import Indices, collect, rows_of
from ._gan_assembly import AbstractGANAssembly
from ._generation import Source
from ._kinds import shares_of
from ._noise import Noise
from ._placing import PLACING_RATE, PLACING_STEPS, fit_inverse, place
from ._sources import Draw as DrawCodes
from ._templates import Templates, covariates_of, sample_rows
from ._watch import Watch

GENERATOR_STEPS = 3000
"""Steps of the generator that the default number of epochs makes: PBMC3k needs as many."""
JUDGED = 500
"""Steps of the generator before which a run is young rather than collapsed."""


class AbstractAdversarial(AbstractGANAssembly):
    """A model whose generator learns from a critic: draws cells, has no likelihood and no encoder."""

    SOURCES: ClassVar[tuple[Source, ...]] = ("prior",)
    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {
        "lr": 1e-3,
        "lr_schedule": Exponential(1.0, 0.1),
        "batch_size": None,
        "max_epochs": None,
        "n_critic": 3,
    }

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        batch_size: int | None = None,
        lr: float | None = None,
        lr_schedule: Schedule | None = None,
        n_critic: int | None = None,
        n_kinds: int = 0,
        precision: Any = None,
        checkpoint_dir: str | os.PathLike | None = None,
        resume: bool = False,
        seed: int | None = None,
        enable_progress_bar: bool = True,
        callbacks: Sequence[Callback] = (),
        logger: Any = False,
    ) -> None:
        """Train generator and critic in turn on all cells the model was built with.

        A GAN has no loss that says when it is good. The history holds, per epoch, ``critic_gap_train`` (an
        estimate of the distance that the generator has still to go; it falls as training succeeds),
        ``gradient_norm_train`` (near 1 where the penalty holds the critic), ``gradient_penalty_train``, and
        figures of 500 drawn cells beside as many real ones in 20 principal components: ``coverage_train``
        (share of real cells near a drawn one, about 0.97 for cells as good as real ones),
        ``lowest_coverage_train`` (the same in the one of 8 clusters of the real cells where it is lowest;
        near 0 if a kind of cells is not drawn), ``spread_train`` (how far drawn cells lie from their
        neighbours, relative to real ones: about 1; near 0 if all cells of a kind are alike) and
        ``energy_distance_train`` (0 at best).

        Parameters
        ----------
        max_epochs
            Passes over the cells. Default: as many as make 3,000 steps of the generator.
        accelerator, devices
            Lightning's: ``"cpu"``, ``"gpu"``, ``"mps"``, ``"auto"``; ``devices="auto"`` takes one.
        batch_size
            Cells per step of the critic. Default: 128, fewer on small data so that an epoch has 8 steps.
        lr, lr_schedule
            Adam's rate for both networks, and its factor as a function of progress (0 to 1); default: the
            model's.
        n_critic
            Steps of the critic for each of the generator; default: the model's.
        n_kinds
            Clusters of the training cells (k-means in 20 principal components) that a term in the generator's
            loss holds to the share they have (``latentcell.nn.shares``), fewer on small data; 16 was
            measured. 0, the default, leaves shares to the critic, with which rare kinds come out too
            rare.
        precision
            Lightning's: ``"32-true"`` (default), ``"bf16-mixed"``, ``"16-mixed"``.
        checkpoint_dir, resume, seed, enable_progress_bar
            See :meth:`VAE.train`.
        callbacks
            Of Lightning, to run beside the model's own.
        logger
            Lightning's, or several; gets what :attr:`history` gets, once per epoch. False logs nothing.

        Raises
        ------
        DataError
            If there are too few cells or steps, or an argument is out of range.
        TrainingDivergedError
            At the first loss (on a GPU: at the end of its epoch), or after the first epoch with weights, not
            finite; the weights of the last whole epoch are put back.

        Warns
        -----
        ModeCollapseWarning
            If after 500 steps of the generator or more less than 60 % of the real cells, or 30 % of a cluster
            of them, are near a drawn one, or drawn cells lie less than half as far from each other as real
            ones (means of the last 5 epochs).
        """
        if precision in ("16-true", "bf16-true", "64-true", 64, "64"):
            raise DataError(f"precision={precision!r} is not for GANs; use '32-true' or 'bf16-mixed'")
        defaults = self.train_defaults
        seed = self.params["seed"] if seed is None else seed
        n_critic = defaults["n_critic"] if n_critic is None else n_critic
        cells = self._training_cells().held()
        rows = np.arange(cells.n_obs)
        if len(rows) < 3:
            raise DataError(f"training needs at least 3 cells, there are {len(rows)}")
        if batch_size is None:
            batch_size = defaults["batch_size"] or default_batch_size(len(rows))
        loader = CellLoader(cells, rows, max(int(batch_size), 1), shuffle=True, seed=seed)
        if max_epochs is None:
            max_epochs = defaults["max_epochs"] or math.ceil(GENERATOR_STEPS * n_critic / len(loader))
        if batch_size < 2 or max_epochs < 1 or n_critic < 1:
            raise DataError(
                f"batch_size must be at least 2, max_epochs and n_critic 1, got {batch_size}, {max_epochs}, "
                f"{n_critic}"
            )
        total_steps = max_epochs * len(loader)
        if total_steps < n_critic:
            raise DataError(
                f"max_epochs={max_epochs} makes {total_steps} steps of the critic, and the generator learns "
                f"after each {n_critic} of them (n_critic=): it would not learn at all. Raise max_epochs"
            )
        if n_kinds < 0:
            raise DataError(f"n_kinds must be 0 or more, got {n_kinds}")
        watch = Watch(self.module, cells, rows, seed)
        plan = AdversarialPlan(
            self.module,
            total_steps=total_steps,
            n_critic=n_critic,
            lr=defaults["lr"] if lr is None else lr,
            lr_schedule=defaults["lr_schedule"] if lr_schedule is None else lr_schedule,
            betas=(0.0, 0.9),  # no momentum: each network's target moves with the other's steps
            watch=watch,
            shares=shares_of(self.module, cells, rows, n_kinds, seed),
        )
        plan.run = {"steps of the critic for each of the generator": n_critic}
        self._run(
            plan,
            loader,
            None,
            rows=(rows, rows[:0]),
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            strategy="auto",
            precision=precision,
            gradient_clip=None,
            early_stopping_patience=None,
            seed=seed,
            enable_progress_bar=enable_progress_bar,
            checkpoint_dir=checkpoint_dir,
            resume=resume,
            callbacks=callbacks,
            logger=logger,
        )
        if plan.generator_steps < JUDGED:
            return
        complaint = watch.complaint(plan.records, self._adata_or_own(None).obs_names)
        if complaint is not None:
            warnings.warn(
                f"{complaint} (see coverage_train, lowest_coverage_train and spread_train in model.history): "
                "its cells lack some of what real ones have, or it has not been trained long enough. Train "
                "longer, with more steps of the critic (n_critic=) or a lower rate (lr=), and do not use its "
                "cells as they are.",
                ModeCollapseWarning,
                stacklevel=2,
            )

    def project(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        *,
        n_steps: int = PLACING_STEPS,
        lr: float = PLACING_RATE,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Place cells among the codes of the generator.

        A GAN has no encoder. A network that was taught to find the noise behind drawn cells gives a first
        place; gradient steps then make the cell more probable, by the likelihood of its counts (or the
        squared error of its values, in units of what the first places leave) and the normal prior of codes.
        Cells that the generator cannot draw are placed all the same: compare :meth:`decode` of their codes
        with them.

        Parameters
        ----------
        adata
            Cells with the model's genes and keys; None takes those the model was built with.
        indices
            Cells to take, in this order; None takes all.
        n_steps
            Gradient steps (Adam); 0 takes the first place.
        lr
            Their rate, which falls to 0.
        batch_size
            Cells placed at once; no influence on the result.

        Returns
        -------
        Array (cells x n_latent), float32: codes that :meth:`decode` takes.

        Raises
        ------
        DataError
            Naming genes, keys or values that do not fit.
        NotTrainedError
            Before :meth:`train`.

        References
        ----------
        Ghahramani, Watt and Luscombe, Generative adversarial networks simulate gene expression and predict
        perturbations in single cells, 2018, `doi:10.1101/262501 <https://doi.org/10.1101/262501>`__; Zhu et
        al., Generative visual manipulation on the natural image manifold, ECCV 2016, `arXiv:1609.03552
        <https://arxiv.org/abs/1609.03552>`__.
        """
        self._require_trained()
        if n_steps < 0 or not lr > 0:
            raise DataError(f"n_steps must be 0 or more and lr positive, got {n_steps} and {lr}")
        cells = self._cells(adata)
        rows = rows_of(indices, cells.n_obs)
        batch_size = INFERENCE_BATCH if batch_size is None else batch_size
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}")
        if not len(rows):
            raise DataError("no cells to look at: indices is empty")
        residual, found = self._templates().noise.residual, list[np.ndarray]()
        names = self._adata_or_own(adata).obs_names[rows]
        for batch in self._batches_of(cells, rows, batch_size):
            z = place(self.module, batch, residual, n_steps, lr)
            _sound.check_results(z, names[len(found) * batch_size :])
            found.append(z.numpy())
        return np.concatenate(found)

    def _code_of(self, row: int) -> np.ndarray:
        return self.project(indices=[row])[0]

    def _codes_from(self, source: Source, temperature: float) -> DrawCodes:
        latent, library = self.module.latent, self._templates().library

        def draw(rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
            return latent.sample_prior(len(rows), temperature), torch.from_numpy(library[rows])[:, None]

        return draw

    def _raw(self, z: Tensor, batch: Batch, size: Tensor) -> Raw:
        return self.module.decode_raw(z, batch, size)

    def _draw(self, raw: Raw, size: Tensor) -> Tensor:
        likelihood = self.module.likelihood
        return (
            likelihood.mean(raw, size)
            if isinstance(likelihood, Values)
            else likelihood.distribution(raw, size).sample()
        )

    def _remember(self, rows: np.ndarray, seed: int) -> Templates:
        """Fit the inverse and place training cells by it; keep what new cells take from them."""
        module = self.module
        cells = collect(
            self._adata_or_own(None), self.spec, kind=module.likelihood.data_kind, check=False
        )  # with labels, also where the model does not use them
        loader = CellLoader(cells, rows, default_batch_size(len(rows)), shuffle=True, seed=seed)
        fit_inverse(module, loader, seed)
        chosen, weight = sample_rows(cells.arrays, rows, np.random.default_rng(seed))
        library, codes, n_genes = [], [], len(self.spec.genes)
        square = torch.zeros(n_genes, dtype=torch.float64)
        with torch.no_grad():
            for batch in self._batches_of(cells, chosen, INFERENCE_BATCH):
                x, size = batch[REGISTRY_KEYS.X_KEY], module.library(batch)
                raw = module.decode_raw(module.place(x, size, batch), batch, size)
                mean = module.likelihood.mean(raw, size)
                square += (x - mean).double().square().sum(0).cpu()
                library.append(size[:, 0].cpu().numpy())
        residual = (square / len(chosen)).sqrt().float().numpy()
        for batch in self._batches_of(cells, chosen, INFERENCE_BATCH):
            codes.append(place(module, batch, residual, PLACING_STEPS, PLACING_RATE).numpy())
        return Templates(
            covariates=covariates_of(cells.arrays, chosen),
            library=np.concatenate(library),
            weight=weight,
            posterior={"loc": np.concatenate(codes)},
            noise=Noise() if module.is_count else Noise(residual=residual),
        )

    def _batches_of(self, cells: Cells, rows: np.ndarray, batch_size: int) -> Any:
        """Batches of cells on the model's device."""
        for batch in CellLoader(cells, rows, batch_size):
            yield {name: tensor.to(self.module.device) for name, tensor in batch.items()}
