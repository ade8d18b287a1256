"""Paths through latent space: where they lead, what is known about them, and when genes switch on them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import stats
from scipy.spatial.distance import cdist

import latentcell as lc
from latentcell._errors import DataError

N_SWITCHING = 60
N_CONSTANT = 40


def half_turn(n: int = 600, seed: int = 0) -> ad.AnnData:
    """Cells on a ring in the first two of four dimensions of ``obsm["ring"]``, for any model of four."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, n)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(n), np.zeros(n)], axis=1)
    adata = ad.AnnData(rng.poisson(3.0, (n, 8)).astype(np.float32) + 1)
    adata.obs_names = [f"cell{i}" for i in range(n)]
    adata.obsm["ring"] = 5 * ring + rng.normal(0, 0.15, (n, 4))
    adata.obs["side"] = pd.Categorical(
        np.select([np.abs(angle) < 0.2, np.abs(angle) > np.pi - 0.2], ["right", "left"], "between")
    )
    adata.obs["half"] = np.where(angle > 0, "top", "bottom")
    return adata


@pytest.fixture(scope="module")
def ring():
    adata = half_turn()
    lc.model.VAE.setup_anndata(adata, labels_key="side")
    model = lc.model.VAE(adata, n_latent=4, hidden=(8,))
    model.train(2, enable_progress_bar=False)
    return adata, model


def switching(n: int = 800, seed: int = 0) -> ad.AnnData:
    """Counts of cells along a known course, of genes that switch at known places and of genes that do not.

    ``var["at"]`` is where a gene is half way, in log(1 + counts per 10,000), and NaN where it is constant.
    The constant genes have most of the counts, so that the others hardly change their share.
    """
    rng = np.random.default_rng(seed)
    course = rng.uniform(0, 1, n)
    middle, up = rng.uniform(0.1, 0.9, N_SWITCHING), rng.random(N_SWITCHING) < 0.5
    level, constant = rng.uniform(1, 4, N_SWITCHING), rng.uniform(5, 30, N_CONSTANT)

    def means(where: np.ndarray) -> np.ndarray:
        rise = 1 / (1 + np.exp(-(where[:, None] - middle) / 0.05))
        switch = level * (0.1 + 2 * np.where(up, rise, 1 - rise))
        return np.concatenate([switch, np.tile(constant, (len(where), 1))], axis=1)

    grid = np.linspace(0, 1, 1001)
    curves = means(grid)
    curves = np.log1p(1e4 * curves / curves.sum(axis=1, keepdims=True))[:, :N_SWITCHING]
    share = (curves - curves[0]) / (curves[-1] - curves[0])
    depth = rng.lognormal(0, 0.2, n)[:, None]
    adata = ad.AnnData(rng.poisson(depth * means(course)).astype(np.float32))
    adata.obs_names, adata.var_names = [f"c{i}" for i in range(n)], [f"g{j}" for j in range(adata.n_vars)]
    adata.obs["course"] = course
    adata.var["at"] = np.concatenate([grid[np.abs(share - 0.5).argmin(axis=0)], np.full(N_CONSTANT, np.nan)])
    adata.var["up"] = np.concatenate([up, np.zeros(N_CONSTANT, dtype=bool)])
    adata.obs["stage"] = pd.Categorical(np.select([course < 0.1, course > 0.9], ["early", "late"], "between"))
    return adata


@pytest.fixture(scope="module")
def course():
    adata = switching()
    lc.model.VAE.setup_anndata(adata, labels_key="stage")
    model = lc.model.VAE(adata, n_latent=5, hidden=(32,), gene_likelihood="nb")
    model.train(80, enable_progress_bar=False)
    adata.obsm["X_vae"] = model.get_latent_representation()
    return adata, model


def made_path(values: np.ndarray, step: np.ndarray | None = None) -> ad.AnnData:
    """A path with these values (steps x genes), as ``interpolate`` returns it."""
    path = ad.AnnData(np.asarray(values, dtype=np.float32), uns={"latentcell": {}})
    path.obs["step"] = np.linspace(0, 1, len(values)) if step is None else step
    return path


