import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import latentcell as lc
from latentcell._errors import DataError


def layer(part, name, size, detail="", branch=None):
    return {"part": part, "name": name, "size": size, "detail": detail, "branch": branch}


VSC = [
    layer("input", "genes", 13714, "log1p"),
    layer("encoder", "Linear", 128, "batch norm, ReLU, dropout 0.1"),
    *[layer("encoder", "Linear", 16, "ReLU", branch) for branch in ("mean", "scale", "inclusion")],
    layer("latent", "mean", 6, branch="mean"),
    layer("latent", "scale", 6, "softplus", branch="scale"),
    layer("latent", "inclusion probability", 6, "sigmoid", branch="inclusion"),
    layer("latent", "z", 6, "spike and slab"),
    layer("decoder", "Linear", 128, "batch norm, ReLU, dropout 0.1"),
    layer("output", "genes", 13714, "negative binomial: mean, dispersion"),
]


def boxes(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyBboxPatch)]


def arrows(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def test_a_box_for_each_layer_in_rows():
    ax = lc.pl.architecture(VSC)
    tops = [round(box.get_y() + box.get_height(), 6) for box in boxes(ax)]
    assert len(tops) == len(VSC)
    assert tops == sorted(tops, reverse=True)
    rows = [tops.count(top) for top in dict.fromkeys(tops)]
    assert rows == [1, 1, 3, 3, 1, 1, 1]
    encoder_x = [box.get_x() for box in boxes(ax)[2:5]]
    assert encoder_x == sorted(set(encoder_x))


def test_arrows_stay_in_their_branch():
    # 1 into the encoder, 3 apart, 3 within branches, 3 together, decoder, output
    assert len(arrows(lc.pl.architecture(VSC))) == 1 + 3 + 3 + 3 + 1 + 1
    heads = [
        layer("latent", "z", 2),
        layer("output", "mean", 5, branch="mean"),
        layer("output", "size", 5, branch="r"),
    ]
    assert len(arrows(lc.pl.architecture(heads))) == 2
    ends = [
        layer("latent", "a", 2, branch="a"),
        layer("latent", "b", 2, branch="b"),
        layer("decoder", "c", 2, branch="c"),
    ]
    assert len(arrows(lc.pl.architecture(ends))) == 2


def test_width_grows_with_the_logarithm_of_the_size():
    ax = lc.pl.architecture([layer("encoder", "n", 10**power) for power in range(5)])
    widths = [box.get_width() for box in boxes(ax)]
    np.testing.assert_allclose(np.diff(widths), np.diff(widths)[0])
    assert widths[0] < widths[-1]


@pytest.mark.parametrize("size", [None, (9, 9), (3, 3), (8, 3)])
def test_text_fits_its_box(size):
    if size is None:
        ax = lc.pl.architecture(VSC)
    else:
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        assert lc.pl.architecture(VSC, ax=ax) is ax
        assert plt.get_fignums() == [figure.number]
    ax.figure.draw_without_rendering()
    frames = [box.get_window_extent() for box in boxes(ax)]
    inside = [text for text in ax.texts if text.get_text() not in ("encoder", "latent", "decoder")]
    assert len(inside) >= len(VSC)
    for text in inside:
        extent = text.get_window_extent()
        assert any(
            frame.x0 <= extent.x0
            and extent.x1 <= frame.x1
            and frame.y0 <= extent.y0
            and extent.y1 <= frame.y1
            for frame in frames
        ), text.get_text()
    for i, frame in enumerate(frames):
        assert not any(frame.overlaps(other) for other in frames[:i])


def test_texts_say_name_size_and_detail():
    texts = [text.get_text().replace("\n", " ") for text in lc.pl.architecture(VSC).texts]
    for expected in (
        "genes · 13,714",
        "log1p",
        "inclusion probability · 6",
        "negative binomial: mean, dispersion",
    ):
        assert expected in texts
    assert texts[-3:] == ["encoder", "latent", "decoder"]


def test_parts_have_their_colours():
    ax = lc.pl.architecture(VSC)
    edges = [box.get_edgecolor() for box in boxes(ax)]
    assert edges[1] == edges[4]
    assert len({edges[0], edges[1], edges[5], edges[9]}) == 4
    assert edges[0] == edges[-1]


def test_a_model_names_the_drawing():
    class SparseCoder:
        def get_architecture(self):
            return VSC

    assert lc.pl.architecture(SparseCoder()).get_title() == "SparseCoder"
    assert lc.pl.architecture(VSC).get_title() == ""


def test_dollars_are_text():
    ax = lc.pl.architecture([layer("input", "a$b$", 3)])
    assert ax.texts[0].get_text() == "a$b$ · 3"
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), "object has no method get_architecture"),
        ([], "no layers"),
        ([{"part": "input", "name": "genes"}], "layer 0.*'size'"),
        ([layer("middle", "x", 3)], "layer 0 has part 'middle'; use one of input, encoder"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(model, message):
    with pytest.raises(DataError, match=message):
        lc.pl.architecture(model)
    assert plt.get_fignums() == []
