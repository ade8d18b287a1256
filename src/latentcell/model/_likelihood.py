"""Models that are trained on their likelihood: the run, and what they learn of new batches."""

import math
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from anndata import AnnData

from latentcell._compiled import multiplies_bfloat16
from latentcell._errors import DataError
from latentcell.module.autoencoder import Autoencoder
from latentcell.nn.schedules import Schedule
from latentcell.train.loading import CellLoader
from latentcell.train.plan import TrainingPlan
from latentcell.train.run import Callback

from ._base import INFERENCE_BATCH, AbstractModel, default_batch_size
from ._cells import collect
from ._query import check_something_to_train, extend, reference_of
from ._templates import Templates, remember
from ._trained_on import divide


class AbstractLikelihoodModel(AbstractModel):
    """A model whose loss is a likelihood and terms beside it: adds training, and training on new batches."""

    module: Autoencoder

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int | None = None,
        early_stopping: bool = False,
        early_stopping_patience: int = 45,
        lr: float | None = None,
        lr_schedule: Schedule | None = None,
        weight_decay: float | None = None,
        gradient_clip: float | None = None,
        precision: Any = None,
        checkpoint_dir: str | os.PathLike | None = None,
        resume: bool = False,
        seed: int | None = None,
        enable_progress_bar: bool = True,
        strategy: str = "auto",
        callbacks: Sequence[Callback] = (),
        logger: Any = False,
    ) -> None:
        """Train the model on the cells it was built with.

        Parameters
        ----------
        max_epochs
            Passes over the training cells. Default: the model's (a preset's); else as many as make 2,500
            optimiser steps; more for larger data, up to 100 or as many as make 10,000 steps; at least 20.
        accelerator, devices
            Lightning's: ``"cpu"``, ``"gpu"``, ``"mps"``, ``"auto"``; ``devices="auto"`` takes one, or with
            `strategy` all GPUs.
        train_size
            Share of cells to train on, the rest is held out. Default: all cells, or 0.9 with
            `early_stopping`.
        validation_size
            Share of cells to hold out; default: what `train_size` leaves.
        shuffle_set_split
            Hold out random cells; False holds out the last ones.
        batch_size
            Cells per step, of all devices together. Default: the model's; else 128, fewer on small data so
            that an epoch has 8 steps.
        early_stopping
            Stop when the held-out ELBO has not improved for `early_stopping_patience` epochs, and put the
            best weights back.
        early_stopping_patience
            See `early_stopping`.
        lr, lr_schedule, weight_decay, gradient_clip
            Adam's peak rate, its factor as a function of progress (0 to 1), decoupled weight decay, and the
            largest gradient norm; default: the model's. A query model that is not `unfrozen` has no decay.
        precision
            Lightning's: ``"32-true"``, ``"bf16-mixed"``, ``"64-true"``. None: weights, sums and losses in
            single precision; where the processor multiplies bfloat16 natively, the products between the
            decoder's last layer and sparse counts are taken in it (see docs/performance.md; ``"32-true"``
            takes all in single precision). Weights in half precision (``"bf16-true"``) are refused.
        checkpoint_dir
            Folder that receives ``last.ckpt`` after every epoch; a kill leaves the one before whole.
        resume
            Go on from that checkpoint, if there is one, as if the run had not been broken.
        seed
            Of everything random in training and in the split; default: the model's. The same seed gives the
            same bits on the same CPU.
        enable_progress_bar
            Draw one line of progress on stderr.
        strategy
            How several devices work together. ``"ddp"``: every device has a process with a copy of the model
            that computes on its share of each batch, and all take the same step on the mean gradient.
            Lightning starts the script once more for every device but the first; these copies end with the
            training. ``"ddp_notebook"``: the same with processes forked from this one, for notebooks; no GPU
            may have been used before. ``"auto"``: one process for one device; else ``"ddp"``, in a notebook
            ``"ddp_notebook"``. Batch normalisation in training sees each process's share only; its running
            means are averaged. :attr:`history` is of all cells; the first process writes checkpoints.
        callbacks
            Of Lightning, to run beside the model's own.
        logger
            Lightning's, or several; gets what :attr:`history` gets, once per epoch. False logs nothing.

        Returns
        -------
        Nothing; :attr:`history` holds a curve per loss term, weight and rate. After Ctrl-C the model is
        usable with the weights it had, and `KeyboardInterrupt` is raised.

        Raises
        ------
        DataError
            If there are too few cells, or an argument is out of range.
        TrainingDivergedError
            At the first loss (on a GPU: at the end of its epoch), or after the first epoch with weights, not
            finite; the weights of the last whole epoch are put back.
        ModelFileError
            If the checkpoint is damaged, or of a run on other cells, in other batches or of another seed.
        OSError
            If a checkpoint cannot be written; the one before and the weights are kept.
        DistributedError
            If one of several processes ended before the others; `resume` goes on from the last checkpoint.
        """
        self.module.half_products = precision is None and multiplies_bfloat16()
        if precision in ("16-true", "bf16-true"):
            raise DataError(f"precision={precision!r} keeps weights in half precision; use 'bf16-mixed'")
        check_something_to_train(self.module)
        defaults = self.train_defaults
        seed = self.params["seed"] if seed is None else seed
        cells = self._training_cells().held()
        train, held_out = _split(
            cells.n_obs, train_size, validation_size, early_stopping, shuffle_set_split, seed
        )
        if batch_size is None:
            batch_size = defaults["batch_size"] or default_batch_size(len(train))
        if max_epochs is None:
            max_epochs = defaults["max_epochs"] or default_epochs(len(train), batch_size)
        if batch_size < 2 or max_epochs < 1:
            raise DataError(f"batch_size must be at least 2 and max_epochs 1, got {batch_size}, {max_epochs}")
        how = {
            "sparse_cells": True,
            "any_density": getattr(self.module.likelihood, "sparse_when", "never") == "always",
        }
        loader = CellLoader(cells, train, batch_size, shuffle=True, seed=seed, **how)
        plan = TrainingPlan(
            self.module,
            total_steps=max_epochs * len(loader),
            lr=defaults["lr"] if lr is None else lr,
            lr_schedule=defaults["lr_schedule"] if lr_schedule is None else lr_schedule,
            weight_decay=defaults["weight_decay"] if weight_decay is None else weight_decay,
            free=self.module.free,
            adam_eps=defaults["adam_eps"],
        )
        if self.module.free is None:
            plan.before_epoch = lambda progress: self._before_epoch(progress, train)
        self._run(
            plan,
            loader,
            CellLoader(cells, held_out, INFERENCE_BATCH, **how) if len(held_out) else None,
            rows=(train, held_out),
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            precision=precision,
            gradient_clip=defaults["gradient_clip"] if gradient_clip is None else gradient_clip,
            early_stopping_patience=early_stopping_patience if early_stopping else None,
            seed=seed,
            enable_progress_bar=enable_progress_bar,
            checkpoint_dir=checkpoint_dir,
            resume=resume,
            callbacks=callbacks,
            logger=logger,
        )

    @classmethod
    def load_query_data(
        cls, adata: AnnData, reference_model: "Self | str | os.PathLike", *, unfrozen: bool = False
    ) -> Self:
        """Let a trained model learn the batches of new cells, and leave all else as it is (scArches).

        The result is a new model that knows the batches of the reference and those of `adata`, with the
        weights of the reference. A new batch starts as the mean of the known ones. :meth:`train` then moves
        only the weights of new batches: the column of the decoder's first layer, that of the encoder's first
        layer if ``encode_covariates=True``, and the dispersions of ``dispersion="gene-batch"``. Nothing else
        moves: there is no weight decay, batch norm keeps its running means, and nothing is dropped out. So
        cells of the known batches keep their codes, to the bit on a CPU.

        Without ``encode_covariates`` the encoder does not see the batch: training improves what is decoded,
        and codes stay what ``reference_model.get_latent_representation`` would give if it knew the batch.

        Parameters
        ----------
        adata
            Cells with the model's genes (in any order, among others; see :meth:`prepare_query_anndata`) and
            keys. Not to be set up; nothing is written to it.
        reference_model
            A trained model of this class that was set up with ``batch_key``, or the folder of a saved one. It
            is not changed.
        unfrozen
            Train all weights. Codes of the reference's cells then change as well.

        Returns
        -------
        A model with `adata` as its cells, which can embed them at once; :meth:`train` it to fit new batches.

        Raises
        ------
        DataError
            If the reference has no batch key, or `adata` lacks genes or keys, or has labels or covariates
            that the reference does not know.
        NotTrainedError
            If the reference is not trained.

        References
        ----------
        Lotfollahi et al., Nature Biotechnology 2022, `doi:10.1038/s41587-021-01001-7
        <https://doi.org/10.1038/s41587-021-01001-7>`__.

        Examples
        --------
        >>> import latentcell as lc
        >>> cells = lc.datasets.simulate_groups(seed=0)
        >>> cells.obs["batch"] = ["a", "b", "c"] * 30
        >>> old, new = cells[cells.obs["batch"] != "c"].copy(), cells[cells.obs["batch"] == "c"].copy()
        >>> lc.model.AE.setup_anndata(old, batch_key="batch")
        >>> reference = lc.model.AE(old, n_latent=2, hidden=(10,), encode_covariates=True)
        >>> reference.train(max_epochs=1, enable_progress_bar=False)
        >>> query = lc.model.AE.load_query_data(new, reference)
        >>> query.train(max_epochs=1, enable_progress_bar=False)
        >>> query.get_latent_representation().shape
        (30, 2)
        >>> bool((query.get_latent_representation(old) == reference.get_latent_representation()).all())
        True
        """
        return extend(cls, adata, reference_of(cls, reference_model), unfrozen=unfrozen)

    def _before_epoch(self, progress: float, rows: np.ndarray) -> None:
        """What a model takes from its training cells `rows` in the midst of training, at `progress`."""

    def _remember(self, rows: np.ndarray, seed: int) -> Templates:
        cells = collect(
            self._adata_or_own(None), self.spec, kind=self.module.likelihood.data_kind, check=False
        )
        return remember(self.module, cells, rows, seed, INFERENCE_BATCH)


