"""Values of options of the networks. Imports no torch: the command line reads it."""

from __future__ import annotations

from enum import Enum


class Activation(Enum):
    """Values of `model.activation`: ρ."""

    relu = "relu"
    gelu = "gelu"
    silu = "silu"
    tanh = "tanh"
    sigmoid = "sigmoid"
    none = "none"


class Downsampling(Enum):
    """Names of the operators, as in `model.downsampling`."""

    invertible = "invertible"
    stride = "stride"
    average = "average"
    max = "max"
    max_after = "max_after"


class EnsembleOn(Enum):
    """What is averaged: raw scores (the paper's code on CIFAR-10) or softmax outputs (on ImageNet)."""

    logits = "logits"
    probabilities = "probabilities"


class Shortcut(Enum):
    """Values of `model.shortcut`: of a residual unit that changes the shape.

    identity has no parameters; projection is a 1×1 convolution with a batch norm.
    """

    identity = "identity"
    projection = "projection"


class Initialisation(Enum):
    """Values of `model.initialisation`; each network has some of them.

    pytorch: PyTorch's own. Perceptrons, all with zero biases: he_uniform: He-uniform weights, heads Glorot-uniform;
    glorot_uniform, glorot_normal: Glorot's (Xavier's) for all layers; uniform: in ±0.05; constant: all weights 0.05, so
    that the units of a layer stay equal. Convolutions:
    he: He-normal kernels of the fan-out, zero biases. dirac: the kernels of blocks copy their input channels as far
    as there are as many outputs; what is left of them is PyTorch's.
    """

    pytorch = "pytorch"
    he_uniform = "he_uniform"
    glorot_uniform = "glorot_uniform"
    glorot_normal = "glorot_normal"
    uniform = "uniform"
    constant = "constant"
    he = "he"
    dirac = "dirac"
