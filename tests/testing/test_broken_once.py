"""More models that break one promise each: the check of that promise, and what it says of the model.

Which other checks a model of ``test_broken.py`` fails is asked there; here it is one check and its words.
"""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import latentcell as lc
from latentcell._errors import DataError, NotTrainedError, TrainingDivergedError
from latentcell.nn.schedules import Constant

AE, VAE, GeneShuffle = lc.model.AE, lc.model.VAE, lc.model.GeneShuffle
SMALL = {"n_latent": 3, "hidden": (8,)}


def quiet(error):
    """A method that gives nothing where it should refuse."""

    def decorate(name):
        def method(self, *args, **kwargs):
            try:
                return getattr(super(type(self), self), name)(*args, **kwargs)
            except error:
                return None

        return method

    return decorate


# --- which cells a model is of ---


class TakesCopies(AE):
    def __init__(self, adata=None, registry=None, **kwargs):
        if adata is not None:
            adata = adata.copy()
            self.setup_anndata(adata)
        super().__init__(adata, registry=registry, **kwargs)


class CopiesItsCells(AE):
    def __init__(self, adata=None, registry=None, **kwargs):
        super().__init__(adata, registry=registry, **kwargs)
        if adata is not None:
            self._adata = adata.copy()


class LastSetUpWins(AE):
    """Reads batches by the key that any model was set up with last."""

    def get_reconstruction(self, *args, **kwargs):
        values = super().get_reconstruction(*args, **kwargs)
        return values + np.float32(self.adata.obs.get("_scvi_batch", pd.Series([0])).sum())


class ScalesAtSetUp(GeneShuffle):
    @classmethod
    def setup_anndata(cls, adata, **kwargs):
        super().setup_anndata(adata, **kwargs)
        adata.layers["log"] = adata.layers["log"] / 2


class NotesItsTraining(GeneShuffle):
    def train(self, **kwargs):
        super().train(**kwargs)
        self.adata.uns["trained"] = True


class AnyName(GeneShuffle):
    def __repr__(self):
        return "a model"


# --- what is refused ---


class FillsNaN(AE):
    def __init__(self, adata=None, registry=None, **kwargs):
        if adata is not None and not hasattr(adata.X, "tocsr"):
            adata.X = np.nan_to_num(adata.X, posinf=0.0)
        super().__init__(adata, registry=registry, **kwargs)


class TakesTextForNumbers(AE):
    def __init__(self, adata=None, registry=None, n_latent=3, **kwargs):
        super().__init__(adata, registry=registry, n_latent=int(n_latent or 3), **kwargs)


class AnySizeFactor(AE):
    @classmethod
    def setup_anndata(cls, adata, size_factor_key=None, **kwargs):
        if size_factor_key is not None:
            adata.obs[size_factor_key] = adata.obs[size_factor_key].abs().clip(0.1, 1e6).fillna(1.0)
        super().setup_anndata(adata, size_factor_key=size_factor_key, **kwargs)


class SharesOfTheTotal(AE):
    def get_latent_representation(self, adata=None, *args, **kwargs):
        codes = super().get_latent_representation(adata, *args, **kwargs)
        cells = self.adata if adata is None else adata
        values = cells.X if self.spec.layer is None else cells.layers[self.spec.layer]
        return codes / np.asarray(values.sum(axis=1)).reshape(-1, 1)


class BatchesByCode(VAE):
    def get_reconstruction(self, adata=None, *args, **kwargs):
        if adata is not None and "batch" in adata.obs:
            adata = adata.copy()
            codes = pd.Categorical(adata.obs["batch"]).codes
            adata.obs["batch"] = np.array(["Zürich", "北京"])[np.minimum(codes, 1)]
        return super().get_reconstruction(adata, *args, **kwargs)


class DrawsUnusedLevels(GeneShuffle):
    def generate(self, *args, **kwargs):
        new = super().generate(*args, **kwargs)
        names = self.adata.obs["batch"].cat.categories
        new.obs["batch"] = names[np.arange(new.n_obs) % len(names)]
        return new


class TrainsOnOneCell(AE):
    train = quiet(DataError)("train")


class TrainsOnAnything(AE):
    def train(self, max_epochs=None, *, train_size=None, **kwargs):
        train_size = None if train_size is None else min(max(train_size, 0.5), 1.0)
        super().train(max_epochs, train_size=train_size, **kwargs)


class SaysNothingUntrained(AE):
    get_reconstruction = quiet(NotTrainedError)("get_reconstruction")


class DecodesUntrained(VAE):
    decode = quiet(NotTrainedError)("decode")


# --- few cells ---


class CentresCodes(AE):
    def get_latent_representation(self, *args, **kwargs):
        codes = super().get_latent_representation(*args, **kwargs)
        return codes - codes.mean(axis=0)


