"""Against two simulations by Splatter itself: same settings, same margins.

The files hold what Splatter drew for genes and cells. ``TestGivenTheMeans`` draws counts of exactly these
means, so that gene by gene only the noise differs. ``TestMargins`` estimates settings and draws genes, too.

Estimated from the columns of the file: gamma of the base means (maximum likelihood over genes that are no
outliers), share of outliers, mean and sd of their log multiple of the median, median and log sd of the
library sizes, and of the groups' effects share, mean size, sd of the size, direction. Batches have Splatter's
default. Dropout's midpoint is 3 in ``splatter_6group`` (a fit to its mask says 3.05) and 0.25 in
``splatter_2batch`` (its name). The genes of the latter are the variable ones of a larger simulation: they
have 0.3305 of its library sizes, which makes the expected total that of the file; their base means are no
longer gamma, and those with high means are more variable than others of such means, hence its wider bounds.
"""

from dataclasses import dataclass

import anndata
import numpy as np
import pytest
from scipy import stats

from latentcell.datasets import DiscreteFactor, simulate_factors
from latentcell.datasets._splat import Splat, cell_means

pytestmark = pytest.mark.data

NO_GENES = {"library_size": 1, "library_scale": 0, "mean_shape": 1, "mean_rate": 1, "outlier_share": 0}
NO_GENES |= {"outlier_loc": 0, "outlier_scale": 0, "batch_loc": 0, "batch_scale": 0}
SPLATTER = {"bcv_common": 0.1, "bcv_df": 60, "dropout_shape": -1.0}


@dataclass
class Reference:
    """A file of Splatter's: counts, the means they were drawn from, settings estimated from its columns."""

    counts: np.ndarray
    means: np.ndarray
    settings: dict


def read(path, dropout, share):
    if not path.is_file():
        pytest.skip(f"{path.name} is not in LATENTCELL_DATA")
    adata = anndata.read_h5ad(path)
    var, library = adata.var, adata.obs["exp_lib_size"].to_numpy() * share
    groups, batches = var.filter(like="DEFac").to_numpy().T, var.filter(like="BatchFac").to_numpy().T
    profile = np.log(var["GeneMean"].to_numpy()) + np.log(groups)[adata.obs["cell_type"].cat.codes]
    settings = {}
    if len(batches):
        profile = profile + np.log(batches)[adata.obs["batch"].cat.codes]
        settings["batches"] = adata.obs["batch"].value_counts(sort=False).tolist()
    base, outlier = var["BaseGeneMean"].to_numpy(), var["OutlierFactor"].to_numpy() > 1
    shape, _, scale = stats.gamma.fit(base[~outlier], floc=0)
    multiple = np.log(var["GeneMean"].to_numpy()[outlier] / np.median(base))
    effect = np.log(groups[groups != 1])
    sizes = adata.obs["cell_type"].value_counts(sort=False)
    group = DiscreteFactor(
        len(groups),
        sizes.tolist(),
        usage=(1, 1),
        gene_share=float((groups != 1).mean()),
        loc=float(abs(effect).mean()),
        scale=float(abs(effect).std()),
        down=float((effect < 0).mean()),
    )
    settings |= {
        "n_cells": adata.n_obs,
        "n_genes": adata.n_vars,
        "factors": {"group": group},
        "library_size": float(np.exp(np.log(library).mean())),
        "library_scale": float(np.log(library).std()),
        "mean_shape": shape,
        "mean_rate": 1 / scale,
        "outlier_share": float(outlier.mean()),
        "outlier_loc": float(multiple.mean()),
        "outlier_scale": float(multiple.std()),
        "dropout": dropout,
    }
    return Reference(adata.X.toarray(), cell_means(profile, library), settings)


@pytest.fixture(scope="module", params=["splatter_6group", "splatter_2batch"])
def reference(data_dir, request):
    dropout, share = {"splatter_6group": (3.0, 1.0), "splatter_2batch": (0.25, 0.3305)}[request.param]
    return request.param, read(data_dir / f"{request.param}.h5ad", dropout, share)


def drawn(reference, dropout):
    rng = np.random.default_rng(0)
    splat = Splat(**NO_GENES, **SPLATTER, dropout=dropout)
    counts, _ = splat.draw_counts(rng, reference.means, splat.bcv_scales(rng, reference.means.shape[1]))
    return counts.toarray()


class TestGivenTheMeans:
    def test_zeros_means_and_variances_of_every_gene(self, reference):
        """Seen, as mean over genes of file minus ours: zeros -.0005 and .0015, log10 means under .001."""
        _, file = reference
        ours = drawn(file, file.settings["dropout"])
        zeros = (file.counts == 0).mean(axis=0) - (ours == 0).mean(axis=0)
        assert abs(zeros.mean()) < 0.004
        assert abs(zeros).max() < 0.07
        filled = file.counts.mean(axis=0) > 0.5
        x, y = file.counts[:, filled], ours[:, filled]
        means = np.log10(x.mean(axis=0) / y.mean(axis=0))
        assert abs(means.mean()) < 0.003
        assert abs(means).max() < 0.12
        variances = np.log10(x.var(axis=0) / y.var(axis=0))
        assert abs(variances.mean()) < 0.02
        assert abs(variances).mean() < 0.06

    def test_another_dropout_would_be_seen(self, reference):
        _, file = reference
        for shift in (-0.25, 0.25):
            ours = drawn(file, file.settings["dropout"] + shift)
            assert abs((file.counts == 0).mean() - (ours == 0).mean()) > 0.012


class TestMargins:
    def test_genes_and_cells(self, reference):
        """Largest gaps of the cumulative distributions: means of genes, their zeros, totals of cells.

        Seen: .12, .12, .017 of ``splatter_6group`` and .161, .119, .016 of ``splatter_2batch``. 200 genes and
        200 of the same distribution stay within .136 nineteen times in twenty; 1,998 cells within .043.
        """
        name, file = reference
        ours = simulate_factors(**file.settings, **SPLATTER).X.toarray()
        bounds = {"splatter_6group": (0.14, 0.14, 0.04), "splatter_2batch": (0.22, 0.18, 0.04)}[name]
        summaries = (
            lambda x: x.mean(axis=0),
            lambda x: (x == 0).mean(axis=0),
            lambda x: x.sum(axis=1),
        )
        gaps = [stats.ks_2samp(f(file.counts), f(ours)).statistic for f in summaries]
        assert all(gap < bound for gap, bound in zip(gaps, bounds, strict=True)), gaps

    def test_variance_at_the_same_mean(self, reference):
        """Median log10 squared coefficient of variation of genes in bins of their means.

        Seen: within .04 of ``splatter_6group``; of ``splatter_2batch`` too up to a mean of 30, then .135.
        """
        name, file = reference
        bound = {"splatter_6group": 0.08, "splatter_2batch": 0.16}[name]
        ours = simulate_factors(**file.settings, **SPLATTER).X.toarray()
        compared = 0
        for low, high in ((3, 10), (10, 30), (30, 100), (100, 300), (300, 1000)):
            at = []
            for x in (file.counts, ours):
                mean, variance = x.mean(axis=0), x.var(axis=0)
                within = (mean > low) & (mean <= high)
                at.append((within.sum(), np.median(np.log10(variance / mean**2)[within])))
            if min(n for n, _ in at) >= 8:
                compared += 1
                assert at[0][1] == pytest.approx(at[1][1], abs=bound)
        assert compared >= 3
