"""A check that cannot fail is none: models that break one promise each, and the checks that catch them.

Quick runs ask only the checks that must fail whether they do (for generators without a network: all checks);
the slow ones ask all checks, and exactly those may fail.
"""

import itertools
import logging
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import scanpy as sc
import torch

import latentcell as lc
from latentcell._errors import DataError, ModelFileError

AE, VAE, GeneShuffle = lc.model.AE, lc.model.VAE, lc.model.GeneShuffle
COUNTER = itertools.count()


# --- generators ---


class GeneratesDouble(GeneShuffle):
    def generate(self, *args, **kwargs):
        new = super().generate(*args, **kwargs)
        new.X = new.X * np.float32(2)
        return new


class IgnoresTheSeed(GeneShuffle):
    def generate(self, *args, seed=None, **kwargs):
        new = super().generate(*args, seed=0, **kwargs)
        new.uns["latentcell"]["seed"] = seed
        return new


class LabelsByPosition(GeneShuffle):
    """Takes the first label for the second, and so on."""

    def generate(self, n_cells=None, *, labels=None, **kwargs):
        new = super().generate(n_cells, labels=labels, **kwargs)
        if isinstance(labels, dict) and set(labels) <= {"1", "2", "3"}:
            swap = {"1": "2", "2": "3", "3": "1"}
            asked = {swap[name]: number for name, number in labels.items()}
            new.X = super().generate(labels=asked, **kwargs).X
        return new


class LabelsSorted(GeneShuffle):
    def generate(self, n_cells=None, *, labels=None, **kwargs):
        if isinstance(labels, list):
            labels = sorted(labels)
        return super().generate(n_cells, labels=labels, **kwargs)


class UnmarkedCells(GeneShuffle):
    def generate(self, *args, **kwargs):
        new = super().generate(*args, **kwargs)
        del new.obs["is_generated"]
        return new


class GeneratesFractions(GeneShuffle):
    def generate(self, *args, **kwargs):
        new = super().generate(*args, **kwargs)
        new.X = new.X * np.float32(1.01)
        return new


class WritesWhenGenerating(GeneShuffle):
    def generate(self, *args, **kwargs):
        if self.adata is not None:
            self.adata.uns["generated"] = True
        return super().generate(*args, **kwargs)


class TakesViews(GeneShuffle):
    @classmethod
    def setup_anndata(cls, adata, **kwargs):
        if getattr(adata, "is_view", False):
            adata.obs["mine"] = 1  # makes it an object of its own
        super().setup_anndata(adata, **kwargs)


class LeavesPickles(GeneShuffle):
    def save(self, dir_path, **kwargs):
        super().save(dir_path, **kwargs)
        (Path(dir_path) / "extra.pkl").write_bytes(pickle.dumps(self.params))


class AlwaysOverwrites(GeneShuffle):
    def save(self, dir_path, overwrite=False, **kwargs):
        super().save(dir_path, overwrite=(Path(dir_path) / "model.json").exists(), **kwargs)


class LoadsAnyFolder(GeneShuffle):
    @classmethod
    def load(cls, dir_path, adata=None, **kwargs):
        try:
            return super().load(dir_path, adata, **kwargs)
        except ModelFileError:
            return cls.fresh(adata)

    @classmethod
    def fresh(cls, adata):
        cells = lc.testing.make_cells() if adata is None else adata
        cls.setup_anndata(cells)
        return cls(cells)


class Prints(GeneShuffle):
    def train(self, **kwargs):
        print("training")  # noqa: T201
        super().train(**kwargs)


class LeavesFiles(GeneShuffle):
    def train(self, **kwargs):
        Path("log.txt").write_text("trained")
        super().train(**kwargs)


class ChangesFilters(GeneShuffle):
    def train(self, **kwargs):
        warnings.filterwarnings("ignore", message=f"harmless {next(COUNTER)}")
        super().train(**kwargs)


