"""The cell of a gated recurrent unit as one operator, as GPUs have it: gates in the order reset, update, new."""

import torch
from torch import Tensor


def cell(
    inputs: Tensor, hiddens: Tensor, state: Tensor, input_bias: Tensor | None = None, hidden_bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The next state (n, h), and what the way back needs; `inputs` and `hiddens` are the gates' products (n, 3 h)."""
    inputs = inputs if input_bias is None else inputs + input_bias
    hiddens = hiddens if hidden_bias is None else hiddens + hidden_bias
    (reset_in, update_in, new_in), (reset_h, update_h, new_h) = inputs.chunk(3, 1), hiddens.chunk(3, 1)
    reset, update = (reset_in + reset_h).sigmoid(), (update_in + update_h).sigmoid()
    new = (new_in + reset * new_h).tanh()
    return new + update * (state - new), torch.cat([reset, update, new, state, new_h], 1)


def cell_backward(slope: Tensor, saved: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    """Gradients of what `cell` takes, from that of the next state."""
    reset, update, new, state, new_h = saved.chunk(5, 1)
    by_new = slope * (1 - update) * (1 - new * new)
    by_update = slope * (state - new) * update * (1 - update)
    by_reset = by_new * new_h * reset * (1 - reset)
    by_inputs = torch.cat([by_reset, by_update, by_new], 1)
    by_hiddens = torch.cat([by_reset, by_update, by_new * reset], 1)
    biases = (by_inputs.sum(0), by_hiddens.sum(0)) if has_bias else (None, None)
    return by_inputs, by_hiddens, slope * update, *biases