# --- where a path leads ---


def test_a_line_crosses_the_empty_middle_of_a_ring_and_the_graph_goes_round(ring):
    adata, model = ring
    line = lc.tl.interpolate(adata, model, "left", "right", 21, use_rep="ring")
    graph = lc.tl.interpolate(adata, model, "left", "right", 21, use_rep="ring", along="graph")
    radius = {path.uns["latentcell"]["along"]: np.linalg.norm(path.obsm["X_vae"][:, :2], axis=1)
              for path in (line, graph)}  # fmt: skip
    assert radius["line"].min() < 0.5
    assert radius["graph"].min() > 4.5
    assert radius["graph"].max() < 5.5
    usual = graph.uns["latentcell"]["cell_distance"]
    distances = cdist(adata.obsm["ring"], adata.obsm["ring"]) + np.diag(np.full(600, np.inf))
    assert usual == pytest.approx(np.quantile(distances.min(axis=1), 0.95))
    assert line.uns["latentcell"]["cell_distance"] == usual
    assert line.obs["distance"].max() > 5 * usual
    assert graph.obs["distance"].max() <= usual
    # not jagged: half a circle at equal steps, hardly longer than the arc
    hops = np.linalg.norm(np.diff(graph.obsm["X_vae"], axis=0), axis=1)
    assert hops.std() < 0.03 * hops.mean()
    assert hops.sum() < 1.05 * np.pi * 5


def test_paths_end_at_the_ends(ring):
    adata, model = ring
    codes, side = adata.obsm["ring"], adata.obs["side"].to_numpy()
    line = lc.tl.interpolate(adata, model, "left", "right", 5, use_rep="ring").obsm["X_vae"]
    means = [codes[side == name].mean(axis=0) for name in ("left", "right")]
    np.testing.assert_allclose(line, np.linspace(*means, 5), atol=1e-6)
    graph = lc.tl.interpolate(adata, model, "left", "right", 5, use_rep="ring", along="graph")
    route = graph.uns["latentcell"]["route"]
    for name, end, cell in (("left", 0, route[0]), ("right", -1, route[-1])):
        own = codes[side == name]
        centre = own[cdist(own, own).sum(axis=1).argmin()]
        np.testing.assert_allclose(graph.obsm["X_vae"][end], centre, atol=1e-6)
        np.testing.assert_allclose(adata[cell].obsm["ring"][0], centre)
    # cells and codes
    cells = lc.tl.interpolate(adata, model, "cell3", codes[7], 4, use_rep="ring", along="graph")
    np.testing.assert_allclose(cells.obsm["X_vae"][[0, -1]], codes[[3, 7]], atol=1e-6)
    assert cells.uns["latentcell"]["route"][[0, -1]].tolist() == ["cell3", "cell7"]
    np.testing.assert_allclose(cells.X, model.decode(cells.obsm["X_vae"]).X, rtol=1e-5)
    beside = codes[7] + 0.01
    path = lc.tl.interpolate(adata, model, "cell3", beside, 4, use_rep="ring", along="graph", n_local=0)
    assert list(path.var) == ["change", "rank"]
    np.testing.assert_allclose(path.obsm["X_vae"][-1], beside, atol=1e-6)
    assert not path.layers


def test_waypoints_choose_the_side_of_the_ring(ring):
    adata, model = ring
    for half, sign in (("top", 1), ("bottom", -1)):
        stop = np.array([0.0, 5.0 * sign, 0.0, 0.0])
        path = lc.tl.interpolate(adata, model, "left", "right", 41, use_rep="ring", along="graph", via=[stop])
        z = path.obsm["X_vae"]
        assert (sign * z[2:-2, 1] > 0).all()
        assert np.linalg.norm(z - stop, axis=1).min() < 0.5
        assert (adata[path.uns["latentcell"]["route"]].obs["half"] == half).mean() > 0.9
    bent = lc.tl.interpolate(adata, model, "left", "right", 3, use_rep="ring", via=[stop]).obsm["X_vae"]
    np.testing.assert_allclose(bent[1], stop, atol=0.2)  # legs of almost equal length


