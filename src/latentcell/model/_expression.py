"""Expression as a model sees it: normalised, denoised, sampled, compared between groups of cells."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse, stats
from scvi import REGISTRY_KEYS
from sparse import COO, GCXS, concatenate
from torch import Tensor
from torch.distributions import Gamma

from latentcell import __version__
from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, NegativeBinomial, ZeroInflatedNegativeBinomial
from latentcell.nn.latents import Code
from latentcell.nn.likelihoods import Gaussian, StudentT

from ._differential import compare_groups
from ._encoder import AbstractEncoder, Indices, rows_of
from ._streams import check_out, write_rows

Scale = Literal["counts", "cp10k", "log1p"]
Quantity = Literal["mean", "dispersion", "dropout"]
CP10K = 1e4


class AbstractExpression(AbstractEncoder):
    """A model that gives expression: of single cells, of groups, of other batches than a cell's own."""

    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1.0,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        *,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
        seed: int = 0,
        out: str | os.PathLike | None = None,
    ) -> pd.DataFrame | np.ndarray | Path:
        """Decoded expression of draws of each cell's code; names, order and meaning are scvi-tools'.

        For a fixed value per cell without noise of the code see :meth:`get_denoised`.

        Parameters
        ----------
        adata, indices
            See :meth:`get_latent_representation`.
        transform_batch
            Decode as if the cells came from this batch (a category of ``batch_key``), or from each of a list
            of them in turn, averaged. None takes each cell's own.
        gene_list
            Genes to return, in this order; None returns all of the model's.
        library_size
            Counts per cell to scale to: 1 gives shares of the cell's counts, 1e4 counts per 10,000,
            ``"latent"`` each cell's own depth. Only for count likelihoods.
        n_samples
            Draws of the code per cell (one and the same for a code without noise).
        n_samples_overall
            Instead, this many draws in all, of cells drawn with replacement.
        batch_size
            Cells at once; no influence on the result, but on draws.
        return_mean
            Average over the draws; False returns all of them.
        return_numpy
            Return an array instead of a frame. Default: a frame, but for several draws per cell.
        seed
            Of the draws.
        out
            Write to this path (.h5ad or .zarr) batch by batch instead of returning values: an AnnData with
            the values in ``X`` and ``obs`` of the cells.

        Returns
        -------
        Frame or array (cells x genes), float32; (samples x cells x genes) with several draws and
        ``return_mean=False``; the path with `out`. Counts at `library_size` for count likelihoods (zero
        inflation is not applied), the scale of the data for the others.

        Raises
        ------
        DataError
            Naming genes, batches or arguments that do not fit.
        """
        self._check_library(library_size)
        wanted, batches = self._wanted(gene_list), self._batches(transform_batch)
        names = self._names(adata)
        rows = rows_of(indices, len(names))
        if n_samples_overall is not None:
            if n_samples != 1 or n_samples_overall < 1:
                raise DataError("n_samples_overall must be at least 1, and n_samples then 1")
            rows = np.random.default_rng(seed).choice(rows, n_samples_overall)

        def decode(code: Code, batch: Batch) -> Tensor:
            values = self._expected(code.z, batch, batches, library_size)[..., wanted]
            if n_samples == 1:
                return values
            return values.mean(0) if return_mean else values.transpose(0, 1)

        if out is not None:
            if n_samples > 1 and not return_mean:
                raise DataError("several draws per cell do not fit a file; pass return_mean=True")
            stream = self._stream(decode, adata, rows, batch_size, seed, n_samples)
            about = {"library_size": library_size, "n_samples": n_samples, "seed": seed}
            return self._write(out, (found for _, _, found in stream), adata, rows, gene_list, about)
        values = self._map(decode, adata, rows, batch_size, seed, n_samples)
        if values.ndim == 3:
            values = values.transpose(1, 0, 2)
            if return_numpy is False:
                raise DataError("several draws per cell do not fit a frame; pass return_mean=True")
            return values
        if return_numpy:
            return values
        return pd.DataFrame(values, index=names[rows], columns=self._gene_names(gene_list))

    def get_denoised(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        *,
        genes: Sequence[str] | None = None,
        scale: Scale | None = None,
        which: Quantity = "mean",
        transform_batch: Any = None,
        sparse_below: float | None = None,
        out: str | os.PathLike | None = None,
        chunk_size: int | None = None,
    ) -> np.ndarray | sparse.csr_matrix | Path:
        """Expression of each cell with the noise of sampling taken away: the mean of the likelihood.

        A denoised value is what the model expects of cells like this one. Values of one cell are not
        independent evidence any more, and differences between genes of a cell are smoothed: draw with it,
        do not test with it.

        Parameters
        ----------
        adata, indices
            See :meth:`get_latent_representation`.
        genes
            Genes to return, in this order; None returns all of the model's.
        scale
            ``"counts"``: expected counts at the cell's own depth (the default for counts); ``"cp10k"``: per
            10,000 counts; ``"log1p"``: log(1 + cp10k). Must be None for models of continuous data, whose
            values are on the scale of the data.
        which
            ``"mean"``; ``"dispersion"``, the negative binomial's inverse dispersion theta; ``"dropout"``, the
            probability that a count is lost (``"zinb"`` only). The mean is that before the loss.
        transform_batch
            See :meth:`get_normalized_expression`.
        sparse_below
            Return a sparse matrix in which values below this one are 0.
        out
            Write to this path (.h5ad or .zarr) chunk by chunk instead of returning values: memory stays
            bounded by `chunk_size`. The file is an AnnData with the values in ``X`` and ``obs`` of the cells.
        chunk_size
            Cells decoded at once; no influence on the result.

        Returns
        -------
        Array (cells x genes), float32; a csr matrix with `sparse_below`; the path with `out`.

        Raises
        ------
        DataError
            If an argument does not fit the likelihood, or `out` exists.

        References
        ----------
        Eraslan et al., Nature Communications 2019, `doi:10.1038/s41467-018-07931-2
        <https://doi.org/10.1038/s41467-018-07931-2>`__.
        """
        read = self._denoiser(genes, scale, which, transform_batch)
        if out is None and sparse_below is None:
            return self._map(read, adata, indices, chunk_size)
        stream = self._stream(read, adata, indices, chunk_size)
        blocks = (_sparse(values, sparse_below) for _, _, values in stream)
        if out is None:
            parts = list(blocks)
            if not parts:
                raise DataError("no cells to look at: indices is empty")
            return sparse.vstack(parts, format="csr")
        about = {"which": which, "scale": scale or ("counts" if self._is_count else "data")}
        return self._write(out, blocks, adata, indices, genes, about)

    def get_likelihood_parameters(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        n_samples: int = 1,
        give_mean: bool = False,
        batch_size: int | None = None,
        *,
        seed: int = 0,
    ) -> dict[str, np.ndarray]:
        """Parameters of the likelihood for draws of each cell's code; names and meaning are scvi-tools'.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.
        n_samples
            Draws of the code per cell.
        give_mean
            Average over the draws.
        seed
            Of the draws.

        Returns
        -------
        Arrays (cells x genes), or (samples x cells x genes) with several draws and ``give_mean=False``:
        ``"mean"`` (expected counts at the cell's depth, before any loss; else the scale of the data);
        ``"dispersions"`` (theta, negative binomials); ``"dropout"`` (probability, ``"zinb"``); ``"scale"``
        (standard deviation or scale, ``"normal"`` and ``"student_t"``).
        """
        found: dict[str, np.ndarray] = {}
        for name, read in self._parameters().items():

            def decode(code: Code, batch: Batch, read=read) -> Tensor:
                raw = self.module.decode_raw(code.z, batch)
                values = read(raw, batch).expand_as(raw["mean"])
                if n_samples == 1:
                    return values
                return values.mean(0) if give_mean else values.transpose(0, 1)

            values = self._map(decode, adata, indices, batch_size, seed, n_samples)
            found[name] = values.transpose(1, 0, 2) if values.ndim == 3 else values
        return found

    def posterior_predictive_sample(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        transform_batch: Any = None,
        n_samples: int = 1,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        *,
        seed: int = 0,
    ) -> GCXS:
        """Cells drawn anew: a draw of the code, then of the data; names and meaning are scvi-tools'.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.
        transform_batch
            See :meth:`get_normalized_expression`; one batch.
        n_samples
            Draws per cell.
        gene_list
            Genes to return, in this order; None returns all of the model's.
        seed
            Of the draws.

        Returns
        -------
        Sparse array (cells x genes), or (cells x genes x samples) with several draws: counts at each cell's
        depth, or values on the scale of the data. It is what ``scvi.criticism.PosteriorPredictiveCheck``
        takes.
        """
        wanted, batches = self._wanted(gene_list), self._batches(transform_batch)
        if len(batches) > 1:
            raise DataError("transform_batch must be one batch here: draws of several cannot be averaged")

        def draw(code: Code, batch: Batch) -> Tensor:
            there = _in_batch(batch, batches[0])
            raw = self.module.decode_raw(code.z, there)
            values = self.module.likelihood.distribution(raw, self.module.library(batch)).sample()
            values = values[..., wanted]
            return values if n_samples == 1 else values.movedim(0, -1)

        stream = self._stream(draw, adata, indices, batch_size, seed, n_samples)
        parts = [COO.from_numpy(values) for _, _, values in stream]
        if not parts:
            raise DataError("no cells to look at: indices is empty")
        return GCXS.from_coo(concatenate(parts), compressed_axes=(0,))

    def differential_expression(
        self,
        adata: AnnData | None = None,
        groupby: str | None = None,
        group1: str | Sequence[str] | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | Sequence[bool] | str | None = None,
        idx2: Sequence[int] | Sequence[bool] | str | None = None,
        mode: Literal["vanilla", "change"] = "change",
        delta: float = 0.25,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Sequence[Any] | None = None,
        batchid2: Sequence[Any] | None = None,
        fdr_target: float = 0.05,
        *,
        n_samples_overall: int = 5000,
        seed: int = 0,
    ) -> pd.DataFrame:
        r"""Genes whose normalised expression differs between groups of cells, with effect sizes.

        Draws of normalised expression of the two groups are paired at random. ``"change"`` asks how often
        their log2 fold change is beyond `delta`; ``"vanilla"`` how often one is larger. scvi-tools'
        computation is used, with its names and meaning; only the default `mode` differs (it gives effect
        sizes).

        Parameters
        ----------
        adata
            See :meth:`get_latent_representation`.
        groupby
            ``obs`` key of the groups.
        group1
            Groups to test, each in turn. Default: all.
        group2
            Group to test against. Default: all other cells.
        idx1, idx2
            Instead of groups: positions, masks or ``obs`` queries of the two sets of cells; without `idx2`
            all other cells.
        mode, delta
            See above; `delta` in log2 units.
        batch_size
            Cells decoded at once; no influence on the result, but on draws.
        all_stats
            Add means and shares of cells with counts, from the data.
        batch_correction
            Decode all cells in the same batches (`batchid1`, `batchid2`; all by default) instead of in their
            own.
        batchid1, batchid2
            Batches to decode the two groups in.
        fdr_target
            Posterior expected false discovery rate of the genes called.
        n_samples_overall
            Draws per group.
        seed
            Of the draws.

        Returns
        -------
        Frame with a row per comparison and gene, most certain first: ``proba_de``, ``bayes_factor`` (natural
        log), ``scale1``, ``scale2`` (mean normalised expression), ``lfc_mean``, ``lfc_median``, ``lfc_std``
        (log2, group 1 over group 2), ``is_de_fdr_<target>``, with `all_stats` ``raw_mean1``, ... and
        ``comparison``, ``group1``, ``group2``.

        Raises
        ------
        DataError
            If groups are missing or empty, or the likelihood is not one of counts.

        References
        ----------
        Boyeau et al., bioRxiv 2019, `doi:10.1101/794289 <https://doi.org/10.1101/794289>`__. Lopez et al.,
        Nature Methods 2018, `doi:10.1038/s41592-018-0229-2 <https://doi.org/10.1038/s41592-018-0229-2>`__.
        """
        if not self._is_count:
            raise DataError(f"differential_expression needs a count likelihood, not {self.gene_likelihood!r}")
        self._require_trained()
        counts = self._cells(adata)
        if batch_correction and not self.spec.batch:
            raise DataError("batch_correction needs a model with setup_anndata(batch_key=...)")

        def sample(rows: np.ndarray, batch: Any, n: int, seed: int) -> np.ndarray:
            values = self.get_normalized_expression(
                adata, rows, batch, n_samples_overall=n, batch_size=batch_size, return_numpy=True, seed=seed
            )
            return np.asarray(values)

        return compare_groups(
            self._adata_or_own(adata).obs,
            counts,
            self.spec.genes,
            sample,
            self.spec.batch or [],
            groups=(groupby, group1, group2),
            sets=(idx1, idx2),
            mode=mode,
            delta=delta,
            all_stats=all_stats,
            batch_correction=batch_correction,
            batch_ids=(batchid1, batchid2),
            fdr_target=fdr_target,
            n_samples_overall=n_samples_overall,
            seed=seed,
        )

    def get_feature_correlation_matrix(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        n_samples: int = 10,
        batch_size: int | None = None,
        rna_size_factor: float = 1000.0,
        transform_batch: Any = None,
        correlation_type: Literal["spearman", "pearson"] = "spearman",
        *,
        gene_list: Sequence[str] | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Correlation of genes over cells, from draws that keep the genes' own variation.

        Correlations of means alone are inflated, because means are smooth in the code. As in scvi-tools,
        rates are drawn from the gamma distribution of the negative binomial, at the same depth for all cells.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.
        n_samples
            Draws per cell.
        rna_size_factor
            Counts per cell to which rates are scaled.
        transform_batch
            See :meth:`get_normalized_expression`; matrices of several batches are averaged.
        correlation_type
            ``"spearman"`` or ``"pearson"``.
        gene_list
            Genes to correlate; None takes all, and the matrix is then genes x genes.
        seed
            Of the draws.

        Returns
        -------
        Frame (genes x genes), -1 to 1; NaN for genes that do not vary.
        """
        if correlation_type not in ("spearman", "pearson"):
            raise DataError(f"correlation_type must be 'spearman' or 'pearson', got {correlation_type!r}")
        wanted = self._wanted(gene_list)
        found = []
        for there in self._batches(transform_batch):

            def draw(code: Code, batch: Batch, there=there) -> Tensor:
                rate = self._expected(code.z, batch, [there], rna_size_factor if self._is_count else 1.0)
                likelihood = self.module.likelihood
                raw = self.module.decode_raw(code.z, _in_batch(batch, there))
                if isinstance(likelihood, NegativeBinomial):
                    theta = likelihood.theta(raw).expand_as(rate)
                    rate = Gamma(theta, theta / rate.clamp(min=1e-12)).sample()
                elif not isinstance(likelihood, CountLikelihood):
                    rate = likelihood.distribution(raw, self.module.library(batch)).sample()
                rate = rate[..., wanted]
                return rate if n_samples == 1 else rate.transpose(0, 1)

            values = self._map(draw, adata, indices, batch_size, seed, n_samples)
            found.append(_correlation(values.reshape(-1, values.shape[-1]), correlation_type))
        names = self._gene_names(gene_list)
        return pd.DataFrame(np.mean(found, axis=0), index=names, columns=names)

    # --- what they share ---

    def _write(
        self,
        out: str | os.PathLike,
        blocks: Iterator[Any],
        adata: AnnData | None,
        indices: Indices,
        genes: Sequence[str] | None,
        about: dict[str, Any],
    ) -> Path:
        """Write expression that comes in blocks of cells as an AnnData, and what it is."""
        path = check_out(out)
        obs = self._obs(adata, indices)
        if not len(obs):
            raise DataError("no cells to look at: indices is empty")
        record = {
            "model": type(self).__name__,
            "gene_likelihood": self.gene_likelihood,
            **about,
            "latentcell": __version__,
        }
        var = pd.DataFrame(index=pd.Index(self._gene_names(genes)))
        return write_rows(path, blocks, len(obs), obs, var, {"latentcell": record})

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
            raw = self.module.decode_raw(z, _in_batch(batch, there), values_only=True)
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

    def _denoiser(
        self, genes: Sequence[str] | None, scale: Scale | None, which: Quantity, transform_batch: Any
    ) -> Callable[[Code, Batch], Tensor]:
        """What gives `which` of each cell, for :meth:`_map`."""
        wanted, batches = self._wanted(genes), self._batches(transform_batch)
        if which not in get_args(Quantity):
            raise DataError(
                f"which must be one of {get_args(Quantity)}, got {which!r}."
                f"{nearest(which, get_args(Quantity))}"
            )
        if which != "mean":
            name = {"dispersion": "dispersions", "dropout": "dropout"}[which]
            parameters = self._parameters()
            if name not in parameters:
                raise DataError(f"the likelihood {self.gene_likelihood!r} has no {which}")
            if scale is not None or len(batches) > 1:
                raise DataError(f"scale and several batches are for the mean; {which} has none")

            def parameter(code: Code, batch: Batch) -> Tensor:
                raw = self.module.decode_raw(self._point(code), _in_batch(batch, batches[0]))
                return parameters[name](raw, batch).expand_as(raw["mean"])[:, wanted]

            return parameter
        if scale is not None and not self._is_count:
            raise DataError(
                f"scale={scale!r} is for counts; {self.gene_likelihood!r} gives the data's own: scale=None"
            )
        if scale not in (None, *get_args(Scale)):
            raise DataError(
                f"scale must be one of {get_args(Scale)}, got {scale!r}.{nearest(scale, get_args(Scale))}"
            )
        library_size: float | Literal["latent"] = "latent" if scale in (None, "counts") else CP10K

        def mean(code: Code, batch: Batch) -> Tensor:
            values = self._expected(self._point(code), batch, batches, library_size)[:, wanted]
            return values.log1p() if scale == "log1p" else values

        return mean

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

    def _names(self, adata: AnnData | None) -> pd.Index:
        return self._adata_or_own(adata).obs_names

    def _obs(self, adata: AnnData | None, indices: Indices) -> pd.DataFrame:
        obs = self._adata_or_own(adata).obs
        kept = [column for column in obs.columns if not str(column).startswith("_scvi")]
        return obs[kept].iloc[rows_of(indices, len(obs))].copy()


def _in_batch(batch: Batch, code: int | None) -> Batch:
    """The batch with every cell's batch covariate set to `code`."""
    if code is None:
        return batch
    return batch | {REGISTRY_KEYS.BATCH_KEY: torch.full_like(batch[REGISTRY_KEYS.BATCH_KEY], code)}


def _sparse(values: np.ndarray, below: float | None) -> Any:
    return values if below is None else sparse.csr_matrix(np.where(values < below, 0.0, values).astype("f4"))


def _correlation(values: np.ndarray, kind: str) -> np.ndarray:
    """Correlation matrix of columns; NaN where one does not vary."""
    if kind == "spearman":
        values = stats.rankdata(values, axis=0)
    centered = values.astype(np.float64)
    centered -= centered.mean(0)
    norm = np.sqrt(np.square(centered).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(centered.T @ centered / norm / norm[:, None], -1.0, 1.0)
