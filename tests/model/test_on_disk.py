"""Models on cells that stay on disk: the same results, in the order asked for, in bounded memory."""

import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

import latentcell as lc
from latentcell._disk import opened
from latentcell._errors import DataError

N_CELLS, N_GENES = 600, 60
SHUFFLED = np.random.default_rng(5).permutation(N_CELLS)[:250]


@pytest.fixture(scope="module")
def cells():
    """Counts of three types in two batches, sorted by both, as files often are."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.4, size=(3, N_GENES)) + 0.02
    kinds, batches = np.repeat(np.arange(3), N_CELLS // 3), np.tile(np.repeat([0, 1], 100), 3)
    depth = rng.uniform(20, 60, size=(N_CELLS, 1))
    rates = profiles[kinds] / profiles[kinds].sum(1, keepdims=True) * depth * (1 + 0.3 * batches[:, None])
    obs = pd.DataFrame({"batch": np.array(["a", "b"])[batches]}, index=[f"c{i}" for i in range(N_CELLS)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])
    X = sparse.csr_matrix(rng.poisson(rates).astype("f4"))
    return ad.AnnData(X, obs=obs, var=var, layers={"counts": X.copy()})


@pytest.fixture(scope="module")
def model(cells):
    adata = cells.copy()
    lc.model.VAE.setup_anndata(adata, batch_key="batch")
    model = lc.model.VAE(adata, gene_likelihood="nb", n_latent=3, hidden=(16,))
    model.train(3, accelerator="cpu", batch_size=32, enable_progress_bar=False)
    return model


def zarr_adata(cells, folder, write, **kwargs):
    group = zarr.open_group(folder / "cells.zarr", mode="w", zarr_format=3)
    write_elem(group, "X", write(cells.X), dataset_kwargs=kwargs)
    node = group["X"]
    X = node if isinstance(node, zarr.Array) else sparse_dataset(node)
    return ad.AnnData(X, obs=cells.obs.copy(), var=cells.var.copy())


def h5ad(cells, folder, write=lambda X: X):
    ad.AnnData(write(cells.X), obs=cells.obs, var=cells.var).write_h5ad(folder / "cells.h5ad")
    return ad.read_h5ad(folder / "cells.h5ad", backed="r")


def dask_adata(cells, make, chunks):
    da = pytest.importorskip("dask.array")
    array = da.from_array(make(cells.X), chunks=chunks, asarray=False)
    return ad.AnnData(array, obs=cells.obs.copy(), var=cells.var.copy())


def collection(cells, folder):
    """Three files, the second as zarr and with genes in another order and one more."""
    parts = [cells[:250], cells[250:400, ::-1], cells[400:]]
    more = ad.AnnData(np.ones((150, 1), "f4"), obs=parts[1].obs, var=pd.DataFrame(index=["other"]))
    parts[1] = ad.concat([parts[1], more], axis=1, merge="first")
    paths = {"a": folder / "a.h5ad", "b": folder / "b.zarr", "c": folder / "c.h5ad"}
    for path, part in zip(paths.values(), parts, strict=True):
        part = ad.AnnData(sparse.csr_matrix(part.X), obs=part.obs[["batch"]], var=part.var[[]])
        if path.suffix == ".h5ad":
            part.write_h5ad(path)
        else:
            write_elem(zarr.open_group(path, mode="w", zarr_format=2), "/", part)
    return lc.pp.open_cells(paths, label="file")


def layers_on_disk(cells, folder):
    """A file whose X is another matrix than the layer that is modelled."""
    other = ad.AnnData(np.ones(cells.shape, "f4"), obs=cells.obs, var=cells.var)
    other.layers["counts"] = cells.X
    other.write_h5ad(folder / "layers.h5ad")
    adata = lc.pp.open_cells(folder / "layers.h5ad")
    return ad.AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var)


KINDS = {
    "h5ad csr": h5ad,
    "h5ad dense": lambda cells, folder: h5ad(cells, folder, lambda X: X.toarray()),
    "zarr csr": lambda cells, folder: zarr_adata(cells, folder, lambda X: X, chunks=(700,), shards=None),
    "zarr csr, sharded": lambda cells, folder: zarr_adata(
        cells, folder, lambda X: X, chunks=(300,), shards=(3000,)
    ),
    "zarr dense": lambda cells, folder: zarr_adata(
        cells, folder, lambda X: X.toarray(), chunks=(64, 30), shards=None
    ),
    "dask csr": lambda cells, folder: dask_adata(cells, lambda X: X, (90, -1)),
    "dask dense": lambda cells, folder: dask_adata(cells, lambda X: X.toarray(), (90, 25)),
    "collection": collection,
    "layer": layers_on_disk,
}


@pytest.fixture(params=KINDS)
def on_disk(request, cells, tmp_path):
    adata = KINDS[request.param](cells, tmp_path)
    yield adata
    if adata.isbacked:
        adata.file.close()


@pytest.fixture
def streamed(monkeypatch):
    """Nothing is small enough to be held, and a window takes some 100 cells."""
    monkeypatch.setattr("latentcell.train.loading.HELD", 0)
    monkeypatch.setattr("latentcell._disk.WINDOW", 16_000)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("streamed")
def test_results_are_those_in_memory_in_the_order_of_indices(model, cells, on_disk):
    for rows in (None, SHUFFLED, [5, 5, 599, 0]):
        close(
            model.get_latent_representation(on_disk, indices=rows, batch_size=64),
            model.get_latent_representation(cells, indices=rows, batch_size=64),
        )
    for ask in (
        lambda adata: model.get_reconstruction(adata, SHUFFLED),
        lambda adata: model.get_normalized_expression(adata, SHUFFLED, return_numpy=True),
        lambda adata: model.get_denoised(adata, SHUFFLED, genes=["g7", "g2"]),
        lambda adata: model.get_elbo(adata, SHUFFLED, return_mean=False),
        lambda adata: model.get_reconstruction_error(adata, SHUFFLED, return_mean=False),
        lambda adata: model.get_likelihood_parameters(adata, SHUFFLED)["dispersions"],
        lambda adata: model.posterior_predictive_sample(adata, SHUFFLED).todense(),
    ):
        close(ask(on_disk), ask(cells))


def trained(adata, epochs=6, **kwargs):
    lc.model.VAE.setup_anndata(adata, batch_key="batch")
    model = lc.model.VAE(adata, gene_likelihood="auto", n_latent=3, hidden=(16,))
    fixed = {"accelerator": "cpu", "batch_size": 32, "enable_progress_bar": False, "train_size": 0.9}
    model.train(epochs, **(fixed | kwargs))
    return model


@pytest.fixture(scope="module")
def in_memory(cells):
    """Models trained in memory, by epochs."""
    return {epochs: trained(cells.copy(), epochs) for epochs in (2, 6)}


@pytest.mark.usefixtures("streamed")
def test_training_streams_and_learns_as_in_memory(cells, on_disk, in_memory):
    """Another order of batches, the same loss: within a few tenths of a percent."""
    found, expected = trained(on_disk), in_memory[6]
    assert found.gene_likelihood == "nb"
    for name in ("train_loss", "elbo_validation"):
        a, b = (m.history[name][name].to_numpy() for m in (found, expected))
        assert len(a) == 6
        np.testing.assert_allclose(a[-1], b[-1], rtol=0.01)
    assert found.generate(20, seed=1).shape == (20, N_GENES)
    close(found.get_latent_representation(), found.get_latent_representation(cells))


def test_small_data_on_disk_are_trained_on_as_if_in_memory(on_disk, in_memory):
    """To the bit: they are held."""
    found, expected = trained(on_disk, 2), in_memory[2]
    for name, values in expected.module.state_dict().items():
        np.testing.assert_array_equal(found.module.state_dict()[name].numpy(), values.numpy(), name)


@pytest.mark.usefixtures("streamed")
def test_a_streamed_run_goes_on_as_if_unbroken(cells, tmp_path):
    whole = trained(h5ad(cells, tmp_path), 4)

    def again():
        return ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")

    path = {"checkpoint_dir": tmp_path / "run"}

    def stop(progress):
        if progress > 0.6:
            raise KeyboardInterrupt
        return 1.0

    schedule = whole.train_defaults["lr_schedule"]
    with pytest.raises(KeyboardInterrupt):
        trained(again(), 4, lr_schedule=lambda p: stop(p) * schedule(p), **path)
    resumed = trained(again(), 4, resume=True, **path)
    assert len(resumed.history["train_loss"]) == 4
    for name, values in whole.module.state_dict().items():
        np.testing.assert_array_equal(resumed.module.state_dict()[name].numpy(), values.numpy(), name)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("name", ["AE", "VSC", "CVAE", "DCA", "GAN"])
def test_other_models_are_trained_on_disk(name, cells, tmp_path):
    adata = h5ad(cells, tmp_path)
    kind = getattr(lc.model, name)
    kind.setup_anndata(adata, labels_key="batch")
    model = kind(adata, n_latent=2, hidden=(8,))
    model.train(2, accelerator="cpu", batch_size=64, enable_progress_bar=False)
    if name != "GAN":
        assert np.isfinite(model.get_latent_representation(indices=SHUFFLED)).all()
    assert np.isfinite(model.history["train_loss"].to_numpy()).all()


@pytest.mark.usefixtures("streamed")
def test_counts_are_checked_on_disk(cells, tmp_path):
    bad = cells.copy()
    bad.X[437, np.flatnonzero(bad.X[437].toarray())[0]] = 0.5
    adata = h5ad(bad, tmp_path)
    lc.model.VAE.setup_anndata(adata)
    with pytest.raises(DataError, match=r"fractional.*'c437'"):
        lc.model.VAE(adata, gene_likelihood="nb")


@pytest.mark.parametrize("name", ["normalised.zarr", "normalised.h5ad"])
def test_normalised_expression_goes_to_a_file(model, cells, tmp_path, name):
    ask = {"indices": SHUFFLED, "library_size": 1e4, "gene_list": ["g9", "g0"], "n_samples": 3}
    path = model.get_normalized_expression(cells, **ask, batch_size=40, out=tmp_path / name)
    found = lc.pp.open_cells(path)
    expected = model.get_normalized_expression(cells, **ask, batch_size=40)
    np.testing.assert_array_equal(found.X[:], expected)
    pd.testing.assert_index_equal(found.obs_names, expected.index)
    assert list(found.var_names) == ["g9", "g0"]
    with pytest.raises(DataError, match="return_mean=True"):
        model.get_normalized_expression(cells, n_samples=2, return_mean=False, out=tmp_path / "x.h5ad")
    with pytest.raises(DataError, match="exists"):
        model.get_normalized_expression(cells, out=path)


def test_verbs_leave_matrices_on_disk(cells, tmp_path):
    """Also with some of the genes, which are then read in their order."""
    adata = h5ad(cells, tmp_path)
    adata.var["highly_variable"] = np.arange(N_GENES) % 2 == 0
    model = lc.tl.vae(adata, max_epochs=2, n_latent=2, hidden=(8,), progress=False)
    assert list(model.spec.genes) == list(cells.var_names[::2])
    assert not sparse.issparse(model.adata.X)
    np.testing.assert_array_equal(model.adata.X[[5, 2]].toarray(), cells.X[[5, 2]][:, ::2].toarray())
    expected = lc.tl.vae(cells[:, ::2].copy(), max_epochs=2, n_latent=2, hidden=(8,), progress=False)
    close(model.get_latent_representation(), expected.get_latent_representation())
    close(adata.obsm["X_vae"], expected.get_latent_representation())


def test_a_collection_of_anndata_is_told_how_to_be_opened(cells):
    collection = ad.experimental.AnnCollection([cells, cells], join_vars="inner", index_unique="-")
    with pytest.raises(DataError, match=r"got AnnCollection; pass lc.pp.open_cells\(collection.adatas\)"):
        lc.model.VAE.setup_anndata(collection)
    opened_again = lc.pp.open_cells(collection.adatas, index_unique="-")
    assert opened_again.shape == (2 * N_CELLS, N_GENES)


def test_expression_goes_to_zarr_and_back(model, cells, tmp_path):
    """An atlas, chunk by chunk: cells behind dask in, an AnnData on zarr out, never all in memory."""
    lazy = dask_adata(cells, lambda X: X, (90, -1))
    path = model.get_denoised(lazy, SHUFFLED, out=tmp_path / "denoised.zarr", chunk_size=50)
    found = lc.pp.open_cells(path)
    assert isinstance(found.X, zarr.Array)
    close(found.X[:], model.get_denoised(cells, SHUFFLED))
    assert list(found.obs_names) == list(cells.obs_names[SHUFFLED])


def large(path, n_cells, n_genes=2000, n_per_cell=60):
    """A csr matrix of counts, written in pieces."""
    rng = np.random.default_rng(0)
    group = zarr.open_group(path, mode="w", zarr_format=2)
    pieces = 10_000
    for start in range(0, n_cells, pieces):
        indices = np.sort(rng.integers(0, n_genes, (pieces, n_per_cell), dtype="i4"), axis=1)
        indptr = np.arange(pieces + 1, dtype="i8") * n_per_cell
        block = sparse.csr_matrix(
            (rng.integers(1, 5, pieces * n_per_cell).astype("f4"), indices.ravel(), indptr),
            shape=(pieces, n_genes),
        )
        if start == 0:
            write_elem(group, "X", block, dataset_kwargs={"chunks": (2**16,)})
        else:
            sparse_dataset(group["X"]).append(block)
    assert opened(sparse_dataset(group["X"])).shape == (n_cells, n_genes)
    return sparse_dataset(group["X"])


@pytest.mark.slow
def test_memory_is_bounded_by_the_window(tmp_path, monkeypatch):
    """60,000 cells of 29 MiB as csr, 460 MiB if dense: a window is 4 MiB; three times that is ever taken."""
    window = 2**22
    monkeypatch.setattr("latentcell.train.loading.HELD", 0)
    monkeypatch.setattr("latentcell._disk.WINDOW", window)
    adata = ad.AnnData(large(tmp_path / "large.zarr", 60_000))
    lc.model.VAE.setup_anndata(adata)
    tracemalloc.start()
    model = lc.model.VAE(adata, gene_likelihood="nb", n_latent=4, hidden=(16,))
    model.train(1, accelerator="cpu", enable_progress_bar=False)
    latent = model.get_latent_representation()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert latent.shape == (60_000, 4)
    names = 20 * 2**20  # of cells, orders of rows
    assert peak < 3 * window + names