def test_the_route_is_the_cheapest_of_all():
    """Against a loop that anyone can read, on small clouds of points."""
    from latentcell.tl._graph_path import medoid, neighbor_graph, shortest_route

    for seed in range(3):
        codes = np.random.default_rng(seed).normal(size=(40, 3))
        graph = neighbor_graph(ad.AnnData(codes), codes, 5, None)
        far = cdist(codes, codes)
        near = np.argsort(far, axis=1)[:, 1:6]
        joined = np.zeros((40, 40), dtype=bool)
        for i in range(40):
            joined[i, near[i]] = joined[near[i], i] = True
        np.testing.assert_array_equal(graph.toarray(), joined)
        cost = np.where(joined, far**2, np.inf)
        best = cost.copy()
        for k in range(40):
            best = np.minimum(best, best[:, [k]] + best[[k]])
        route = shortest_route(codes, graph, [0, 20, 39])
        assert route[0] == 0
        assert route[-1] == 39
        assert 20 in route
        paid = sum(cost[a, b] for a, b in zip(route[:-1], route[1:], strict=True))
        assert paid == pytest.approx(best[0, 20] + best[20, 39])
        rows = np.arange(5, 30)
        assert medoid(codes, rows) == rows[far[np.ix_(rows, rows)].sum(axis=1).argmin()]


def test_scanpys_graph_is_taken(ring):
    adata, model = ring
    adata = adata.copy()
    sc.pp.neighbors(adata, n_neighbors=11, use_rep="ring", key_added="mine")
    path = lc.tl.interpolate(
        adata, model, "left", "right", 9, use_rep="ring", along="graph", neighbors_key="mine"
    )
    joined = adata.obsp["mine_connectivities"].toarray() > 0
    rows = adata.obs_names.get_indexer(path.uns["latentcell"]["route"])
    assert all(joined[a, b] for a, b in zip(rows[:-1], rows[1:], strict=True))
    assert path.obs["distance"].max() <= path.uns["latentcell"]["cell_distance"]
    with pytest.raises(DataError, match="neighbors_key='none' is not in adata.uns"):
        lc.tl.interpolate(adata, model, "left", "right", along="graph", neighbors_key="none")


def test_a_graph_in_two_parts_is_refused_and_says_what_to_do(ring):
    adata, model = ring
    apart = adata.copy()
    apart.obsm["ring"][:, 2] += np.where(adata.obs["half"] == "top", 50.0, 0.0)
    left = apart[(apart.obs["side"] == "left") & (apart.obs["half"] == "top")].obs_names[0]
    right = apart[(apart.obs["side"] == "right") & (apart.obs["half"] == "bottom")].obs_names[0]
    top = int((apart.obs["half"] == "top").sum())
    message = (
        rf"2 parts that nothing joins.*parts of {top}, {600 - top} cells.*Raise n_neighbors=.*along='line'"
    )
    with pytest.raises(DataError, match=message):
        lc.tl.interpolate(apart, model, left, right, use_rep="ring", along="graph")
    far = lc.tl.interpolate(apart, model, left, right, use_rep="ring", along="graph", n_neighbors=top)
    assert far.obs["distance"].max() > 10 * far.uns["latentcell"]["cell_distance"]
    assert lc.tl.interpolate(apart, model, left, right, use_rep="ring").n_obs == 10


# --- what is known about a path ---


