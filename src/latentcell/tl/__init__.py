"""One-call verbs on AnnData, in scanpy's manner; each is imported on first use."""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "ae": "_embed",
    "augment": "_augment",
    "compare": "_compare",
    "compare_perturbation": "_compare_perturbation",
    "cvae": "_embed",
    "denoise": "_denoise",
    "desc": "_clusters",
    "describe_latent": "_describe",
    "disentangled_vae": "_embed",
    "enrich_latent_genes": "_enrich",
    "gan": "_gan",
    "interpolate": "_interpolate",
    "knock_down": "_knock_down",
    "latent_directions": "_directions",
    "move_along": "_move",
    "rank_latent_genes": "_latent_genes",
    "rank_switches": "_switches",
    "report": "_report",
    "saucie": "_clusters",
    "perturb": "_perturb",
    "scgen": "_embed",
    "scvis": "_maps",
    "sweep": "_sweep",
    "vae": "_embed",
    "vasc": "_maps",
    "vsc": "_embed",
}

__all__ = [
    "ae",
    "augment",
    "compare",
    "compare_perturbation",
    "cvae",
    "denoise",
    "desc",
    "describe_latent",
    "disentangled_vae",
    "enrich_latent_genes",
    "gan",
    "interpolate",
    "knock_down",
    "latent_directions",
    "move_along",
    "perturb",
    "rank_latent_genes",
    "rank_switches",
    "report",
    "saucie",
    "scgen",
    "scvis",
    "sweep",
    "vae",
    "vasc",
    "vsc",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
