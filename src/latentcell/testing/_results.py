"""What comes out of looking at cells: shapes, units, orders; nothing hangs on how cells are batched."""

import io
from contextlib import redirect_stdout

import anndata as ad
import numpy as np
import torch

from latentcell._errors import NotTrainedError

from ._case import DRAWN, RESULTS, Case
from ._cells import KEYS, dense, make_cells
from ._promises import close, finite, needs, promise, refused, same


def check_an_untrained_model_says_so(case: Case) -> None:
    """Every method that needs training, by words that say what to call."""
    model = case.build(make_cells())
    methods = case.results + (["generate"] if case.can("generate") else [])
    for method in methods:
        refused(
            lambda method=method: getattr(model, method)(),  # type: ignore[misc]
            f"{case.name} has not been trained; call train()",
            broken=f"{method}() of an untrained model",
            error=NotTrainedError,
        )


@needs("encode")
def check_results_are_float32_with_a_row_per_cell(case: Case) -> None:
    """And finite; codes have the same number of dimensions everywhere."""
    n_latent = case.trained.get_latent_representation().shape[1]
    columns = {"codes": (n_latent,), "genes": (20,), "number": ()}
    for method in case.results:
        values = case.look(case.trained, method, case.new_cells)
        shape = (55, *columns[RESULTS[method]])
        promise(values.shape == shape, f"{method} gives shape {values.shape} instead of {shape}")
        promise(values.dtype == np.float32, f"{method} gives {values.dtype} instead of float32")
        finite(values, method)


@needs("encode")
def check_looking_twice_gives_the_same_bits(case: Case) -> None:
    """Whatever else drew random numbers in between."""
    for method in case.results:
        first = case.look(case.trained, method, case.new_cells)
        torch.rand(3)
        np.random.random(2)  # noqa: NPY002
        same(case.look(case.trained, method, case.new_cells), first, f"{method} twice gives other bits")


@needs("encode")
def check_batch_size_has_no_influence(case: Case) -> None:
    """On results; what is measured on draws stays near."""
    for method in case.results:
        # draws take their time one cell at a time
        cells = case.new_cells[:15].copy() if method in DRAWN else case.new_cells
        whole = case.look(case.trained, method, cells)
        for size in (1, 2, 27, 54, 1000):
            parts = case.look(case.trained, method, cells, batch_size=size)
            broken = f"{method} hangs on batch_size={size}"
            if RESULTS[method] == "genes" and method in DRAWN:
                likeness = np.corrcoef(np.log(parts).ravel(), np.log(whole).ravel())[0, 1]
                promise(likeness > 0.7, f"{broken}: correlation {likeness:.2f}")
            elif method in DRAWN:
                gap, chance = (parts - whole).mean(), (parts - whole).std() / len(whole) ** 0.5
                promise(abs(gap) < 5 * chance + 1e-3, f"{broken}: {gap:.3g} on average, beyond chance")
            else:
                close(parts, whole, broken, rtol=1e-4, atol=1e-5)


@needs("encode")
def check_without_cells_the_models_own_are_taken(case: Case) -> None:
    """All of them, in their order."""
    for method in case.results:
        own = case.look(case.trained, method)
        given = case.look(case.trained, method, case.trained.adata.copy())
        same(own, given, f"{method}() is not {method}(adata) of the model's own cells")
        promise(len(own) == 60, f"{method}() gives {len(own)} rows for 60 cells")


@needs("encode")
def check_means_are_means_over_cells(case: Case) -> None:
    """Of the methods that give one number per cell."""
    for method in [name for name in case.results if RESULTS[name] == "number"]:
        look = getattr(case.trained, method)
        mean, values = look(case.new_cells[:9]), look(case.new_cells[:9], return_mean=False)
        promise(isinstance(mean, float), f"{method} gives {type(mean).__name__} instead of a float")
        close(mean, values.mean(), f"{method} is not the mean over cells", rtol=1e-5)


