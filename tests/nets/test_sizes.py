"""Networks that are built without a recipe refuse sizes of nothing, by name."""

import pytest

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.conv import ConvEnergy
from pipeline.nets.counts import CountsDecoder
from pipeline.nets.encoder import build_encoder
from pipeline.nets.energy_with_constant import EnergyWithConstant
from pipeline.nets.generator import build_decoder
from pipeline.nets.layered import LayeredGenerator, StepSize
from pipeline.nets.mlp import MLP, MLPEnergy
from pipeline.nets.nonlocal_conv import NonLocalEnergy

IMAGE, VECTOR = Spec("image", (1, 8, 8), 10), Spec("vector", (2,), 0)
COUNTS = Spec("counts", (2,), 0, (0.5, 0.5))


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("width", lambda: ConvEnergy(IMAGE.shape, 0, 0.2)),
        ("width", lambda: NonLocalEnergy(IMAGE.shape, 0, 0.2)),
        ("width", lambda: MLP(2, (4, 0), 1, 0.2)),
        ("width", lambda: MLPEnergy(2, (0,), 0.2)),
        ("width", lambda: EnergyWithConstant(IMAGE, 3, 0, 0.2)),
        ("width", lambda: EnergyWithConstant(VECTOR, 0, 0, 0.2)),
        ("width", lambda: build_encoder("conv", IMAGE, 3, 0, 0.2)),
        ("width", lambda: build_encoder("mlp", IMAGE, 3, 0, 0.2)),
        ("latent_dim", lambda: build_encoder("mlp", VECTOR, 0, 4, 0.2)),
        ("latent_dim", lambda: build_encoder("conv", IMAGE, 0, 4, 0.2)),
        ("width", lambda: build_decoder("conv", 3, IMAGE, 0, 0.2)),
        ("latent_dim", lambda: build_decoder("conv", 0, IMAGE, 4, 0.2)),
        ("width", lambda: build_decoder("mlp", 3, IMAGE, 0, 0.2)),
        ("latent_dim", lambda: build_decoder("mlp", 0, VECTOR, 4, 0.2)),
        ("width", lambda: CountsDecoder(3, COUNTS, 0, 0.2)),
        ("latent_dim", lambda: CountsDecoder(0, COUNTS, 4, 0.2)),
        ("latent_dims", lambda: LayeredGenerator((), VECTOR, 4, 0.2)),
        ("latent_dims", lambda: LayeredGenerator((3, 0), VECTOR, 4, 0.2)),
        ("width", lambda: LayeredGenerator((3,), VECTOR, 0, 0.2)),
        ("step_size", lambda: StepSize(0.0)),
    ],
)
def test_a_size_of_nothing_is_refused_by_name(field, make):
    with pytest.raises(InputError, match=f"^{field}="):
        make()