class ChangesThreads(GeneShuffle):
    def train(self, **kwargs):
        torch.set_num_threads(torch.get_num_threads() + 1)
        super().train(**kwargs)


class ChangesLoggers(GeneShuffle):
    def train(self, **kwargs):
        logging.getLogger("latentcell.broken").addHandler(logging.NullHandler())
        super().train(**kwargs)


class ChangesSettings(GeneShuffle):
    def train(self, **kwargs):
        sc.settings.n_jobs += 1
        super().train(**kwargs)


class FollowsSettings(GeneShuffle):
    def generate(self, n_cells=None, *, seed=None, **kwargs):
        n_cells = n_cells if sc.settings.verbosity.value else 1
        return super().generate(n_cells, seed=seed, **kwargs)


class DrawsGlobally(GeneShuffle):
    def generate(self, *args, **kwargs):
        np.random.random()  # noqa: NPY002
        return super().generate(*args, **kwargs)


# --- networks ---


class SortsRows(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        if indices is not None and np.asarray(indices).dtype.kind == "i":
            indices = np.sort(indices)
        return super().get_latent_representation(adata, indices, batch_size)


class GenesByPosition(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        if adata is not None and adata.n_vars >= 20:
            adata = adata[:, :20].to_memory() if adata.isbacked else adata[:, :20].copy()
            adata.var_names = [f"gene{j}" for j in range(20)]
        return super().get_latent_representation(adata, indices, batch_size)


class IgnoresTheLayer(AE):
    @classmethod
    def setup_anndata(cls, adata, layer=None, **kwargs):
        super().setup_anndata(adata, **kwargs)


class RoundsSilently(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        if adata is not None and adata.n_obs and adata.X is not None and not adata.isbacked:
            adata = adata.copy()
            adata.X = np.round(adata.X)
        return super().get_latent_representation(adata, indices, batch_size)


class WritesWhenLooking(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        if adata is not None:
            adata.uns["seen"] = True
        return super().get_latent_representation(adata, indices, batch_size)


class BatchSizeMatters(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        codes = super().get_latent_representation(adata, indices, batch_size)
        return codes if batch_size is None else codes + np.float32(0.01 * batch_size)


class DoublePrecision(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        return super().get_latent_representation(adata, indices, batch_size).astype(np.float64)


class Vague(AE):
    def get_latent_representation(self, adata=None, indices=None, batch_size=None):
        try:
            return super().get_latent_representation(adata, indices, batch_size)
        except DataError as error:
            raise DataError("the data do not fit") from error


class HistoryWithNaN(AE):
    def train(self, *args, **kwargs):
        super().train(*args, **kwargs)
        self.history_["elbo_train"].iloc[0] = np.nan


class OtherHistory(AE):
    """What it says of held-out cells is not theirs."""

    def train(self, *args, **kwargs):
        super().train(*args, **kwargs)
        if "elbo_validation" in self.history_:
            self.history_["elbo_validation"] *= 1.1


class SwallowsCtrlC(AE):
    def train(self, *args, **kwargs):
        try:
            super().train(*args, **kwargs)
        except KeyboardInterrupt:
            pass


class SeedOfTheProcess(AE):
    def train(self, *args, seed=None, **kwargs):
        super().train(*args, seed=next(COUNTER), **kwargs)


class ForgetsDropout(AE):
    def save(self, *args, **kwargs):
        whole, self.params = self.params, {k: v for k, v in self.params.items() if k != "dropout"}
        super().save(*args, **kwargs)
        self.params = whole


class ForgetsHistory(AE):
    def save(self, *args, **kwargs):
        whole, self.history_ = self.history_, None
        super().save(*args, **kwargs)
        self.history_ = whole


class ScaleOfDepth(AE):
    def get_reconstruction(self, *args, **kwargs):
        values = super().get_reconstruction(*args, **kwargs)
        return np.sign(values) * np.abs(values) ** np.float32(0.9)


class SteadyNoise(VAE):
    """Its ELBO does not profit from more draws."""

    def get_elbo(self, *args, n_samples=1, **kwargs):
        return super().get_elbo(*args, n_samples=min(n_samples, 1), **kwargs)


class CovariatesAsTheyAre(AE):
    def train(self, *args, **kwargs):
        if hasattr(self.module.covariates, "center"):
            self.module.covariates.center.zero_()
            self.module.covariates.scale.fill_(1.0)
        super().train(*args, **kwargs)


class NoBound(VAE):
    def get_marginal_ll(self, *args, **kwargs):
        return super().get_marginal_ll(*args, **kwargs) * 2


class NoDraw(VAE):
    def get_latent_representation(self, adata=None, indices=None, give_mean=True, *args, **kwargs):
        return super().get_latent_representation(adata, indices, True, *args, **kwargs)


BROKEN = {
    GeneratesDouble: {"new_cells_have_the_moments_of_the_cells"},
    IgnoresTheSeed: {"the_seed_decides_which_cells_are_drawn"},
    LabelsByPosition: {"new_cells_of_a_label_are_like_its_cells"},
    LabelsSorted: {"labels_are_asked_for_by_name_in_any_order"},
    UnmarkedCells: {"new_cells_carry_what_is_known_of_them"},
    GeneratesFractions: {"new_counts_are_counts"},
    WritesWhenGenerating: {"generating_writes_nothing"},
    TakesViews: {"a_view_is_refused_at_set_up"},
    LeavesPickles: {"the_folder_holds_no_pickle", "damaged_files_are_refused"},
    AlwaysOverwrites: {"an_existing_folder_is_replaced_only_if_asked"},
    LoadsAnyFolder: {
        "another_class_is_refused_by_name",
        "what_is_not_a_model_is_refused",
        "damaged_files_are_refused",
    },
    Prints: {"nothing_is_printed_or_left_behind"},
    LeavesFiles: {"nothing_is_printed_or_left_behind"},
    ChangesFilters: {"warning_filters_are_left_alone"},
    ChangesThreads: {"threads_and_dtypes_are_left_alone", "a_limit_of_threads_holds"},
    ChangesLoggers: {"loggers_are_left_alone"},
    ChangesSettings: {"settings_are_left_alone"},
    FollowsSettings: {"settings_of_others_have_no_influence"},
    DrawsGlobally: {"global_random_states_are_left_alone"},
    SortsRows: {"every_kind_of_matrix_gives_the_same_codes", "rows_come_in_the_order_asked_for"},
    GenesByPosition: {
        "genes_are_matched_by_name",
        "repeated_gene_names_are_refused",
        "genes_that_are_not_the_models_may_hold_anything",
        "values_that_are_not_counts_are_named",
        "cells_empty_in_the_models_genes_are_named",
    },
    IgnoresTheLayer: {
        "the_layer_is_honoured",
        "missing_keys_are_named_at_set_up",
        "the_reconstruction_has_the_unit_of_the_data",
    },
    RoundsSilently: {"values_that_are_not_counts_are_named", "another_scale_is_named"},
    WritesWhenLooking: {"looking_writes_nothing", "a_view_can_be_read"},
    BatchSizeMatters: {"batch_size_has_no_influence"},
    DoublePrecision: {"results_are_float32_with_a_row_per_cell"},
    Vague: {
        "rows_that_are_not_there_are_refused",
        "missing_genes_are_named",
        "repeated_gene_names_are_refused",
        "values_that_are_not_counts_are_named",
        "another_scale_is_named",
        "cells_without_counts_are_named",
        "cells_empty_in_the_models_genes_are_named",
        "missing_values_are_named",
        "unknown_categories_are_named_with_those_known",
        "no_cells_and_no_genes_are_refused",
        "batches_must_hold_cells",
        "a_loaded_model_is_the_saved_one_without_data",
    },
    HistoryWithNaN: {"genes_that_are_zero_everywhere_work", "history_is_complete_and_finite"},
    OtherHistory: {
        "held_out_elbo_is_the_models_on_the_held_out_cells",
        "early_stopping_keeps_the_best_weights",
    },
    SwallowsCtrlC: {
        "ctrl_c_leaves_a_usable_model",
        "ctrl_c_in_the_first_epoch_leaves_an_untrained_model",
    },
    SeedOfTheProcess: {
        "training_on_every_kind_of_matrix_is_the_same",
        "the_layer_is_honoured",
        "names_are_only_names",
        "a_size_factor_stands_for_the_total_count",
        "the_cells_can_be_copied_pickled_and_written",
        "same_seed_same_bits",
        "models_in_one_process_are_independent",
        "the_unit_of_a_covariate_does_not_matter",
        "cells_are_split_as_asked",
        "a_resumed_run_has_the_bits_of_an_unbroken_one",
        "settings_of_others_have_no_influence",
    },
    ForgetsDropout: {"everything_else_survives_saving"},
    ForgetsHistory: {"everything_else_survives_saving"},
    ScaleOfDepth: {
        "reconstructed_counts_follow_depth_and_codes_do_not",
        "decoded_cells_are_what_the_model_expects",
    },
    CovariatesAsTheyAre: {"the_unit_of_a_covariate_does_not_matter"},
    SteadyNoise: {"the_elbo_is_seeded_and_steadier_with_more_draws"},
    NoBound: {"the_elbo_is_a_bound"},
    NoDraw: {"the_posterior_and_draws_from_it"},
}
"""Checks that must fail for each model, and no others."""

SMALL = {"n_latent": 3, "hidden": (8,)}
ARGUMENTS = {ForgetsDropout: SMALL | {"dropout": 0.2}}
GENERATORS = [Model for Model in BROKEN if issubclass(Model, GeneShuffle)]
NETWORKS = [Model for Model in BROKEN if not issubclass(Model, GeneShuffle)]


def failures(Model, checks=None):
    """Messages of the checks that a model fails, by name."""
    arguments = ARGUMENTS.get(Model, {} if Model in GENERATORS else SMALL)
    try:
        lc.testing.check_model(Model, arguments=arguments, checks=checks)
    except lc.testing.ContractError as error:
        failed = error.table[error.table["outcome"] == "failed"]
        return dict(zip(failed["check"].str.removeprefix("check_"), failed["message"], strict=True))
    return {}


@pytest.fixture(autouse=True)
def _as_it_was(capsys, tmp_path, monkeypatch):
    """What these models do to the process is undone."""
    monkeypatch.chdir(tmp_path)
    threads, jobs = torch.get_num_threads(), sc.settings.n_jobs
    states = np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings():
        yield
    torch.set_num_threads(threads)
    sc.settings.n_jobs = jobs
    np.random.set_state(states)  # noqa: NPY002
    logging.getLogger("latentcell.broken").handlers.clear()


@pytest.mark.parametrize("Model", GENERATORS)
def test_a_generator_is_caught_by_just_these_checks(Model):
    found = failures(Model)
    assert set(found) == BROKEN[Model]
    assert all(len(message) > 20 for message in found.values())


@pytest.mark.parametrize("Model", NETWORKS)
def test_a_network_is_caught_by_these_checks(Model):
    expected = BROKEN[Model]
    assert set(failures(Model, [f"check_{name}" for name in expected])) == expected


@pytest.mark.slow
@pytest.mark.parametrize("Model", NETWORKS)
def test_a_network_is_caught_by_no_other_check(Model):
    assert set(failures(Model)) == BROKEN[Model]


def test_the_classes_that_are_broken_here_are_whole_otherwise():
    """What is not overridden is not to blame: the generator passes every check that its broken kin fail."""
    caught = set().union(*(BROKEN[Model] for Model in GENERATORS))
    lc.testing.check_model(GeneShuffle, checks=[f"check_{name}" for name in caught])