def test_bands_are_what_is_decoded_around_each_place(ring):
    adata, model = ring
    path = lc.tl.interpolate(adata, model, "left", "right", 3, use_rep="ring", n_local=20, library_size=50.0)
    codes = adata.obsm["ring"]
    for step in range(3):
        far = np.linalg.norm(codes - path.obsm["X_vae"][step], axis=1)
        nearest = np.argsort(far)[:20]
        assert path.obs["nearest_cell"].iloc[step] == f"cell{nearest[0]}"
        assert path.obs["distance"].iloc[step] == pytest.approx(far.min())
        assert set(path.uns["latentcell"]["local_cells"][step]) == {f"cell{i}" for i in nearest}
        around = model.decode(codes[nearest], library_size=50.0).X
        for layer, share in (("lower", 0.05), ("upper", 0.95)):
            expected = np.quantile(around, share, axis=0)
            np.testing.assert_allclose(path.layers[layer][step], expected, rtol=1e-5)


def test_bands_are_told_what_the_place_is_told():
    adata = half_turn(120)
    adata.obs["site"], adata.obs["dose"] = np.array(["x", "y"])[np.arange(120) % 2], np.linspace(0, 1, 120)
    lc.model.CVAE.setup_anndata(
        adata,
        labels_key="side",
        batch_key="half",
        categorical_covariate_keys=["site"],
        continuous_covariate_keys=["dose"],
    )
    model = lc.model.CVAE(adata, n_latent=4, hidden=(4,))
    model.train(1, enable_progress_bar=False)
    labels, covariates = ["left", "right"], {"site": ["x", "y"], "dose": [0.0, 0.7]}
    told = {"labels": labels, "batch": "top", "covariates": covariates, "library_size": np.array([9.0, 99.0])}
    path = lc.tl.interpolate(adata, model, "cell1", "cell2", 2, use_rep="ring", n_local=1, **told)
    assert path.obs["side"].tolist() == labels
    np.testing.assert_allclose(path.layers["lower"], path.X, rtol=1e-5)  # each end is its own nearest cell
    np.testing.assert_allclose(path.layers["upper"], path.X, rtol=1e-5)


def test_a_path_can_be_written_and_read(ring, tmp_path):
    adata, model = ring
    path = lc.tl.interpolate(adata, model, "left", "right", 4, use_rep="ring", along="graph")
    lc.tl.rank_switches(path)
    path.write_h5ad(tmp_path / "path.h5ad")
    again = ad.read_h5ad(tmp_path / "path.h5ad")
    for key in ("route", "local_cells", "along", "cell_distance"):
        np.testing.assert_array_equal(again.uns["latentcell"][key], path.uns["latentcell"][key])
    np.testing.assert_array_equal(again.layers["upper"], path.layers["upper"])


def test_backed_cells_give_the_same_path(ring, tmp_path):
    adata, model = ring
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = [
        lc.tl.interpolate(cells, model, "cell5", "right", 4, along="graph", use_rep="ring")
        for cells in (adata, backed)
    ]
    np.testing.assert_array_equal(found[0].X, found[1].X)
    pd.testing.assert_frame_equal(found[0].var, found[1].var)


# --- when genes switch ---


def test_switches_of_known_curves():
    step = np.linspace(0, 1, 5)
    curves = {
        "even": step,
        "late": np.clip(step * 4 - 3, 0, 1),
        "falls": 1 - np.clip(step * 4, 0, 1),
        "turns": np.array([0.0, 0.6, 0.45, 0.6, 1.0]),
        "flat": np.array([0.0, 0.1, 0.2, 0.1, 0.2]),
        "there and back": np.array([0.0, 1.0, 0.0, 1.0, 1.0]),
    }
    path = made_path(np.stack(list(curves.values()), axis=1))
    path.var_names = list(curves)
    table = lc.tl.rank_switches(path, least_monotony=0.7)
    assert table.index.tolist() == ["falls", "turns", "even", "late"]
    assert table["switch"].tolist() == pytest.approx(
        [0.125, (0.25 * 0.5 / 0.6 + 0.5 + 0.25 * 0.05 / 0.15) / 2, 0.5, 0.875], abs=1e-6
    )
    assert table["width"].tolist()[2:] == pytest.approx([0.5, 0.125], abs=1e-6)
    assert table["width"].iloc[0] == pytest.approx(0.125, abs=1e-6)
    assert table["monotony"].tolist() == pytest.approx([1, 1 / 1.3, 1, 1], abs=1e-6)
    assert table["direction"].tolist() == ["down", "up", "up", "up"]
    assert table["change"].tolist() == pytest.approx([-1, 1, 1, 1])
    assert path.var["monotony"].to_dict() == pytest.approx(
        {"even": 1, "late": 1, "falls": 1, "turns": 1 / 1.3, "flat": 0.5, "there and back": 1 / 3}, abs=1e-6
    )
    assert path.var["switch"].isna().tolist() == [False, False, False, False, True, True]
    assert lc.tl.rank_switches(path).index.tolist() == ["falls", "even", "late"]
    assert lc.tl.rank_switches(path, least_change=2).empty


