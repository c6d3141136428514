"""What a model costs: parameters, bytes, FLOPs, and the key by which its measured times are looked up."""

import torch
from torch import nn

from stages.model.hrnet import HRNetConfig


def cost(model: nn.Module, size: int) -> dict[str, float]:
    """parameters; megabytes (10⁶ bytes) of the file; gflops of one face of `size` px square.

    A multiplication and an addition count as two operations; counted are the convolutions, which are all but a few per
    cent. Buffers (the batch norms' statistics) are in the file, but are not parameters.
    """
    device = next(model.parameters()).device
    operations = []

    def count(layer: nn.Conv2d, _, output: torch.Tensor) -> None:
        operations.append(2 * output.numel() * layer.weight[0].numel())

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, size, size, device=device))
    for hook in hooks:
        hook.remove()
    return {
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
        "megabytes": sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e6,
        "gflops": sum(operations) / 1e9,
    }


def workload(network: HRNetConfig, size: int, flip_test: bool) -> str:
    """What is computed for a face, in words: equal words mean equal time, but for the number of landmarks."""
    modules = "-".join(map(str, network.modules))
    parts = f"W{network.width}, stem {network.stem}, {network.bottlenecks} bottlenecks, modules {modules}"
    return f"{parts}, {network.blocks} blocks, {size} px" + (", flip test" if flip_test else "")
