"""Cuts a classifier of timm into parts that run one after another, where its `feature_info` names no list of layers.

The network's own forward pass is traced down to the modules that `feature_info` names, and the trace is cut behind each
of them. So whatever stands between them, such as class tokens and positions, is part of a block as timm computes it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, fx, nn

from layerwise.models.heads import FullPrecisionLinear


class CannotCut(Exception):
    """The network's forward pass is no chain of the modules that `feature_info` names."""


def cut(network: Any) -> list[nn.Module]:
    """Returns the blocks of a network and, last, what follows them; one after another they are the network.

    A network that keeps one resolution, such as a vision transformer, has its embedding as block 1. Feature maps lie
    between the blocks as [B, C, H, W], tokens as [B, N, C].

    Raises:
        CannotCut: says why.
    """
    try:
        names = [info["module"] for info in network.feature_info]
        reductions = {info["reduction"] for info in network.feature_info}
    except (AttributeError, KeyError) as error:
        raise CannotCut("timm does not say where its stages end") from error
    graph = _traced(network, {f"{ROOT}.{name}" for name in names})
    ends = [node for node in graph.nodes if node.op == "call_module" and node.target.removeprefix(f"{ROOT}.") in names]
    if not names or len(ends) != len(names):
        raise CannotCut("its stages are no modules that run once each")
    (first,) = [node for node in graph.nodes if node.op == "placeholder"]
    (last,) = [node for node in graph.nodes if node.op == "output"]
    entry = ends[0].args[0]
    embedding = [entry] if len(reductions) == 1 and isinstance(entry, fx.Node) and entry is not first else []
    cuts = [first, *embedding, *ends, last.args[0]]
    parts = [_part(network, begin, end) for begin, end in pairwise(cuts)]
    shared = [id(parameter) for part in parts for parameter in part.parameters()]
    if len(shared) != len(set(shared)):
        raise CannotCut("its stages share parameters")
    return _with_channels_first(parts) if getattr(network, "output_fmt", None) == "NHWC" else parts


ROOT = "network"


class _Whole(nn.Module):
    """A network with its input as the only argument."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x)


class _Tracer(fx.Tracer):
    """Looks into the containers of some modules, and into no others."""

    def __init__(self, named: set[str]) -> None:
        from timm.layers._fx import get_notrace_functions  # slow to import

        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.containers = {name.rsplit(".", depth)[0] for name in named for depth in range(1, name.count(".") + 1)}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.containers


def _traced(network: nn.Module, named: set[str]) -> fx.Graph:
    try:
        return _Tracer(named).trace(_Whole(network))
    except (fx.proxy.TraceError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise CannotCut("its forward pass cannot be traced") from error


def _part(network: nn.Module, begin: fx.Node, end: fx.Node) -> nn.Module:
    """The module from one node of the trace to another; of a single module itself."""
    graph = fx.Graph()
    copies = {begin: graph.placeholder("x")}

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            if node.op == "placeholder" or str(node.target).startswith("_tensor_constant"):
                raise CannotCut("a stage reads more than the outputs of the stage before it")
            copies[node] = graph.node_copy(node, copied)
            if node.op in ("call_module", "get_attr"):
                copies[node].target = str(node.target).removeprefix(f"{ROOT}.")
        return copies[node]

    graph.output(copied(end))
    if [node.op for node in graph.nodes] == ["placeholder", "call_module", "output"]:
        return network.get_submodule(str(copies[end].target))
    return fx.GraphModule(network, graph, f"{type(network).__name__}Part")


def _with_channels_first(parts: list[nn.Module]) -> list[nn.Module]:
    """Parts that hand over [B, H, W, C] as those that hand over [B, C, H, W]."""
    from torchvision.ops import Permute

    before, behind = Permute([0, 2, 3, 1]), Permute([0, 3, 1, 2])
    first, *middle, last = parts
    inner = [nn.Sequential(before, part, behind) for part in middle]
    return [nn.Sequential(first, behind), *inner, nn.Sequential(before, last)]


def with_exact_scores(network: Any) -> Any:
    """A network whose linear classifiers compute in float32 under autocast, too (`FullPrecisionLinear`)."""
    names = network.pretrained_cfg["classifier"]
    for name in [names] if isinstance(names, str) else names:
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Linear):
            exact = FullPrecisionLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            exact.load_state_dict(layer.state_dict())
            network.set_submodule(name, exact)
    return network