def test_positions_are_on_the_path_and_counts_are_brought_to_one_depth():
    path = made_path([[0.0, 0.0], [9.0, 2.0], [10.0, 10.0]], step=[0.0, 0.2, 1.0])
    path.obs["library_size"] = [1e4, 1e4, 1e4]
    switch, log = lc.tl.rank_switches(path)["switch"], np.log1p(path.X)
    assert switch.index.tolist() == ["0", "1"]
    assert switch["0"] == pytest.approx(0.2 * (log[2, 0] / 2) / log[1, 0])
    assert switch["1"] == pytest.approx(0.2 + 0.8 * (log[2, 1] / 2 - log[1, 1]) / (log[2, 1] - log[1, 1]))
    path.obs["library_size"], path.X[:] = [1e4, 2e4, 3e4], [[1, 1], [2, 2], [3, 3]]
    assert lc.tl.rank_switches(path).empty


def test_genes_in_which_cells_do_not_differ_do_not_switch():
    path = made_path(np.linspace([0.0, 0.0, 4.0, 0.0], [4.0, 4.0, 0.0, 4.0], 5))
    assert sorted(lc.tl.rank_switches(path).index) == ["0", "1", "2", "3"]
    path.var["observed_change"] = [1.0, 1.0, -1.0, -1.0]  # the last goes the other way in cells
    path.var["observed_p"] = [0.001, 0.06, 0.02, 0.001]
    assert sorted(lc.tl.rank_switches(path).index) == ["0", "2"]
    assert sorted(lc.tl.rank_switches(path, max_fdr=0.01).index) == ["0"]
    assert sorted(lc.tl.rank_switches(path, max_fdr=1).index) == ["0", "1", "2"]


def test_what_cells_show_is_a_test_of_each_gene(course):
    adata, model = course
    genes = adata.var_names[:5].tolist()
    path = lc.tl.interpolate(adata, model, "early", "late", 3, use_rep="X_vae", genes=genes[::-1])
    log = np.log1p(1e4 * adata.X / adata.X.sum(axis=1, keepdims=True))
    for gene in range(5):
        early, late = (log[adata.obs["stage"] == stage, gene] for stage in ("early", "late"))
        found = path.var.loc[genes[gene]]
        assert found["observed_change"] == pytest.approx(late.mean() - early.mean(), abs=1e-4)
        expected = stats.ttest_ind(late, early, equal_var=False).pvalue
        assert found["observed_p"] == pytest.approx(expected, rel=1e-3)
    code = adata.obsm["X_vae"][3]
    path = lc.tl.interpolate(adata, model, code, "late", 3, use_rep="X_vae", genes=genes)
    near = np.argsort(np.linalg.norm(adata.obsm["X_vae"] - code, axis=1))[:30]
    expected = log[adata.obs["stage"] == "late"].mean(0) - log[near].mean(0)
    np.testing.assert_allclose(path.var["observed_change"], expected[:5], atol=1e-4)


