"""What torch.compile does with the layer."""

import pytest

from unchecked_layers import run_unchecked


@pytest.mark.slow
def test_every_engine_compiles_into_one_graph():
    """Also with an input that needs the leading dimensions flattened."""
    run_unchecked("""
def compile_anew(layer):
    torch.compiler.reset()  # or a second shape makes a graph with symbols, at twice the time
    return torch.compile(layer, fullgraph=True, backend="aot_eager")

for case in cases:
    layer = make(*case)
    compiled = compile_anew(layer)
    x = inputs.clone().requires_grad_()  # one graph for values and gradients
    torch.testing.assert_close(compiled(x), layer(x))
    for one, other in zip(gradients(compiled, layer), gradients(layer, layer)):
        torch.testing.assert_close(one, other)
    if not layer.ansatz.reupload:  # the flattening does not depend on it
        compiled = compile_anew(layer)
        torch.testing.assert_close(compiled(inputs[None]), layer(inputs[None]))
""")


@pytest.mark.slow
def test_pennylane_is_left_out_of_the_graph():
    run_unchecked("""
layer = make("pennylane", False)
torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(inputs), layer(inputs))
""")
