"""New cells of every model: what they carry, and that a loaded model makes the same ones without data."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import NotTrainedError


def same(new, other):
    np.testing.assert_array_equal(new.X.toarray(), other.X.toarray())
    pd.testing.assert_frame_equal(new.obs, other.obs)
    for key in new.obsm:
        np.testing.assert_array_equal(new.obsm[key], other.obsm[key])


def test_new_cells_carry_what_is_known_of_them(with_covariates, Model):
    for source in Model.SOURCES:
        new = with_covariates.generate(40, source=source, seed=3)
        assert new.shape == (40, 20)
        assert new.X.format == "csr"
        assert new.X.dtype == np.float32
        assert (new.X.data == np.round(new.X.data)).all()
        assert new.X.data.min() > 0
        assert list(new.var_names) == with_covariates.spec.genes
        assert new.obs["is_generated"].all()
        assert set(new.obs["batch"]) <= {"Zürich", "北京"}
        assert set(new.obs["donor"]) <= {0, 10, 20, 30}
        assert new.obs["age"].between(10, 90).all()
        if "label" in new.obs:  # codes from the prior have none in a model that is not told labels
            assert set(new.obs["label"]) <= {"1", "2", "3"}
        assert new.obsm[f"X_{Model.__name__.lower()}"].shape == (40, 3)
        assert new.uns["latentcell"]["source"] == source


def test_labels_by_name_in_any_order(with_covariates, Model):
    for source in [source for source in Model.SOURCES if source != "prior"]:
        new = with_covariates.generate(labels={"2": 5, "3": 7}, source=source)
        assert list(new.obs["label"]) == ["2"] * 5 + ["3"] * 7


def test_a_loaded_model_draws_the_same_cells_without_data(with_covariates, Model, tmp_path):
    with_covariates.save(tmp_path / "model")
    loaded = lc.model.load(tmp_path / "model")
    for source in Model.SOURCES:
        same(loaded.generate(30, source=source, seed=5), with_covariates.generate(30, source=source, seed=5))
    path = [model.interpolate("1", "2", steps=3, **TOLD) for model in (loaded, with_covariates)]
    np.testing.assert_array_equal(path[0].X, path[1].X)


TOLD = {"labels": "1", "batch": "北京", "covariates": {"donor": 10, "age": 50.0}}


def test_decoded_cells_are_what_the_model_expects(with_covariates, make):
    adata = make.cells()
    z = with_covariates.get_latent_representation(adata)
    obs = adata.obs
    new = with_covariates.decode(
        z,
        labels=obs["label"],
        batch=obs["batch"],
        covariates={"donor": obs["donor"], "age": obs["age"]},
        library_size=np.asarray(adata.X.sum(1)).ravel(),
    )
    np.testing.assert_allclose(new.X, with_covariates.get_reconstruction(adata), rtol=2e-4, atol=1e-4)
    assert not sparse.issparse(new.X)


def test_an_untrained_model_draws_nothing(make, Model, cells):
    model = make.build(Model, cells)
    for call in (
        lambda: model.generate(3),
        lambda: model.decode(np.zeros((1, 3))),
        lambda: model.traverse(0),
    ):
        with pytest.raises(NotTrainedError, match="has not been trained"):
            call()
