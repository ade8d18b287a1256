"""Draw the figure of docs/performance.md from what benchmarks/speed.py measured.

python docs/figures/performance.py [FILE]      # docs/_static/performance.png unless told otherwise

Reads benchmarks/results/speed/*.csv, written by ``benchmarks/speed.py epoch size ... --out FILE.csv``.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
COLORS = {"latentcell": "#4477AA", "SCVI": "#BBBBBB"}
LIKELIHOODS = {"nb": "NB", "zinb": "ZINB", "poisson": "Poisson", "normal": "normal"}


def measured() -> pd.DataFrame:
    """All rows: command, threads, data, method, metric, value."""
    return pd.concat(
        [pd.read_csv(path) for path in sorted((ROOT / "benchmarks/results/speed").glob("*.csv"))]
    )


def epochs(ax: plt.Axes, table: pd.DataFrame) -> None:
    """Times as fast as SCVI: medians of rounds."""
    rows = table[(table["command"] == "epoch") & (table["metric"] == "seconds")]
    medians = rows.groupby(["data", "threads", "method"])["value"].median().unstack("method")
    ratio = medians["SCVI"] / medians["latentcell"]
    shades = {("2000 genes", 1): "#4477AA", ("2000 genes", 2): "#99BBDD"}
    shades |= {("13714 genes", 1): "#228833", ("13714 genes", 2): "#99CC99"}
    for k, ((genes, threads), color) in enumerate(shades.items()):
        found = [ratio.get((f"{genes}, {name}", threads), np.nan) for name in LIKELIHOODS]
        label = f"{int(genes.split()[0]):,} genes, {threads} thread{'s'[: threads - 1]}"
        bars = ax.bar(np.arange(len(found)) + 0.2 * (k - 1.5), found, 0.18, color=color, label=label)
        ax.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    ax.axhline(1, color="0.3", lw=0.8)
    ax.set_xticks(range(len(LIKELIHOODS)), list(LIKELIHOODS.values()))
    ax.set_ylabel("times as fast as SCVI")
    ax.set_title("An epoch of PBMC3k", loc="left", fontsize=10)
    ax.legend(frameon=False, fontsize=7)


def growth(ax: plt.Axes, table: pd.DataFrame) -> None:
    """Cells per second against the number of cells."""
    rows = table[(table["command"] == "size") & (table["metric"] == "cells per second")]
    rows = rows.assign(cells=rows["data"].str.extract(r"(\d+)")[0].astype(int))
    for method, own in rows.groupby("method"):
        rate = own.groupby("cells")["value"].median()
        ax.plot(rate.index, rate, "o-", color=COLORS[method], label=method)
        last = rate.index[-1], rate.iloc[-1]
        ax.annotate(f"{last[1]:,.0f}", last, (0, 6), textcoords="offset points", ha="center", fontsize=7)
    ax.set(xscale="log", yscale="log", xlabel="cells in memory", ylabel="cells trained on per second")
    ax.set_ylim(500, 100_000)
    ax.set_title("As data grow (NB, 2,000 genes)", loc="left", fontsize=10)
    ax.legend(frameon=False, fontsize=7, loc="lower left")


def bounds(ax: plt.Axes, table: pd.DataFrame) -> None:
    """Processor seconds of whole default runs, and until SCVI's last held-out bound."""
    rows = table[table["command"] == "bound"].pivot_table(
        index=["data", "seed"], columns=["method", "metric"], values="value"
    )
    names = {"pbmc3k": "PBMC3k", "kang": "Kang", "cellmix": "cell lines", "simulated": "50k simulated"}
    names = {key: label for key, label in names.items() if key in rows.index.get_level_values(0)}
    for y, key in enumerate(names):
        own = rows.loc[key]
        for method, offset, color in (
            ("SCVI", 0.22, "#BBBBBB"),
            ("nb", 0, "#4477AA"),
            ("zinb", -0.22, "#228833"),
        ):
            seconds = own[method, "seconds"].mean()
            ax.barh(y + offset, seconds, 0.2, color=color, label=method if y == 0 else None)
            ax.text(seconds * 1.1, y + offset, f"{seconds:,.0f} s", fontsize=7, va="center")
            until = own[method, "until SCVI's last"]
            if method != "SCVI" and until.notna().all():
                ax.plot(until.mean(), y + offset, "|", color="black", ms=9)
    ax.set(xscale="log", xlabel="processor seconds (|: SCVI's last bound reached)")
    ax.set_xlim(0.1, ax.get_xlim()[1] * 3)
    ax.set_yticks(range(len(names)), list(names.values()))
    ax.set_title("A default run", loc="left", fontsize=10)
    ax.set_ylim(-0.5, len(names) - 0.1)
    methods = ["SCVI", "latentcell NB", "ZINB"]
    ax.legend(ax.containers[:3], methods, frameon=False, fontsize=7, loc="upper left", ncols=3)


def main() -> None:
    """Three panels."""
    table = measured()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, draw in zip(axes, (epochs, growth, bounds), strict=True):
        draw(ax, table)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/_static/performance.png", dpi=130)


if __name__ == "__main__":
    main()