@needs("encode")
def check_a_new_anndata_needs_no_set_up(case: Case) -> None:
    """Expression and the keys that the class cannot do without are enough."""
    new = case.new_cells
    needed = [key for name, key in case.setup.items() if name in KEYS]
    bare = ad.AnnData(new.X.copy(), obs=new.obs[needed].copy(), var=new.var.copy())
    expected = case.trained.get_latent_representation(new)
    same(case.trained.get_latent_representation(bare), expected, "cells that are not set up have other codes")


# --- reconstruction ---


@needs("reconstruct")
def check_reconstructed_counts_follow_depth_and_codes_do_not(case: Case) -> None:
    """Three times the counts: the same code, three times the reconstruction."""
    deeper = case.new_cells.copy()
    deeper.X = deeper.X * 3
    expected = case.trained.get_reconstruction(case.new_cells)
    promise((expected > 0).all(), "expected counts are not positive")
    found = case.trained.get_reconstruction(deeper)
    close(found, 3 * expected, "reconstructed counts do not follow the depth of a cell", rtol=1e-3)
    codes = case.trained.get_latent_representation(case.new_cells)
    found = case.trained.get_latent_representation(deeper)
    close(found, codes, "codes follow the depth of a cell", rtol=1e-3, atol=1e-4)


@needs("reconstruct", "size factors")
def check_a_size_factor_stands_for_the_total_count(case: Case) -> None:
    """With the total count as size factor nothing changes; with another one reconstructions do."""
    cells = make_cells()
    cells.obs["total"] = np.asarray(cells.X.sum(1)).ravel()
    model = case.train(cells, {"size_factor_key": "total"})
    expected = model.get_reconstruction()
    same(expected, case.trained.get_reconstruction(), "the total count as size factor changes the results")
    other = cells.copy()
    other.obs["total"] *= 2
    found = model.get_reconstruction(other)
    promise(not np.allclose(found, expected, rtol=0.05), "the size factor has no influence")


@needs("reconstruct", "any data")
def check_the_reconstruction_has_the_unit_of_the_data(case: Case) -> None:
    """Its mean per gene is near that of the data, and between 0 and 1 for such data, if the likelihood is."""
    for layer in ("unit", "log"):
        cells = make_cells()
        model = case.train(cells, {"layer": layer}, max_epochs=case.epochs, fit={"lr": 0.02})
        found, data = model.get_reconstruction(), cells.layers[layer]
        broken = f"the reconstruction of layers[{layer!r}] is on another scale"
        if layer == "unit" and case.can("any likelihood"):
            promise(((found > 0) & (found < 1)).all(), f"{broken}: not between 0 and 1")
        close(found.mean(0), data.mean(0), broken, rtol=0, atol=0.35 * data.mean())
        likeness = np.corrcoef(found.mean(0), data.mean(0))[0, 1]
        promise(
            likeness > 0.9, f"{broken}: means of genes correlate by {likeness:.2f} with those of the data"
        )


@needs("reconstruct")
def check_genes_asked_for_come_in_their_order(case: Case) -> None:
    """And those that are not the model's are named."""
    whole = case.trained.get_reconstruction(case.new_cells)
    some = case.trained.get_reconstruction(case.new_cells, gene_list=["gene7", "gene0"], indices=[9, 3])
    close(some, whole[[9, 3]][:, [7, 0]], "gene_list does not give those genes in that order")
    refused(
        lambda: case.trained.get_reconstruction(case.new_cells, gene_list=["gene1", "gene99"]),
        "does not have these genes: ['gene99']",
        broken="an unknown gene in gene_list is not named",
    )


@needs("reconstruct", "batches", "covariates")
def check_covariates_reach_the_decoder(case: Case) -> None:
    """Another batch, donor or age: another reconstruction, the same code."""
    expected = case.informed.get_reconstruction(case.new_cells)
    codes = case.informed.get_latent_representation(case.new_cells)
    swap = {"Zürich": "北京", "北京": "Zürich"}
    for key, change in (
        ("batch", lambda column: column.cat.rename_categories(swap)),
        ("donor", lambda column: 30 - column),
        ("age", lambda column: column + 50),
    ):
        moved = case.new_cells.copy()
        moved.obs[key] = change(moved.obs[key])
        gap = np.abs(case.informed.get_reconstruction(moved) - expected).max()
        promise(gap > 1e-3, f"obs[{key!r}] does not reach the decoder")
        same(
            case.informed.get_latent_representation(moved), codes, f"obs[{key!r}] reaches the encoder unasked"
        )


