"""The dimensions of a code: their genes, and the groups in which they are on."""

from html import escape

import numpy as np
import pandas as pd

from .html import heads, number, scrolling


def dimension_table(table: pd.DataFrame) -> str:
    """A row for each active dimension of ``lc.tl.describe_latent``; the others are counted below."""
    active = table[table["active"]]
    words = {"best_group": "tells best", "auroc": "AUROC", "on_group": "on most in"}
    words |= {"genes_up": "genes up", "genes_down": "genes down"}
    words = {column: word for column, word in words.items() if column in table}
    rows = ""
    for name, row in active.iterrows():
        inner = f"<td>{row['on_fraction']:.0%}</td>"
        for column in words:
            inner += f"<td>{_told(column, row)}</td>"
        rows += f'<tr><th scope="row">{escape(str(name))}</th>{inner}</tr>'
    n_idle = len(table) - len(active)
    idle = (
        f"<p>{n_idle} of {len(table)} dimensions say nothing about these cells (their codes hardly vary) "
        f"and are "
        f"left out: {escape(', '.join(map(str, table.index[~table['active']])))}.</p>"
        if n_idle
        else ""
    )
    if not rows:
        return idle
    body = f"<thead><tr>{heads('dimension', 'on in', *words.values())}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="dims">{scrolling("What each dimension is about", body)}</div>{idle}'


def _told(column: str, row: pd.Series) -> str:
    if column == "auroc":
        return number(row[column])
    if column.startswith("genes"):
        return f'<span class="genes">{escape(row[column]) or "none"}</span>'
    direction = f" ({row['direction']})" if column == "best_group" and row[column] else ""
    return escape(row[column] or "none") + direction


def on_table(table: pd.DataFrame) -> str:
    """Share of the cells of each group in which each active dimension is on, shaded."""
    shares = table.loc[table["active"], [c for c in table if str(c).startswith("on: ")]]
    if shares.empty:
        return ""
    groups = [str(column).removeprefix("on: ") for column in shares]
    rows = ""
    for name, row in shares.iterrows():
        inner = "".join(_shaded(float(share)) for share in row)
        rows += f'<tr><th scope="row">{escape(str(name))}</th>{inner}</tr>'
    head = '<th scope="col">dimension</th>' + "".join(
        f'<th scope="col">{escape(group)}</th>' for group in groups
    )
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="heat">{scrolling("Share of each group in which a dimension is on (%)", body)}</div>'


def _shaded(share: float) -> str:
    """A cell whose background says what its number says; never too dark for dark text."""
    if not np.isfinite(share):
        return "<td>–</td>"
    return f'<td style="background: rgb(0 114 178 / {0.6 * share:.2f})">{100 * share:.0f}</td>'