class LosesTheLastCell(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        codes = super().get_latent_representation(adata, indices, batch_size)
        return codes[:-1] if batch_size is not None and len(codes) % batch_size == 1 else codes


class NeedsTwoGenes(AE):
    @classmethod
    def setup_anndata(cls, adata, **kwargs):
        if adata.n_vars == 1:
            raise DataError("2 genes are needed")
        super().setup_anndata(adata, **kwargs)


# --- results ---


class DrawsWhereItLooks(VAE):
    def get_latent_representation(self, *args, **kwargs):
        codes = super().get_latent_representation(*args, **kwargs)
        return codes + 1e-6 * torch.rand(1).numpy()


class ForgetsItsOrder(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        codes = super().get_latent_representation(adata, indices, batch_size)
        return codes[::-1].copy() if adata is None else codes


class SumsOverCells(VAE):
    def get_elbo(self, *args, return_mean=True, **kwargs):
        values = super().get_elbo(*args, return_mean=False, **kwargs)
        return float(values.sum()) if return_mean else values


class WantsCellsSetUp(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        if adata is not None and not {"batch", "age"} <= set(adata.obs):
            raise DataError("set the cells up first")
        return super().get_latent_representation(adata, indices, batch_size)


class GenesInItsOwnOrder(AE):
    def get_reconstruction(self, *args, gene_list=None, **kwargs):
        gene_list = gene_list if gene_list is None else sorted(gene_list)
        return super().get_reconstruction(*args, gene_list=gene_list, **kwargs)


class OneBatchOnly(AE):
    def get_reconstruction(self, adata=None, *args, **kwargs):
        if adata is not None and "batch" in adata.obs:
            adata = adata.copy()
            adata.obs["batch"] = "北京"
        return super().get_reconstruction(adata, *args, **kwargs)


# --- training ---


class StartsAnywhere(AE):
    def __init__(self, adata=None, registry=None, **kwargs):
        super().__init__(adata, registry=registry, **kwargs)
        with torch.no_grad():
            for weight in self.module.parameters():
                weight += 0.01 * torch.rand(1, generator=GENERATOR)


GENERATOR = torch.Generator().manual_seed(0)


class LearnsNothing(AE):
    def train(self, *args, lr=None, **kwargs):
        super().train(*args, lr=0.0, **kwargs)


class OwnRate(AE):
    def train(self, *args, lr_schedule=None, **kwargs):
        super().train(*args, lr_schedule=lr_schedule and Constant(1.0), **kwargs)


class StartsAfresh(AE):
    def train(self, *args, **kwargs):
        if self.is_trained_:
            for layer in self.module.modules():
                if isinstance(layer, torch.nn.Linear):
                    layer.reset_parameters()
        super().train(*args, **kwargs)


class HidesDivergence(AE):
    train = quiet(TrainingDivergedError)("train")


# --- files ---


class CopiesOnLoading(GeneShuffle):
    @classmethod
    def load(cls, dir_path, adata=None, **kwargs):
        return super().load(dir_path, None if adata is None else adata.copy(), **kwargs)


class WritesTheTime(GeneShuffle):
    """Not the time, but a number that is another one each time."""

    n_saved = 0

    def save(self, *args, **kwargs):
        type(self).n_saved += 1
        params, self.params = self.params, self.params | {"seed": self.n_saved}
        super().save(*args, **kwargs)
        self.params = params


class FixedOnLoading(AE):
    @classmethod
    def load(cls, *args, **kwargs):
        model = super().load(*args, **kwargs)
        model.train = lambda *args, **kwargs: None
        return model


class AlwaysTrained(AE):
    @classmethod
    def load(cls, *args, **kwargs):
        model = super().load(*args, **kwargs)
        model.is_trained_ = True
        return model


class CountsOnLoading(AE):
    """Its loaded models round."""

    rounds = False

    @classmethod
    def load(cls, *args, **kwargs):
        model = super().load(*args, **kwargs)
        model.rounds = model.gene_likelihood == "normal"
        return model

    def get_reconstruction(self, *args, **kwargs):
        values = super().get_reconstruction(*args, **kwargs)
        return np.round(values) if self.rounds else values


class KeepsNoCells(GeneShuffle):
    def save(self, dir_path, overwrite=False, save_anndata=False):
        super().save(dir_path, overwrite)


class CategoriesSortedAsText(VAE):
    @classmethod
    def load(cls, *args, **kwargs):
        model = super().load(*args, **kwargs)
        model.spec.batch.sort(key=str)
        return model


# --- new cells ---


class AHundredCells(GeneShuffle):
    def generate(self, n_cells=None, *, labels=None, **kwargs):
        n_cells = 100 if n_cells is None and labels is None else n_cells
        return super().generate(n_cells, labels=labels, **kwargs)


class PathsPastTheMiddle(VAE):
    def interpolate(self, *args, **kwargs):
        path = super().interpolate(*args, **kwargs)
        path.obsm["X_pathspastthemiddle"][1] *= np.float32(1.5)
        return path


BROKEN = [
    (TakesCopies, "a_model_is_built_on_the_very_object_that_was_set_up", "on a copy or a view"),
    (TakesCopies, "cells_that_are_not_set_up_are_refused", "on cells that are not set up"),
    (CopiesItsCells, "the_models_cells_are_not_copied", "copies the cells it is given"),
    (LastSetUpWins, "two_models_live_on_one_anndata", "a second model on the same AnnData changes the first"),
    (ScalesAtSetUp, "set_up_writes_only_its_own_slots", "setup_anndata changes the AnnData: layers['log']"),
    (NotesItsTraining, "building_and_training_write_nothing", "train() changes the AnnData: uns"),
    (AnyName, "a_model_says_what_it_is", "does not name AnyName"),
    (FillsNaN, "nan_is_named_before_training", "nan in the cells to train on is not named"),
    (TakesTextForNumbers, "arguments_of_a_wrong_kind_are_named", "n_latent='10' is not refused by name"),
    (AnySizeFactor, "size_factors_must_be_positive", "a size factor of 0.0 is not refused by name"),
    (SharesOfTheTotal, "models_of_other_data_take_empty_cells", "a cell of zeros in layers['unit'] spoils"),
    (BatchesByCode, "categories_are_understood_by_name", "not understood by their names"),
    (DrawsUnusedLevels, "levels_that_no_cell_has_do_no_harm", "of a batch or label that no cell has"),
    (TrainsOnOneCell, "one_cell_is_refused_at_training", "a model is trained on one cell"),
    (TrainsOnAnything, "training_arguments_out_of_range_are_refused", "train({'train_size': 0.0}) is taken"),
    (SaysNothingUntrained, "an_untrained_model_says_so", "get_reconstruction() of an untrained model"),
    (DecodesUntrained, "an_untrained_model_decodes_nothing", "decode() of an untrained model"),
    (CentresCodes, "one_cell_can_be_read", "the code of a cell alone is not its code among others"),
    (LosesTheLastCell, "a_last_batch_of_one_cell_works", "3 cells in batches of 2: 2 codes"),
    (NeedsTwoGenes, "one_gene_works", "one gene (X) is refused"),
    (DrawsWhereItLooks, "looking_twice_gives_the_same_bits", "twice gives other bits"),
    (ForgetsItsOrder, "without_cells_the_models_own_are_taken", "of the model's own cells"),
    (SumsOverCells, "means_are_means_over_cells", "get_elbo is not the mean over cells"),
    (WantsCellsSetUp, "a_new_anndata_needs_no_set_up", "set the cells up first"),
    (GenesInItsOwnOrder, "genes_asked_for_come_in_their_order", "gene_list does not give those genes"),
    (OneBatchOnly, "covariates_reach_the_decoder", "obs['batch'] does not reach the decoder"),
    (StartsAnywhere, "an_untrained_model_is_a_function_of_its_seed", "the same seed starts at other weights"),
    (LearnsNothing, "training_lowers_the_loss", "20 epochs do not lower"),
    (OwnRate, "the_learning_rate_follows_its_schedule", "does not lower history['lr']"),
    (StartsAfresh, "training_goes_on_from_where_it_was", "does not start from the weights there are"),
    (HidesDivergence, "a_diverged_run_says_so_and_leaves_finite_weights", "diverges does not say so"),
    (CopiesOnLoading, "a_loaded_model_takes_cells", "does not attach the cells themselves"),
    (WritesTheTime, "a_loaded_model_can_be_saved_again", "writes another model.json"),
    (FixedOnLoading, "a_loaded_model_can_be_trained_further", "training a loaded model further does nothing"),
    (AlwaysTrained, "an_untrained_model_stays_untrained", "counts as trained after saving"),
    (CountsOnLoading, "models_of_other_data_survive_saving", "a model of layers['log'] after saving"),
    (KeepsNoCells, "cells_are_saved_beside_the_model_if_asked", "writes no adata.h5ad"),
    (
        CategoriesSortedAsText,
        "categories_of_any_kind_survive_saving",
        "(integers) do not survive saving: spec",
    ),
    (AHundredCells, "as_many_cells_as_trained_on_unless_told", "as many cells as it was trained on"),
    (PathsPastTheMiddle, "paths_lead_from_start_to_end", "the middle of a path is not in the middle"),
]
"""A model, the check that must fail, and words of what it says."""


@pytest.mark.parametrize(("Model", "check", "words"), BROKEN, ids=[check for _, check, _ in BROKEN])
def test_the_check_of_the_broken_promise_says_what_is_broken(Model, check, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {} if issubclass(Model, GeneShuffle) else SMALL
    with pytest.raises(lc.testing.ContractError) as error:
        lc.testing.check_model(Model, arguments=arguments, checks=[f"check_{check}"])
    (row,) = error.value.table.itertuples()
    assert row.outcome == "failed"
    assert words in row.message


def test_every_check_has_a_model_that_fails_it():
    others = runpy.run_path(str(Path(__file__).with_name("test_broken.py")))["BROKEN"].values()
    caught = set().union(*others) | {check for _, check, _ in BROKEN}
    assert caught == {check.__name__.removeprefix("check_") for check in lc.testing.CHECKS}
