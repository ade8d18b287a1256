"""What a decoder expects of cells: of which genes, in which batches, at which depth."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, NegativeBinomial, ZeroInflatedNegativeBinomial
from latentcell.nn.likelihoods import Gaussian, StudentT

from ._encoder import AbstractEncoder

CP10K = 1e4


class AbstractExpected(AbstractEncoder):
    """A model whose decoder can be asked for genes by name, in batches of choice, at any depth."""

    @property
    def _is_count(self) -> bool:
        return isinstance(self.module.likelihood, CountLikelihood)

    def _check_library(self, library_size: float | str) -> None:
        if isinstance(library_size, str):
            if library_size != "latent":
                raise DataError(f"library_size must be a number or 'latent', got {library_size!r}")
        elif not library_size > 0:
            raise DataError(f"library_size must be positive, got {library_size!r}")
        if library_size != 1 and not self._is_count:
            raise DataError(f"library_size is for counts; the likelihood is {self.gene_likelihood!r}")

    def _expected(
        self, z: Tensor, batch: Batch, batches: list[int | None], library_size: float | Literal["latent"]
    ) -> Tensor:
        """Expected expression of codes z, averaged over the batches they are decoded in."""
        likelihood = self.module.likelihood
        library = self.module.library(batch)
        total: Tensor | None = None
        for there in batches:
            raw = self.module.decode_raw(z, in_batch(batch, there), values_only=True)
            if isinstance(likelihood, CountLikelihood):
                values = likelihood.share(raw)
                if library_size != 1.0:
                    values *= library if library_size == "latent" else library_size
            else:
                values = likelihood.mean(raw, library)
            total = values if total is None else total + values
        if total is None:
            raise DataError("transform_batch names no batch")
        return total if len(batches) == 1 else total / len(batches)

    def _parameters(self) -> dict[str, Callable[[dict[str, Tensor], Batch], Tensor]]:
        """Functions from raw outputs to each parameter of the likelihood, by scvi-tools' names."""
        likelihood = self.module.likelihood
        if not isinstance(likelihood, CountLikelihood):
            found: dict[str, Callable[[dict[str, Tensor], Batch], Tensor]] = {
                "mean": lambda raw, batch: likelihood.mean(raw, self.module.library(batch))
            }
            if isinstance(likelihood, Gaussian | StudentT):
                found["scale"] = lambda raw, batch: likelihood.scale()
            return found
        found = {"mean": lambda raw, batch: likelihood.share(raw) * self.module.library(batch)}
        if isinstance(likelihood, ZeroInflatedNegativeBinomial):
            found["dropout"] = lambda raw, batch: torch.sigmoid(raw["dropout"])
        if isinstance(likelihood, NegativeBinomial):
            found["dispersions"] = lambda raw, batch: likelihood.theta(raw)
        return found

    def _batches(self, names: Any) -> list[int | None]:
        """Codes of the batches to decode in; [None] for each cell's own."""
        if names is None:
            return [None]
        if self.spec.batch is None:
            raise DataError("transform_batch needs a model with setup_anndata(batch_key=...)")
        wanted = names if isinstance(names, list | tuple | np.ndarray | pd.Index) else [names]
        codes = []
        for name in wanted:
            if name not in self.spec.batch:
                raise DataError(
                    f"transform_batch: {name!r} is not a batch; there are {self.spec.batch}."
                    f"{nearest(name, self.spec.batch)}"
                )
            codes.append(self.spec.batch.index(name))
        if not codes:
            raise DataError("transform_batch names no batch")
        return list(codes)

    def _wanted(self, genes: Sequence[str] | None) -> Any:
        return slice(None) if genes is None else self._gene_positions(genes)


def in_batch(batch: Batch, code: int | None) -> Batch:
    """The batch with every cell's batch covariate set to `code`."""
    if code is None:
        return batch
    return batch | {REGISTRY_KEYS.BATCH_KEY: torch.full_like(batch[REGISTRY_KEYS.BATCH_KEY], code)}