def test_the_order_of_known_switches_is_found_along_the_graph(course):
    adata, model = course
    rho = {}
    for along in ("graph", "line"):
        path = lc.tl.interpolate(adata, model, "early", "late", 40, along=along, use_rep="X_vae")
        table = lc.tl.rank_switches(path)
        known = adata.var.loc[table.index]
        constant = known["at"].isna()
        assert constant.sum() <= 2, f"{constant.sum()} of {N_CONSTANT} genes that do not change were ordered"
        known, found = known[~constant], table[~constant]
        assert len(known) > 0.8 * N_SWITCHING, len(known)
        assert ((found["direction"] == "up") == known["up"]).all()
        rho[along] = stats.spearmanr(known["at"], found["switch"]).statistic
    assert rho["graph"] > 0.95, rho
    # the codes of the course lie on a bow: a straight line knows both ends and not the order between them
    assert rho["line"] < rho["graph"] - 0.3, rho


# --- refusals ---


def test_bad_arguments_are_named(ring):
    adata, model = ring
    path = lc.tl.interpolate(adata, model, "left", "right", 2, use_rep="ring")
    with pytest.raises(DataError, match="along must be one of"):
        lc.tl.interpolate(adata, model, "left", "right", along="tree")
    with pytest.raises(DataError, match="steps must be at least 2"):
        lc.tl.interpolate(adata, model, "left", "right", 1)
    with pytest.raises(DataError, match="n_local must be at least 0"):
        lc.tl.interpolate(adata, model, "left", "right", n_local=-1)
    with pytest.raises(DataError, match="n_neighbors must lie between 1 and 599"):
        lc.tl.interpolate(adata, model, "left", "right", along="graph", n_neighbors=600)
    with pytest.raises(DataError, match="via='none' is not in adata.obs"):
        lc.tl.interpolate(adata, model, "left", "right", via=["none"])
    with pytest.raises(DataError, match="end must be the name of a group or cell, or 4 finite numbers"):
        lc.tl.interpolate(adata, model, "left", np.zeros(3))
    twice = adata.copy()
    twice.obs_names = ["left", *adata.obs_names[1:]]
    of_groups = lc.tl.interpolate(adata, model, "left", "right", 4, use_rep="ring")
    np.testing.assert_array_equal(  # a group comes before a cell of its name
        lc.tl.interpolate(twice, model, "left", "right", 4, use_rep="ring").X, of_groups.X
    )
    with pytest.raises(DataError, match="path has 2 steps, 3 are needed"):
        lc.tl.rank_switches(path)
    with pytest.raises(DataError, match="path must be what lc.tl.interpolate returned"):
        lc.tl.rank_switches(adata)
    with pytest.raises(DataError, match="path is a view"):
        lc.tl.rank_switches(path[:, :3])
    with pytest.raises(DataError, match="least_monotony must lie between"):
        lc.tl.rank_switches(path, least_monotony=2)
    with pytest.raises(DataError, match="max_fdr must"):
        lc.tl.rank_switches(path, max_fdr=0)
    with pytest.raises(DataError, match="least_change must be above 0"):
        lc.tl.rank_switches(path, least_change=0)


def test_groups_of_few_cells_are_compared_by_their_own_cells():
    """Not by the 30 nearest to either end, which in 24 cells are the same for both."""
    counts = np.random.default_rng(0).poisson(3.0, size=(24, 12)).astype(np.float32)
    counts[:10, 0] += 40
    cells = ad.AnnData(counts)
    cells.obs_names = [f"cell{i}" for i in range(24)]
    cells.obs["t"] = np.where(np.arange(24) < 10, "A", "B")
    model = lc.tl.vae(cells, max_epochs=2, n_latent=2, progress=False)
    path = lc.tl.interpolate(cells, model, "A", "B", 4, groupby="t", use_rep="X_vae")
    log = np.log1p(1e4 * cells.X / cells.X.sum(axis=1, keepdims=True))
    expected = log[10:].mean(axis=0) - log[:10].mean(axis=0)
    np.testing.assert_allclose(path.var["observed_change"], expected, rtol=1e-4, atol=1e-5)
    assert path.var["observed_p"].iloc[0] < 1e-4
    one = lc.tl.interpolate(cells, model, cells.obs_names[0], cells.obs_names[20], 4, use_rep="X_vae")
    assert (one.var["observed_change"] != 0).any()