def default_epochs(n_cells: int, batch_size: int) -> int:
    """Passes that train enough and not too long: results depend on steps more than on passes.

    Small data get as many passes as make 2,500 optimiser steps. Larger data, which have more to learn and are
    slower to be overfitted, get 100, or as many as make 10,000 steps if those are fewer; at least 20.

    Examples
    --------
    >>> [default_epochs(n, 128) for n in (300, 2638, 5000, 20_000, 100_000)]
    [834, 120, 100, 64, 20]
    """
    steps = math.ceil(n_cells / batch_size)
    return max(20, math.ceil(2500 / steps), min(100, math.ceil(10_000 / steps)))


def _split(
    n_obs: int,
    train_size: float | None,
    validation_size: float | None,
    early_stopping: bool,
    shuffle: bool,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of training and held-out cells."""
    if train_size is None:
        train_size = (
            1.0 - validation_size if validation_size is not None else (0.9 if early_stopping else 1.0)
        )
    if not 0.0 < train_size <= 1.0:
        raise DataError(f"train_size must lie in (0, 1], got {train_size}")
    n_train = math.ceil(train_size * n_obs)
    n_held = n_obs - n_train if validation_size is None else math.floor(validation_size * n_obs)
    if n_held < 0 or n_train + n_held > n_obs:
        raise DataError(
            f"train_size + validation_size must not exceed 1, got {train_size} + {validation_size}"
        )
    if n_train < 2:
        raise DataError(f"training needs at least 2 cells, there are {n_train} (of {n_obs} in adata)")
    if early_stopping and n_held < 1:
        raise DataError("early_stopping needs held-out cells; pass train_size below 1")
    return divide(n_obs, n_train, n_held, shuffled=shuffle, seed=seed)
