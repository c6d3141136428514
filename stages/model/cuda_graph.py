"""The forward and backward pass of a training step as a CUDA graph, recorded once and launched as one.

A step of HRNet is thousands of short kernels, which Python launches more slowly than a GPU runs them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

WARM_UP = 3  # batches computed as usual first, in which libraries allocate what they may not while one is recorded


def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A function that runs what `work` gave the GPU again, and the tensor that has its result afterwards.

    Other threads go on while it is recorded: one of them draws and pins the next batch.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph.replay, result


class CudaGraph:
    """`gradients` of stages/model/fit.py by a CUDA graph; every batch has the same size.

    Batches with landmarks that are not annotated are computed as usual: how many maps they have differs.
    """

    def __init__(self, gradients: Callable[..., Tensor]):
        self.gradients, self.seen = gradients, 0
        self.replay: Callable[[], None] | None = None

    def __call__(
        self, network: nn.Module, train, images: Tensor, maps: Tensor, annotated: Tensor | None = None, *rest: float
    ) -> Tensor:
        """The loss, until the next call; every parameter has its gradient."""
        if annotated is not None or self.seen < WARM_UP:
            self.seen += 1
            return self.gradients(network, train, images, maps, annotated, *rest)
        if self.replay is None:
            self.images, self.maps = images.clone(), maps.clone()
            self.replay, self.loss = record(lambda: self.gradients(network, train, self.images, self.maps))
            self.results = [(parameter, parameter.grad) for parameter in network.parameters()]
        self.images.copy_(images)
        self.maps.copy_(maps)
        self.replay()
        for parameter, gradient in self.results:  # a batch in between has others
            parameter.grad = gradient
        return self.loss
