"""What torch's other tools do with the layer: function transforms, data-parallel training."""

import pytest

from unchecked_layers import run_unchecked


def test_the_engines_that_hold_a_state_take_part_in_function_transforms():
    """In reverse: ``torch.compile`` has no room for a function with a rule for forward mode. The
    compiled engines know ``torch.autograd`` alone."""
    run_unchecked("""
x = inputs.double()
for case in cases[1:4]:
    layer = make(*case).double()
    expected = torch.autograd.functional.jacobian(layer, x)
    torch.testing.assert_close(torch.func.jacrev(layer)(x), expected)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
""")


def test_what_is_no_tensor_is_refused():
    run_unchecked("""
for bad in ([[0.0] * 5], None, inputs.numpy()):
    try:
        make("native", False)(bad)
    except TypeError as error:
        assert str(error) == f"inputs is a {type(bad).__name__}; allowed: a torch.Tensor"
    else:
        raise AssertionError
""")


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Each with half of the batch, gradients averaged by DistributedDataParallel over gloo."""
    run_unchecked(
        """
import sys
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.parallel import DistributedDataParallel

def train(forward, layer, batch):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        (forward(batch) - 0.3).square().mean().backward()
        optimizer.step()
    return layer.weights.detach()

def seeded(engine):
    return QuantumLayer(5, 2, engine=engine, generator=torch.Generator().manual_seed(0))

def work(rank, file):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    for engine in ("native", "statevector"):
        layer, batch = seeded(engine), inputs.repeat(2, 1)
        weights = train(DistributedDataParallel(layer), layer, batch.chunk(2)[rank])
        expected = seeded(engine)
        torch.testing.assert_close(weights, train(expected, expected, batch))
    dist.destroy_process_group()

context = multiprocessing.get_context("fork")
children = [context.Process(target=work, args=(rank, sys.argv[1])) for rank in range(2)]
for child in children:
    child.start()
for child in children:
    child.join()
    assert child.exitcode == 0
""",
        str(tmp_path / "rendezvous"),
    )
