"""Methods of models that draw new cells."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, Raw

from ._comparison import AbstractComparison
from ._decoding import LibrarySize
from ._generation import (
    Labels,
    Output,
    Source,
    batch_code,
    check_choice,
    new_obs,
    template_rows,
    wanted_labels,
)
from ._jacobian import AbstractJacobian
from ._sources import Draw as DrawCodes
from ._sources import codes_from
from ._walks import AbstractWalks


class AbstractGenerator(AbstractWalks):
    """A model that turns codes into expression: draws new cells, decodes codes, walks between them."""

    SOURCES: ClassVar[tuple[Source, ...]] = ("mixture",)
    """Where codes of new cells may come from; the first is the default."""

    def generate(
        self,
        n_cells: int | None = None,
        *,
        labels: Labels = None,
        batch: Any = None,
        source: Source | None = None,
        library_size: LibrarySize = "sample",
        temperature: float = 1.0,
        genes: Sequence[str] | None = None,
        output: Output = "sample",
        seed: int | None = None,
        chunk_size: int | None = None,
        out: str | os.PathLike | None = None,
    ) -> AnnData | Path:
        """Draw new cells.

        Each new cell takes what a cell is besides its code (label, batch, covariates, depth) from a training
        cell drawn at random, its template; the code is drawn anew, and expression from the likelihood. What
        this needs of the training cells is kept with the model, so that a loaded model needs no data.

        Parameters
        ----------
        n_cells
            Number of cells. Default: as many as the model was trained on, or as `labels` name.
        labels
            Labels by name: ``{"B cells": 200, "Dendritic": 500}``, one name for `n_cells` cells, or one name
            per cell. They steer what is decoded in a conditional model (:class:`CVAE`); in others they
            choose the templates, whose posterior or mixture the code then comes from.
        batch
            Decode all cells in this batch; None: in their templates'.
        source
            Where codes come from. ``"posterior"``: the template's own posterior, which all together are the
            aggregated posterior; close to real cells. ``"prior"``: the model's prior, which knows no real
            cell's code. ``"mixture"``: normal mixtures fitted to the codes of each label (jointly with
            library size; number of components by BIC), the only one of models without a posterior (AE, DCA).
            Default: the first of these that the model has.
        library_size
            Counts per cell: ``"sample"`` takes the templates' (or the mixture's), else a number or one per
            new cell.
        temperature
            Factor on the noise of the code: the standard deviation of the posterior, the prior or the
            mixture's components (of a spike-and-slab code, the slab's). Below 1 cells are more typical and
            less diverse, above 1 less typical.
        genes
            Return these genes only, in this order.
        output
            ``"sample"`` draws from the likelihood: integer counts for count models; of continuous data no
            value is below the gene's smallest. Where the likelihood is a loss rather than a density (squared
            error with a fixed scale, cross-entropy of values between 0 and 1), noise has each gene's residual
            standard deviation over the training cells instead. ``"counts"`` does the same and refuses models
            of other data; ``"mean"`` gives the likelihood's mean.
        seed
            Of all draws; default: the model's. Same seed, same bits on the same CPU.
        chunk_size
            Cells drawn at once; another number gives other draws. Default: 1,024.
        out
            Write to this path (.h5ad or .zarr) chunk by chunk instead: memory stays bounded by `chunk_size`
            (and by codes and ``obs`` of all new cells).

        Returns
        -------
        AnnData (new cells x genes): ``X`` a csr matrix of counts, or an array on the scale of the data;
        ``obs["is_generated"]``, label, batch, covariates and ``library_size``; ``obsm["X_<model>"]``, the
        codes; ``uns["latentcell"]``, where it comes from; ``var``, a copy of that of the model's cells, as a
        part of them has it (ids, symbols, ``highly_variable``; what counts or averages cells is of those
        cells). A model of ``lc.tl`` has it as it was when it was trained. A model that was loaded
        without cells has only the names of genes: ``load(dir, adata)`` and :meth:`attach` bring the rest.
        The path with `out`.

        Raises
        ------
        NotTrainedError
            Before :meth:`train`.
        DataError
            Naming labels, batches or arguments that do not fit.

        References
        ----------
        Marouf et al., Nature Communications 2020, `doi:10.1038/s41467-019-14018-z
        <https://doi.org/10.1038/s41467-019-14018-z>`__ (cells by label); Jun, VAExprs, Bioconductor,
        `doi:10.18129/B9.bioc.VAExprs <https://doi.org/10.18129/B9.bioc.VAExprs>`__ (mixtures of codes).
        """
        self._require_trained()
        source = self.SOURCES[0] if source is None else source
        check_choice("source", source, self.SOURCES)
        if not (np.isfinite(temperature) and temperature >= 0):
            raise DataError(f"temperature must be 0 or more, got {temperature}")
        wanted = wanted_labels(self.spec, n_cells, labels)
        if wanted is not None and source == "prior" and not self.module.covariates.n_labels:
            instead = ", or source='posterior'" if "posterior" in self.SOURCES else ""
            raise DataError(
                f"labels do not steer codes from the prior in this {type(self).__name__}; use CVAE, "
                f"VSC(conditional=True), ConditionalGAN{instead}"
            )
        seed = self.params["seed"] if seed is None else seed
        templates, code = self._templates(), batch_code(self.spec, batch)
        rows = template_rows(templates, self.spec, wanted, n_cells, code, np.random.default_rng(seed))
        obs = new_obs(templates, rows, self.spec, code)
        if wanted is None and source == "prior" and not self.module.uses_labels and self.spec.labels_key:
            del obs[self.spec.labels_key]  # such a cell has no label
        sizes = self._sizes(library_size, len(rows))
        codes_and_sizes = self._codes_from(source, temperature)

        def draw(at: slice, rng: np.random.Generator) -> tuple[Tensor, Tensor, Batch]:
            there = templates.take(rows[at])
            if code is not None:
                there[REGISTRY_KEYS.BATCH_KEY] = torch.full_like(there[REGISTRY_KEYS.BATCH_KEY], code)
            z, own = codes_and_sizes(rows[at], rng)
            return z, own if sizes is None else sizes[at], there

        how = {"source": source, "temperature": float(temperature)}
        return self._new_cells(draw, obs, genes, output, seed, chunk_size, out, how)

    @abstractmethod
    def _codes_from(self, source: Source, temperature: float) -> DrawCodes:
        """What draws codes and library sizes of new cells."""


class AbstractGenerative(AbstractJacobian, AbstractComparison, AbstractGenerator):
    """A model that encodes cells and decodes codes: all that either does."""

    def _codes_from(self, source: Source, temperature: float) -> DrawCodes:
        module = self.module
        counts = isinstance(module.likelihood, CountLikelihood)
        return codes_from(
            source, module.latent, self._templates(), temperature, counts=counts, seed=self.params["seed"]
        )

    def _draw(self, raw: Raw, size: Tensor) -> Tensor:
        return self._templates().noise.draw(self.module.likelihood, raw, size)

    def _code_of(self, row: int) -> np.ndarray:
        name = str(self._adata_or_own(None).obs_names[row])
        return self._as_seen(self._map(lambda code, batch: code.mean, None, [row], None), [name])[0]
