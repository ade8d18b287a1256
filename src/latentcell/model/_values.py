"""Models of continuous values, which take counts as well: on a log scale."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from latentcell._errors import DataError, LatentCollapseWarning
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import Link
from latentcell.nn.latents import Code
from latentcell.nn.likelihoods import Likelihood
from latentcell.nn.log_scale import OnLogScale
from latentcell.train.loading import CellLoader, Cells

from ._assembly import Network
from ._base import INFERENCE_BATCH
from ._templates import Templates
from ._variational import AbstractVariational

Data = Literal["auto", "counts", "values"]
ONE_PLACE = 0.01
"""Codes within so much of each other, in standard deviations of the prior, are one."""


class AbstractValues(AbstractVariational):
    """A model with a posterior whose likelihood is of continuous values: of counts, log1p of CP10k.

    The argument ``data`` of its constructor says what the cells are.
    """

    # counts are values here: the rates of other models of counts are not for them
    COUNT_TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def _likelihood_of_values(self) -> Any:
        """The likelihood of values."""

    @property
    def _values(self) -> Any:
        """The likelihood of values in use."""
        likelihood = self.module.likelihood
        return likelihood.values if isinstance(likelihood, OnLogScale) else likelihood

    def _likelihood(self, network: Network, link: Link) -> Likelihood:
        data = self.params["data"]
        if data == "auto":
            data = "counts" if self._kind_of_data("data") == "counts" else "values"
            self.params = self.params | {"data": data}
        if data not in get_args(Data):
            raise DataError(f"data must be one of {get_args(Data)}, got {data!r}")
        values = self._likelihood_of_values()
        return OnLogScale(len(self.spec.genes), values) if data == "counts" else values

    def _after_training(self) -> None:
        likelihood = self.module.likelihood
        if not isinstance(likelihood, OnLogScale):
            return

        def sums(code: Code, batch: Batch) -> Tensor:
            return torch.stack([self.module.read(batch)[0], self.module.decode(self._point(code), batch)], 1)

        total = np.zeros((2, len(self.spec.genes)))
        for _, _, values in self._stream(sums, None, self.train_indices_, None):
            total += values.sum(axis=0, dtype=np.float64)
        likelihood.smear(*torch.from_numpy(total).float().to(likelihood.factor.device))

    def _remember(self, rows: np.ndarray, seed: int) -> Templates:
        found = super()._remember(rows, seed)
        several = len(self.spec.genes) > 1  # of one gene, relative to itself, there is nothing to learn
        if several and np.ptp(found.posterior["loc"], axis=0).max() < ONE_PLACE:
            warnings.warn(
                f"all cells have the same code: this {type(self).__name__} learned nothing about them but "
                "their mean (posterior collapse). Let the weight of the KL rise, beta=latentcell.nn.schedules"
                ".Linear(0.0, 1.0, end=0.1), lower it, or train with another seed",
                LatentCollapseWarning,
                stacklevel=2,
            )
        return found

    def _latent_detail(self) -> str:
        return "normal"

    def _modelled(self, x: Tensor, library: Tensor) -> Tensor:
        likelihood = self.module.likelihood
        return likelihood.logged(x, library) if isinstance(likelihood, OnLogScale) else x

    def _values_of(self, cells: Cells) -> Iterator[Tensor]:
        """What the likelihood is of, batch by batch (each cells x genes)."""
        for batch in CellLoader(cells, np.arange(cells.n_obs), INFERENCE_BATCH):
            x, library, _ = self.module.read(batch)
            yield self._modelled(x, library)