# --- posterior ---


@needs("encode", "posterior")
def check_the_posterior_and_draws_from_it(case: Case) -> None:
    """Mean and variance have the code's shape; draws differ by their seed only."""
    look, new = case.trained.get_latent_representation, case.new_cells
    mean, variance = look(new, return_dist=True)
    codes = look(new)
    promise(mean.shape == variance.shape == codes.shape, "mean and variance do not have the code's shape")
    promise((variance > 0).all(), "a variance of the posterior is not positive")
    draw = look(new, give_mean=False, seed=5)
    same(look(new, give_mean=False, seed=5), draw, "the same seed draws another code")
    promise(not np.array_equal(draw, look(new, give_mean=False, seed=6)), "another seed draws the same code")
    promise(not np.array_equal(draw, codes), "a draw of the code is its mean")


@needs("posterior")
def check_the_elbo_is_seeded_and_steadier_with_more_draws(case: Case) -> None:
    """Its draws hang on the seed; their mean does not hang on their number, of which 1 is needed."""
    look, new = case.trained.get_elbo, case.new_cells
    promise(look(new, seed=1) == look(new, seed=1), "the same seed gives another ELBO")
    promise(look(new, seed=1) != look(new, seed=2), "another seed gives the same ELBO")
    one = [look(new, seed=seed) for seed in range(12)]
    many = [look(new, seed=seed, n_samples=16) for seed in range(12)]
    promise(np.std(many) < 0.6 * np.std(one), "more draws do not make the ELBO steadier")
    gap = abs(np.mean(many) - np.mean(one))
    promise(gap < 4 * np.std(one) / 12**0.5, "the ELBO hangs on the number of its draws")
    for number in (0, -1):
        refused(
            lambda number=number: look(n_samples=number),  # type: ignore[misc]
            f"n_samples must be at least 1, got {number}",
            broken=f"an ELBO of {number} draws is given",
        )


@needs("posterior", "marginal likelihood")
def check_the_elbo_is_a_bound(case: Case) -> None:
    """The log-likelihood of a cell is not below minus its ELBO loss, up to the noise of draws."""
    look = case.trained
    bound = -look.get_elbo(case.new_cells, n_samples=64)
    found = look.get_marginal_ll(case.new_cells, n_mc_samples=200)
    promise(found > bound - 0.2, f"the log-likelihood {found:.2f} is below its lower bound {bound:.2f}")


# --- description ---


def check_a_model_says_what_it_is(case: Case) -> None:
    """What is shown of a model names its class (scvi-tools' models print it and return nothing)."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        shown.write(repr(case.trained))
    promise(case.name in shown.getvalue(), f"repr() does not name {case.name}")


def check_the_models_cells_are_not_copied(case: Case) -> None:
    """``model.adata`` is the AnnData that was given."""
    cells = make_cells()
    matrix = cells.X
    model = case.build(cells)
    promise(model.adata is cells and cells.X is matrix, "a model copies the cells it is given")
    same(dense(cells.X), dense(make_cells().X), "building a model changes the cells")


CHECKS = (
    check_an_untrained_model_says_so,
    check_results_are_float32_with_a_row_per_cell,
    check_looking_twice_gives_the_same_bits,
    check_batch_size_has_no_influence,
    check_without_cells_the_models_own_are_taken,
    check_means_are_means_over_cells,
    check_a_new_anndata_needs_no_set_up,
    check_reconstructed_counts_follow_depth_and_codes_do_not,
    check_a_size_factor_stands_for_the_total_count,
    check_the_reconstruction_has_the_unit_of_the_data,
    check_genes_asked_for_come_in_their_order,
    check_covariates_reach_the_decoder,
    check_the_posterior_and_draws_from_it,
    check_the_elbo_is_seeded_and_steadier_with_more_draws,
    check_the_elbo_is_a_bound,
    check_a_model_says_what_it_is,
    check_the_models_cells_are_not_copied,
)
