"""Draw the figure of docs/choosing.md and print its tables, from what benchmarks/zoo.py measured.

python docs/figures/zoo.py [FILE]      # docs/_static/zoo.png unless told otherwise

Reads benchmarks/results/zoo/*.json, one file for each model, data set and seed.
"""

import json
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
ROWS = runpy.run_path(str(ROOT / "benchmarks/zoo_rows.py"))
MODELS = ROWS["MODELS"]
TITLES = {"pbmc3k": "PBMC3k", "cellmix": "cell lines", "kang": "Kang", "splatter": "Splatter", "yan": "Yan"}
DATA = {name: TITLES[name] for name in ROWS["DATA"]}
AGREEMENT = {
    "leiden ari": "Leiden at the best resolution, ARI",
    "leiden nmi": "Leiden at the best resolution, NMI",
    "kmeans ari": "k-means told the number, ARI",
}


def measured() -> pd.DataFrame:
    """All numbers: model, data, seed, measure, value."""
    runs = [json.loads(path.read_text()) for path in sorted((ROOT / "benchmarks/results/zoo").glob("*.json"))]
    return pd.DataFrame(runs).melt(["model", "data", "seed"], var_name="measure").dropna()


def summary(table: pd.DataFrame, measure: str, statistic: str) -> pd.DataFrame:
    """Models x data sets: mean or standard deviation over the seeds."""
    rows = table[table["measure"] == measure]
    wide = rows.groupby(["model", "data"])["value"].agg(statistic).unstack("data")
    return wide.reindex(index=MODELS, columns=list(DATA)).rename(columns=DATA)


def short(value: float) -> str:
    """Two digits, without a leading 0."""
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def with_spread(mean: float, std: float, best: bool = False) -> str:
    """Mean ± standard deviation, as it stands in a table; bold if it is the best."""
    if np.isnan(mean):
        return ""
    text = short(mean) + ("" if np.isnan(std) else f" ± {short(std)}")
    return f"**{text}**" if best else text


def as_rows(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def agreement(table: pd.DataFrame, measure: str) -> str:
    """One score: models x data sets; the best mean of each data set in bold."""
    mean, std = summary(table, measure, "mean"), summary(table, measure, "std")
    best = mean.round(2).max()
    rows = [
        [
            model,
            *(
                with_spread(
                    mean.loc[model, data], std.loc[model, data], round(mean.loc[model, data], 2) == best[data]
                )
                for data in mean
            ),
        ]
        for model in mean.index
    ]
    return as_rows(["model", *mean.columns], rows)


def price(table: pd.DataFrame) -> str:
    """Share of neighbours of the own batch, processor seconds and memory."""
    purity = [summary(table, "purity", statistic) for statistic in ("mean", "std")]
    seconds = summary(table, "CPU seconds", "mean")["PBMC3k"]
    memory = summary(table, "memory, GiB", "max")["PBMC3k"]
    rows = [
        [
            model,
            *(with_spread(*(part.loc[model, data] for part in purity)) for data in ("cell lines", "Kang")),
            f"{seconds[model]:.{1 if seconds[model] < 1 else 0}f}",
            f"{memory[model]:.1f}",
        ]
        for model in MODELS
    ]
    return as_rows(["model", "own batch, cell lines", "own condition, Kang", "seconds", "GiB"], rows)


def own_clusters(table: pd.DataFrame) -> str:
    """Clusters that models find by themselves: agreement, and how many."""
    score = [summary(table, "own ari", statistic) for statistic in ("mean", "std")]
    numbers = table[table["measure"] == "own clusters"].rename(columns={"data": "name"})
    rows = []
    for model in ("SAUCIE", "DESC"):
        row = [model]
        for name, data in DATA.items():
            found = numbers[(numbers["model"] == model) & (numbers["name"] == name)].sort_values("seed")[
                "value"
            ]
            counts = ", ".join(f"{value:.0f}" for value in found)
            row.append(f"{with_spread(*(part.loc[model, data] for part in score))} ({counts})")
        rows.append(row)
    return as_rows(["model", *DATA.values()], rows)


def tables() -> dict[str, str]:
    """All tables of the page, by what they show."""
    table = measured()
    found = {title: agreement(table, measure) for measure, title in AGREEMENT.items()}
    return found | {"clusters of the models' own": own_clusters(table), "batches and price": price(table)}


def draw(path: Path) -> None:
    """Every seed a dot, a panel for each data set."""
    table = measured()
    fig, axes = plt.subplots(1, len(DATA), figsize=(11, 4.4), sharey=True, layout="constrained")
    shown = [model for model in MODELS if model != "CVAE"]
    for ax, (name, title) in zip(axes, DATA.items(), strict=True):
        for measure, marker, color in (("leiden ari", "o", "#4477AA"), ("kmeans ari", "s", "#CCBB44")):
            rows = table[(table["measure"] == measure) & (table["data"] == name) & table["model"].isin(shown)]
            shift = -0.16 if measure == "leiden ari" else 0.16
            at = rows["model"].map(shown.index) + shift
            label = "Leiden, best resolution" if measure == "leiden ari" else "k-means, told the number"
            ax.plot(rows["value"], at, marker, color=color, ms=4, alpha=0.8, mew=0, label=label)
            pca = rows[rows["model"] == "PCA"]["value"].mean()
            ax.axvline(pca, color=color, lw=0.8, ls=":", zorder=0)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set(xlim=(-0.03, 1.03), xticks=[0, 0.5, 1], xticklabels=["0", ".5", "1"])
        for k in range(0, len(shown), 2):
            ax.axhspan(k - 0.5, k + 0.5, color="0.96", zorder=-1, lw=0)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(shown)), shown, fontsize=8)
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    fig.supxlabel("adjusted Rand index with the labels (each dot a seed; dotted: PCA's mean)", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/_static/zoo.png")
    for title, text in tables().items():
        print(f"{title}\n\n{text}\n")
