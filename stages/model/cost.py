"""What a model costs, as far as no clock is needed to tell, and the name by which the measured times are found."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stages.model.hrnet import HRNetConfig


def cost(model: nn.Module, size: int) -> dict[str, float]:
    """parameters; megabytes, of 10⁶ bytes, that they take in the file; gflops of one face of `size` px square.

    A multiplication and an addition count as two operations; counted are the convolutions and matrix products, which
    are all but a few per cent. Buffers (the batch norms' statistics) are no parameters, but lie in the file.
    """
    device = next(model.parameters()).device
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, size, size, device=device))
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "megabytes": sum(each.nbytes for each in model.state_dict().values()) / 1e6,
        "gflops": counter.get_total_flops() / 1e9,
    }


def workload(network: HRNetConfig, size: int, flip_test: bool) -> str:
    """What is computed for a face, in words: the same words, the same time (but for how many landmarks there are)."""
    modules = "-".join(map(str, network.modules))
    parts = f"W{network.width}, stem {network.stem}, {network.bottlenecks} bottlenecks, modules {modules}"
    return f"{parts}, {network.blocks} blocks, {size} px" + (", flip test" if flip_test else "")
