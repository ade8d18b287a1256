"""Genes compared by what a model expects of them: between groups of cells, and with one another."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats
from torch import Tensor
from torch.distributions import Gamma

from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, NegativeBinomial
from latentcell.nn.latents import Code

from ._cells import Indices
from ._differential import compare_groups
from ._expected import in_batch
from ._expression import AbstractExpression


class AbstractComparison(AbstractExpression):
    """A model that compares genes: adds differential expression and correlations."""

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
                raw = self.module.decode_raw(code.z, in_batch(batch, there))
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


def _correlation(values: np.ndarray, kind: str) -> np.ndarray:
    """Correlation matrix of columns; NaN where one does not vary."""
    if kind == "spearman":
        values = stats.rankdata(values, axis=0)
    centered = values.astype(np.float64)
    centered -= centered.mean(0)
    norm = np.sqrt(np.square(centered).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(centered.T @ centered / norm / norm[:, None], -1.0, 1.0)
