"""What constructors take: every plain way to say it, and nothing that only fails later."""

from collections import UserList
from collections.abc import Sequence

import numpy as np
import pytest

import latentcell as lc
from latentcell._errors import DataError
from latentcell.model._arguments import check_arguments, own_params
from latentcell.nn.schedules import Linear
from latentcell.testing._cells import make_cells


class Takes:
    def __init__(
        self,
        hidden: Sequence[int] = (8,),
        markers: Sequence[str] = (),
        weights: Sequence[float] = (),
        anything: Sequence = (),
    ):
        pass


@pytest.mark.parametrize(
    "hidden", [[8], (), range(8, 0, -3), np.array([8, 4]), UserList([8]), (np.int64(8),)]
)
def test_sequences_of_whole_numbers_may_be_of_any_type(hidden):
    check_arguments(Takes, {"hidden": hidden})


@pytest.mark.parametrize("hidden", [np.array(8), np.array([8.0]), np.array([[8]]), {8}, b"8", iter([8])])
def test_what_is_no_sequence_of_whole_numbers_is_refused_by_name(hidden):
    with pytest.raises(DataError, match="hidden must be a sequence of whole numbers"):
        check_arguments(Takes, {"hidden": hidden})


def test_sequences_of_other_things_are_not_looked_at():
    check_arguments(Takes, {"markers": ["CD3D"], "weights": [0.5], "anything": "all"})


def test_the_constructor_that_takes_an_argument_says_of_which_kind_it_is():
    class Inner:
        def __init__(self, hidden: Sequence[int] = (8,)):
            super().__init__()
            self.params = own_params(locals())

    class Outer(Inner):
        def __init__(self, hidden: int = 8):
            super().__init__(hidden=(hidden, hidden))

    assert Outer(4).params == {"hidden": (4, 4)}
    with pytest.raises(DataError, match="hidden must be a sequence"):
        Outer(0.5)


@pytest.mark.parametrize("hidden", [[8, 4], range(8, 0, -4), np.array([8, 4]), UserList([8, 4])])
def test_models_are_saved_with_any_of_them(hidden, tmp_path):
    adata = make_cells()
    lc.model.AE.setup_anndata(adata, layer="log")
    model = lc.model.AE(adata, n_latent=np.int64(2), hidden=hidden)
    model.train(1, enable_progress_bar=False)
    model.save(tmp_path / "model")
    loaded = lc.model.AE.load(tmp_path / "model", adata)
    assert loaded.params["hidden"] == (8, 4)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": np.nan}, "beta must be finite"),
        ({"beta": np.inf}, "beta must be finite"),
        ({"beta": -1.0}, "beta must be 0 or more throughout training"),
        ({"beta": Linear(1.0, -1.0)}, "beta must be 0 or more throughout training"),
        ({"beta": Linear(1.0, np.nan)}, "beta must be finite"),
        ({"dropout": np.nan}, "dropout must be finite"),
        ({"gene_scale": np.inf}, "gene_scale must be finite"),
    ],
)
def test_numbers_that_no_training_could_use_are_refused_at_once(wrong, message):
    adata = make_cells()
    lc.model.VAE.setup_anndata(adata, layer="log")
    with pytest.raises(DataError, match=message):
        lc.model.VAE(adata, **wrong)
