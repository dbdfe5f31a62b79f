"""Mistakes that a GPU refuses or waits for, one a function, at the line that says so. `x` is (3, 4), on the device."""

import numpy as np
import torch


def mixed_devices(x):
    return x + torch.ones(4)  # refused


def a_list_of_both_devices(x):
    return torch.cat([x, torch.ones(3, 4)])  # refused


def a_generator_of_the_host(x):
    return x.normal_(generator=torch.Generator().manual_seed(0))  # refused


def a_generator_of_the_device(x):
    return torch.empty(3).normal_(generator=torch.Generator("cuda").manual_seed(0))  # refused


def a_sum_into_the_host(x):
    return torch.zeros(3, 4).add_(x)  # refused


def an_index_of_the_device_into_the_host(x):
    return torch.arange(5)[x[:, 0].long()]  # refused


def weights_of_the_host(x):
    return torch.nn.Linear(4, 2)(x)  # refused


def rows_by_an_index_of_the_host(x):
    return x.index_select(0, torch.tensor([0, 2]))  # refused


def numpy_of_the_device(x):
    return x.numpy()  # type error


def an_array_of_the_device(x):
    return np.asarray(x)  # type error


def a_number(x):
    return x.sum().item()  # read


def a_branch(x):
    return 1 if x.sum() > 0 else 2  # read


def a_list_of_numbers(x):
    return x[0].tolist()  # to host


def a_comparison(x):
    return torch.equal(x, x)  # read


def a_mask(x):
    return x[x > 0]  # shape


def a_masked_assignment(x):
    x[x > 0] = 1.0  # nothing: it is a fill
    x[x > 0] = x[x > 0]  # shape


def places(x):
    return (x > 0).nonzero()  # shape


def a_decomposition(x):
    return torch.linalg.eigvalsh(x @ x.T)  # shape


def a_copy_to_the_host(x):
    return x.cpu()  # to host


def a_constant_made_on_the_host(x):
    return x * torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device)  # to device


def an_index_of_the_host(x):
    return x[torch.tensor([0, 2])]  # to device


def a_wait_by_name(x):
    torch.cuda.synchronize()  # synchronize


def a_mask_on_the_way_back(x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(Masked.apply(x).sum(), x)


class Masked(torch.autograd.Function):
    """Zero where x is negative, with a gradient that waits."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        slope = slope.clone()
        slope[(x < 0).nonzero(as_tuple=True)] = 0.0  # shape
        return slope


def doubles(x):
    return x.double() + 1  # float64
