"""Few or no cells and genes: what works with little, and what is refused."""

import numpy as np

from latentcell._errors import DataError

from ._case import Case
from ._cells import dense, make_cells
from ._promises import close, few_cells, finite, needs, promise, refused


def check_no_cells_and_no_genes_are_refused(case: Case) -> None:
    """By name, at set-up and afterwards."""
    cells = make_cells()
    for empty, words in ((cells[:0], "adata has no cells"), (cells[:, :0], "adata has no genes")):
        refused(
            lambda empty=empty: case.model.setup_anndata(empty.copy(), **case.setup),  # type: ignore[misc]
            words,
            broken=f"{words}, and it is set up",
        )
    if case.can("encode"):
        refused(
            lambda: case.trained.get_latent_representation(case.new_cells[:0].copy()),
            "no cells to look at",
            broken="codes of no cells are given",
        )


@needs("encode")
def check_one_cell_can_be_read(case: Case) -> None:
    """Its code is what it has among others."""
    expected = case.trained.get_latent_representation(case.new_cells)[:1]
    alone = case.trained.get_latent_representation(case.new_cells[:1].copy())
    close(alone, expected, "the code of a cell alone is not its code among others")


@needs("epochs")
def check_one_cell_is_refused_at_training(case: Case) -> None:
    """Nothing can be learned from it."""
    with few_cells():
        refused(
            lambda: case.train(make_cells()[:1].copy()),
            "training needs at least 2 cells, there are 1",
            broken="a model is trained on one cell",
        )


@needs("encode", "epochs")
def check_a_last_batch_of_one_cell_works(case: Case) -> None:
    """In training and after."""
    for n_cells, batch_size in ((2, None), (3, 2), (17, 8), (9, 4)):
        with few_cells():
            model = case.train(make_cells(n_cells), fit={"batch_size": batch_size})
        codes = model.get_latent_representation(batch_size=batch_size)
        broken = f"{n_cells} cells in batches of {batch_size}"
        promise(len(codes) == n_cells, f"{broken}: {len(codes)} codes")
        finite(codes, broken)


def check_one_gene_works(case: Case) -> None:
    """For every kind of data; a generator that needs more says so."""
    for layer in case.layers:
        try:
            model = case.train(make_cells(n_genes=1), {"layer": layer})
        except DataError as error:
            clear = "2 genes" in str(error) and not case.can("encode")
            promise(clear, f"one gene ({layer or 'X'}) is refused: {error}")
            return
        finite(case.outcome(model), f"one gene ({layer or 'X'})")
        if case.can("reconstruct"):
            shape = model.get_reconstruction().shape
            promise(shape == (60, 1), f"the reconstruction of 60 cells of one gene has shape {shape}")


def check_genes_that_are_zero_everywhere_work(case: Case) -> None:
    """Results and history are finite, and the genes stay near 0."""
    for layer in case.layers:
        cells = make_cells()
        cells.X = dense(cells.X)
        for values in (cells.X, *cells.layers.values()):
            values[:, 5:8] = 0
        model = case.train(cells, {"layer": layer}, max_epochs=4)
        broken = f"genes that are zero everywhere ({layer or 'X'})"
        finite(case.outcome(model), broken)
        for name, frame in (model.history or {}).items():
            finite(frame.to_numpy(), f"{broken}: history[{name!r}]")
        if case.can("reconstruct"):
            values = np.abs(model.get_reconstruction())
            finite(values, broken)
            limit = 0.25 * np.delete(values, slice(5, 8), 1).mean()
            promise(values[:, 5:8].mean() < limit, f"{broken} are not reconstructed near 0")


@needs("encode")
def check_batches_must_hold_cells(case: Case) -> None:
    """A batch size of 0 or less is refused, in training also 1."""
    for size in (0, -4):
        refused(
            lambda size=size: case.trained.get_latent_representation(batch_size=size),  # type: ignore[misc]
            f"batch_size must be at least 1, got {size}",
            broken=f"batch_size={size} is taken",
        )
    if case.can("epochs"):
        for size in (1, 0, -5):
            refused(
                lambda size=size: case.train(make_cells(), fit={"batch_size": size}),  # type: ignore[misc]
                "batch_size must be at least 2",
                broken=f"train(batch_size={size}) is taken",
                error=DataError,
            )


CHECKS = (
    check_no_cells_and_no_genes_are_refused,
    check_one_cell_can_be_read,
    check_one_cell_is_refused_at_training,
    check_a_last_batch_of_one_cell_works,
    check_one_gene_works,
    check_genes_that_are_zero_everywhere_work,
    check_batches_must_hold_cells,
)
