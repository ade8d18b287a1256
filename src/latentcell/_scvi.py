"""The only file that uses private names of scvi-tools; differences of its versions end here."""

from copy import deepcopy
from typing import Any

import numpy as np
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, fields

SCVI_PREFIX = "_scvi_"
"""Prefix of the slots (``obs``, ``obsm``, ``uns``) where scvi-tools keeps the codes of registered fields."""


def register(
    model_class: type, adata: AnnData, setup_args: dict[str, Any], source: dict | None = None
) -> None:
    """Register `adata` with `model_class` through scvi-tools' AnnDataManager.

    Parameters
    ----------
    model_class
        A subclass of :class:`scvi.model.base.BaseModelClass`.
    adata
        Cells. scvi-tools writes the codes of categorical fields to ``obs["_scvi_*"]``, of covariates to
        ``obsm["_scvi_*"]`` and two identifiers to ``uns["_scvi_*"]``.
    setup_args
        Arguments of ``setup_anndata`` by name.
    source
        Registry of the training data, whose categories the new data must follow.
    """
    manager = AnnDataManager(
        fields=[
            fields.LayerField(
                REGISTRY_KEYS.X_KEY, setup_args["layer"], is_count_data=False, correct_data_format=False
            ),
            fields.CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, setup_args["batch_key"]),
            fields.CategoricalObsField(REGISTRY_KEYS.LABELS_KEY, setup_args["labels_key"]),
            fields.NumericalObsField(
                REGISTRY_KEYS.SIZE_FACTOR_KEY, setup_args["size_factor_key"], required=False
            ),
            fields.CategoricalJointObsField(
                REGISTRY_KEYS.CAT_COVS_KEY, setup_args["categorical_covariate_keys"]
            ),
            fields.NumericalJointObsField(
                REGISTRY_KEYS.CONT_COVS_KEY, setup_args["continuous_covariate_keys"]
            ),
        ],
        setup_method_args={
            "model_name": model_class.__name__,
            "setup_method_name": "setup_anndata",
            "setup_args": setup_args,
        },
    )
    manager.register_fields(adata, source_registry=source)
    model_class.register_manager(manager)  # type: ignore[attr-defined]


def read_registry(registry: dict) -> dict[str, Any]:
    """What a model needs of a registry, as plain lists and strings.

    Returns
    -------
    ``setup_args``, ``genes`` and, for ``batch`` and ``labels``, the categories (None where no key was given;
    without the one that stands for an unknown label); ``categorical`` maps covariate keys to categories;
    ``continuous`` lists covariate keys.
    """
    args = {"unlabeled_category": None} | registry["setup_args"]
    state = {name: record["state_registry"] for name, record in registry["field_registries"].items()}
    categorical = state[REGISTRY_KEYS.CAT_COVS_KEY].get("mappings", {})
    return {
        "setup_args": dict(args),
        "genes": np.asarray(state[REGISTRY_KEYS.X_KEY]["column_names"]).tolist(),
        "batch": _categories(state, REGISTRY_KEYS.BATCH_KEY) if args["batch_key"] else None,
        "labels": _labels(state, args["unlabeled_category"]) if args["labels_key"] else None,
        "categorical": {key: np.asarray(values).tolist() for key, values in categorical.items()},
        "continuous": list(args["continuous_covariate_keys"] or []),
    }


def extend_batches(registry: dict, new: list) -> dict:
    """A copy of `registry` that knows the batches `new` as well, after those it knew."""
    extended = deepcopy(registry)
    field = extended["field_registries"][REGISTRY_KEYS.BATCH_KEY]
    known = np.asarray(field["state_registry"]["categorical_mapping"]).tolist()
    mapping = np.empty(len(known) + len(new), dtype=object)  # object: numpy would turn 1 and "a" into text
    mapping[:] = known + new
    field["state_registry"]["categorical_mapping"] = mapping
    field["summary_stats"]["n_batch"] = len(mapping)
    return extended


def registry_to_json(registry: Any) -> Any:
    """A registry as JSON-compatible objects; arrays become ``{"array": [...]}``."""
    if isinstance(registry, dict):
        return {str(key): registry_to_json(value) for key, value in registry.items()}
    if isinstance(registry, np.ndarray):
        return {"array": registry.tolist()}
    if isinstance(registry, list | tuple):
        return [registry_to_json(value) for value in registry]
    if isinstance(registry, np.generic):
        return registry.item()
    return registry


def registry_from_json(record: Any) -> Any:
    """The registry that :func:`registry_to_json` wrote."""
    if isinstance(record, dict):
        if set(record) == {"array"}:
            values = record["array"]
            is_text = any(isinstance(value, str) for value in values)
            return np.array(values, dtype=object if is_text else None)
        return {key: registry_from_json(value) for key, value in record.items()}
    if isinstance(record, list):
        return [registry_from_json(value) for value in record]
    return record


def _labels(state: dict, unlabeled: Any) -> list:
    return [label for label in _categories(state, REGISTRY_KEYS.LABELS_KEY) if label != unlabeled]


def _categories(state: dict, key: str) -> list:
    return np.asarray(state[key]["categorical_mapping"]).tolist()
