import pytest
import torch

from pipeline.errors import InputError
from pipeline.nets.nonlocal_conv import NonLocal, NonLocalEnergy
from pipeline.rng import generator, seeded


@pytest.fixture
def block():
    with seeded(0):
        return NonLocal(6)


def test_a_new_block_is_the_identity(block):
    x = torch.randn(2, 6, 8, 8, generator=generator(0))
    assert torch.equal(block(x), x)


def test_block_is_attention_over_pooled_pixels(block):
    # with uniform queries, attention is the mean of the pooled values
    with torch.no_grad():
        for p in block.query.parameters():
            p.zero_()
        block.out.weight.copy_(torch.eye(6, 3)[:, :, None, None])
    x = torch.randn(2, 6, 8, 8, generator=generator(0))
    pooled = torch.nn.functional.max_pool2d(block.value(x), 2).mean((2, 3), keepdim=True)
    torch.testing.assert_close((block(x) - x)[:, :3], pooled.expand(2, 3, 8, 8))
    assert (block(x) - x)[:, 3:].abs().max() == 0


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_energies_of_a_batch_are_those_of_its_items(shape):
    with seeded(0):
        energy = NonLocalEnergy(shape, 4, 0.05)
        for block in energy:
            if isinstance(block, NonLocal):
                torch.nn.init.normal_(block.out.weight)
    x = torch.randn(5, *shape, generator=generator(0))
    one = torch.cat([energy(item[None]) for item in x])
    torch.testing.assert_close(energy(x), one, atol=1e-5, rtol=1e-4)
    assert one.std() > 0


@pytest.mark.parametrize(
    ("shape", "width", "complaint"), [((1, 7, 9), 4, "7x9 are too small"), ((1, 8, 8), 0, "width=0: must be 1 or more")]
)
def test_small_images_and_widths_are_refused(shape, width, complaint):
    with pytest.raises(InputError, match=complaint):
        NonLocalEnergy(shape, width, 0.05)
