"""What comes out, against a formula; what reaches encoder and decoder; how a model is described."""

import inspect

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latentcell._errors import DataError

# --- reconstruction ---


def test_reconstruction_error_is_the_likelihood_of_the_data_at_the_reconstruction(
    trained, any_likelihood, new_cells
):
    mu = trained.get_reconstruction(new_cells)
    theta = trained.module.likelihood.theta().detach().numpy()
    by_hand = -stats.nbinom.logpmf(new_cells.X.toarray(), theta, theta / (theta + mu)).sum(1)
    np.testing.assert_allclose(
        trained.get_reconstruction_error(new_cells, return_mean=False), by_hand, rtol=1e-4
    )


# --- covariates ---


def test_covariates_reach_the_encoder_if_asked(make, Model, cells):
    model = make.train(Model, cells, keys=make.KEYS, encode_covariates=True)
    look = getattr(model, "get_inclusion_probability", model.get_latent_representation)
    moved = cells.copy()
    moved.obs["batch"] = moved.obs["batch"].cat.rename_categories({"Zürich": "北京", "北京": "Zürich"})
    assert not np.allclose(look(moved), look(cells))


def test_labels_have_a_say_in_conditional_models_only(with_covariates, new_cells):
    moved = new_cells.copy()
    moved.obs["label"] = pd.Categorical(["1"] * 55)
    same = np.array_equal(
        with_covariates.get_reconstruction(moved), with_covariates.get_reconstruction(new_cells)
    )
    assert same != with_covariates.module.uses_labels
    del moved.obs["label"]
    if same:
        assert np.isfinite(with_covariates.get_reconstruction(moved)).all()
    else:
        with pytest.raises(DataError, match="obs has no 'label'"):
            with_covariates.get_reconstruction(moved)


# --- description ---


@pytest.mark.parametrize("arguments", [{}, {"hidden": (9, 5)}, {"hidden": (9, 5), "head_sizes": (4,)}])
def test_architecture_leads_from_the_genes_to_the_genes(make, Model, any_data, cells, arguments):
    if not set(arguments) <= set(inspect.signature(Model).parameters):
        pytest.skip(f"{Model.__name__} has no such layers")
    model = make.build(Model, cells, **arguments)
    layers = model.get_architecture()
    assert all(set(layer) == {"part", "name", "size", "detail", "branch"} for layer in layers)
    assert (layers[0]["part"], layers[0]["size"]) == ("input", 20)
    assert (layers[-1]["part"], layers[-1]["size"]) == ("output", 20)
    parts = [layer["part"] for layer in layers]
    assert parts == sorted(parts, key=["input", "encoder", "latent", "decoder", "output"].index)
    shared = [layer["size"] for layer in layers if layer["part"] == "encoder" and layer["branch"] is None]
    assert shared == list(arguments.get("hidden", (8,)))
    heads = {
        layer["branch"] for layer in layers if layer["part"] == "encoder" and layer["branch"] is not None
    }
    assert heads == (set(model.module.latent.names) if "head_sizes" in arguments else set())
    code = [layer for layer in layers if layer["part"] == "latent"][-1]
    assert (code["name"], code["size"]) == ("code", 3)


def test_description_names_the_model(trained, Model, capsys):
    print(trained)  # noqa: T201
    shown = capsys.readouterr().out
    assert f"{Model.__name__} with 3 latent dimensions" in shown
    assert "Trained" in shown
