"""Networks: layers in their order, decoders that add up, loadings that can be read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from latentcell.nn.mlp import ACTIVATIONS, MLP, LinearDecoder, MLPDecoder, make_activation


def kinds(mlp):
    return [type(layer).__name__ for layer in mlp.layers]


@pytest.mark.parametrize("sizes", [(), (4,), (8, 3, 5)])
@pytest.mark.parametrize("norm", ["batch", "layer", None])
def test_shapes(sizes, norm):
    mlp = MLP(6, sizes, norm=norm, dropout=0.1)
    assert mlp.n_out == (sizes[-1] if sizes else 6)
    assert mlp(torch.randn(7, 6)).shape == (7, mlp.n_out)
    assert (
        tuple(layer.out_features for layer in mlp.layers if hasattr(layer, "out_features"))
        == sizes
        == mlp.sizes
    )


def test_no_layers_are_the_identity():
    x = torch.randn(3, 6)
    torch.testing.assert_close(MLP(6, ())(x), x, rtol=0, atol=0)


def test_layers_come_in_the_order_linear_norm_activation_dropout():
    block = ["Linear", "BatchNorm1d", "ELU", "Dropout"]
    first = ["InputLinear", *block[1:]]
    assert kinds(MLP(6, (4, 3), activation="elu", dropout=0.2)) == first + block
    assert kinds(MLP(6, (4,), norm="layer", activation="relu")) == ["InputLinear", "LayerNorm", "ReLU"]
    assert kinds(MLP(6, (4,), norm=None, activation="relu")) == ["InputLinear", "ReLU"]


def test_first_linear_leaves_only_the_first_layer_without_activation():
    mlp = MLP(6, (4, 3), norm=None, activation="relu", first_linear=True)
    assert kinds(mlp) == ["InputLinear", "Linear", "ReLU"]
    x = torch.randn(20, 6)
    first, second = mlp.layers[0], mlp.layers[1]
    torch.testing.assert_close(mlp(x), F.relu(second(first(x))))
    assert (first(x) < 0).any()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_name(name):
    x = torch.linspace(-2, 2, 9)
    expected = x if name == "identity" else getattr(F, name, getattr(torch, name, None))(x)
    torch.testing.assert_close(make_activation(name)(x), expected)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'swish'; choose one of"):
        MLP(3, (2,), activation="swish")
    with pytest.raises(ValueError, match="norm must be"):
        MLP(3, (2,), norm="group")
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\)"):
            MLP(3, (2,), dropout=dropout)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_decoders_give_every_output_of_every_draw_and_start_at_the_bias(kind):
    outputs = ("mean", "dropout")
    decoder = MLPDecoder(3, 2, 9, outputs, sizes=(4,)) if kind == "mlp" else LinearDecoder(3, 2, 9, outputs)
    decoder.eval()
    bias = torch.linspace(-1, 1, 9)
    decoder.set_bias("mean", bias)
    z, covariates = torch.randn(5, 3), torch.randn(5, 2)
    out = decoder(z, covariates)
    assert set(out) == set(outputs)
    assert all(value.shape == (5, 9) for value in out.values())
    body = decoder.body(torch.cat([z, covariates], 1)) if kind == "mlp" else None
    head = decoder.heads["mean"].bias if kind == "mlp" else decoder.bias["mean"]
    torch.testing.assert_close(head.detach(), bias)
    if kind == "mlp":
        weight, beside = decoder.heads["mean"].weight.split([4, 2], dim=1)
        assert not beside.any()
        torch.testing.assert_close(out["mean"], F.linear(body, weight, bias))
    else:
        torch.testing.assert_close(decoder(torch.zeros(5, 3), covariates)["mean"], bias.expand(5, 9))
    draws = decoder(z.expand(2, 5, 3), covariates.expand(2, 5, 2))["mean"]
    torch.testing.assert_close(draws, out["mean"].expand(2, 5, 9))


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_a_covariate_shifts_an_output_directly_and_once(sizes):
    decoder = MLPDecoder(3, 2, 9, ("mean",), sizes=sizes, norm=None)
    z, shift = torch.randn(5, 3), torch.randn(9)
    with torch.no_grad():
        decoder.heads["mean"].weight[:, -1] += shift
        if sizes:
            decoder.body.layers[0].weight[-1] = 0.0  # the last covariate no longer reaches the hidden layer
    off, on = torch.zeros(5, 2), torch.tensor([0.0, 1.0]).expand(5, 2)
    weight = decoder.heads["mean"].weight[:, -1]
    difference = decoder(z, on)["mean"] - decoder(z, off)["mean"]
    torch.testing.assert_close(difference, weight.expand(5, 9))
    n_columns = 3 + 2 if not sizes else 4 + 2
    assert decoder.heads["mean"].weight.shape == (9, n_columns)


weights = st.lists(st.floats(-30, 30), min_size=8, max_size=8).map(
    lambda w: torch.tensor(w).reshape(4, 2).double()
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(weights, st.tuples(st.floats(0, 5), st.floats(0, 5)), st.tuples(st.floats(0, 5), st.floats(0, 5)))
def test_non_negative_decoder_only_adds(weight, first, second):
    """Loadings are positive, contributions add up, and more of a dimension is never less of a gene."""
    decoder = LinearDecoder(2, 0, 4, ("mean",), non_negative=True).double()
    decoder.weight["mean"].data.copy_(weight)
    decoder.set_bias("mean", torch.tensor([0.5, -1, 2, 0]))
    assert (decoder.loadings() > 0).all()
    nothing = torch.zeros(1, 0).double()
    a, b = torch.tensor([first]).double(), torch.tensor([second]).double()
    at = {name: decoder(z, nothing)["mean"] for name, z in (("0", 0 * a), ("a", a), ("b", b), ("a+b", a + b))}
    torch.testing.assert_close(at["a+b"] - at["0"], (at["a"] - at["0"]) + (at["b"] - at["0"]))
    assert (at["a+b"] >= at["a"]).all()
    expected = sum(a[0, j] * F.softplus(weight)[:, j] for j in range(2)) + decoder.bias["mean"]
    torch.testing.assert_close(at["a"][0], expected)


def test_loadings_are_the_weights_of_a_signed_linear_decoder():
    decoder = LinearDecoder(2, 0, 50, ("mean",))
    assert decoder.loadings() is decoder.weight["mean"]
    assert (decoder.loadings() < 0).any()
    one = decoder(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 0))["mean"][0]
    torch.testing.assert_close(one, decoder.loadings()[:, 0])


def test_non_negative_loadings_start_small_and_about_equal():
    start = LinearDecoder(20, 0, 500, ("mean", "other"), non_negative=True)
    assert start.loadings().median().item() == pytest.approx(F.softplus(torch.tensor(-3.0)).item(), rel=0.03)
    assert start.weight["mean"].std().item() == pytest.approx(0.5, rel=0.03)
    assert start.loadings("other").min() < 0  # only the mean's are loadings


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({}, "batch norm, ReLU"),
        ({"norm": None, "activation": "leaky_relu", "dropout": 0.25}, "leaky ReLU, dropout 0.25"),
        ({"norm": "layer", "activation": "identity"}, "layer norm"),
    ],
)
def test_a_drawing_tells_what_layers_do(arguments, detail):
    assert MLP(6, (4,), **({"activation": "relu"} | arguments)).detail == detail


def test_covariates_of_a_non_negative_decoder_are_signed_and_start_at_nothing():
    decoder = LinearDecoder(2, 1, 3, ("mean",), non_negative=True)
    z = torch.ones(1, 2)
    torch.testing.assert_close(decoder(z, torch.ones(1, 1))["mean"], decoder(z, torch.zeros(1, 1))["mean"])
    with torch.no_grad():
        decoder.covariate_weight["mean"].copy_(torch.tensor([[-2.0], [0.0], [3.0]]))
    change = decoder(z, torch.ones(1, 1))["mean"] - decoder(z, torch.zeros(1, 1))["mean"]
    torch.testing.assert_close(change, torch.tensor([[-2.0, 0.0, 3.0]]))


@pytest.mark.parametrize("genes", [10, 5000])
def test_large_products_without_gradients_are_the_same(genes):
    torch.manual_seed(0)
    decoder = MLPDecoder(4, 2, genes, ("mean",), sizes=(32,)).eval()
    z, covariates = torch.randn(64, 4), torch.randn(64, 2)
    known = decoder(z, covariates)["mean"]
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            found = decoder(z, covariates, values_only=True)["mean"]
        assert found.layout == torch.strided
        torch.testing.assert_close(found, known.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
def test_derivatives_forward_need_no_gradient_mode():
    decoder = MLPDecoder(4, 0, 5000, ("mean",), sizes=(32,)).eval().double()
    z, none = torch.randn(64, 4).double(), torch.empty(64, 0).double()
    with torch.inference_mode():
        _, slope = torch.func.jvp(lambda z: decoder(z, none)["mean"], (z,), (torch.ones_like(z),))
        step = 1e-7
        moved = decoder(z + step, none)["mean"] - decoder(z - step, none)["mean"]
    torch.testing.assert_close(slope, moved / (2 * step), rtol=1e-4, atol=1e-5)
