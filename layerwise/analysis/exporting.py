"""Trained networks as files that other programs run: ONNX, TorchScript and torch.export.

A file holds the network up to one depth with the classifier there, or with all classifiers up to it and
their ensemble, and scales its inputs itself. The size of the batch is free.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.data.dataset import DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import EnsembleOn
from layerwise.models.ensemble import ensemble as ensemble_of
from layerwise.runs.loading import TrainedNet

INPUT, OUTPUT = "inputs", "scores"
"""Names in an ONNX file."""

BATCH_SIZES = (1, 2, 7)
"""Of the samples that a file is checked with; another one is traced."""

TOLERANCE = 1e-3
"""Largest difference from PyTorch's scores that passes, relative to the largest of them."""


class Format(Enum):
    """What is written."""

    onnx = "onnx"
    torchscript = "torchscript"
    torch_export = "torch_export"

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return {"onnx": ".onnx", "torchscript": ".pt", "torch_export": ".pt2"}[self.value]


class Inputs(Enum):
    """What images the file takes: values in [0, 1] as float32, or pixels as uint8."""

    unit = "unit"
    uint8 = "uint8"


Predictor = Callable[[Tensor], Tensor]
"""From inputs [B, …] to scores [B, c]."""


class Servable(nn.Module):
    """A trained network as it is exported.

    Args:
        network: as `layerwise.load` gives it, on the CPU.
        depth: of the classifier that answers, or up to which classifiers are asked; None for the last.
        ensemble: the 2^j ensemble of all classifiers up to that depth answers.
        inputs: what images it takes. Vectors of a table are float32 as the table has them.

    Shapes: images [B, C, H, W] or vectors [B, F] → class scores [B, c], which are averaged probabilities of an
    ensemble with `ensemble.on=probabilities`.

    Raises:
        LayerwiseError: there is no classifier at that depth.
    """

    def __init__(
        self, network: TrainedNet, depth: int | None = None, ensemble: bool = False, inputs: Inputs = Inputs.unit
    ) -> None:
        super().__init__()
        depth = network.depths[-1] if depth is None else depth
        if depth not in network.depths:
            known = ", ".join(map(str, network.depths))
            raise LayerwiseError(f"--depth {depth}: the run has no classifier at this depth; it has some at: {known}.")
        asked = [d for d in network.depths if d <= depth] if ensemble else [depth]
        heads = {d: network.head(d) for d in asked}
        kept = BlockNet(list(network.blocks[:depth]), heads, network.ensemble_on)
        self.network = TrainedNet(kept, network.spec, network.mirror).eval()
        self.depth, self.is_ensemble, self.inputs = depth, ensemble, inputs

    def forward(self, inputs: Tensor) -> Tensor:
        if self.network.spec.has_images and self.inputs is Inputs.unit:
            inputs = inputs * 255
        x = self.network.normalise(inputs)
        scores = self.network.class_scores(x, self.network.depths)
        return ensemble_of(scores, self.network.ensemble_on) if self.is_ensemble else scores[self.depth]

    @property
    def metadata(self) -> dict[str, str]:
        """What a program has to know that runs the file."""
        spec, on = self.network.spec, self.network.ensemble_on
        return {
            "classes": json.dumps(spec.classes, ensure_ascii=False),
            "dataset": spec.name,
            "depth": str(self.depth),
            "predictor": "ensemble" if self.is_ensemble else "head",
            "inputs": f"{self.input_words}; they are standardised in the network",
            "outputs": "probabilities" if self.is_ensemble and on is EnsembleOn.probabilities else "class scores",
        }

    @property
    def input_words(self) -> str:
        """Shape, format and range of the inputs."""
        shape = ", ".join(map(str, ("B", *self.network.spec.shape)))
        if not self.network.spec.has_images:
            return f"float32 [{shape}], features as in the table"
        return f"uint8 [{shape}], pixels" if self.inputs is Inputs.uint8 else f"float32 [{shape}] in [0, 1]"

    def samples(self, count: int) -> Tensor:
        """Random inputs of the right kind, always the same."""
        spec: DatasetSpec = self.network.spec
        with seeded(key("export", count)):
            if not spec.has_images:
                mean, std = (torch.tensor(v) for v in (spec.mean, spec.std))
                return torch.randn(count, *spec.shape) * std + mean
            pixels = torch.randint(0, 256, (count, *spec.shape), dtype=torch.uint8)
        return pixels if self.inputs is Inputs.uint8 else pixels.float() / 255


@dataclass(frozen=True)
class Exported:
    """A network in some format.

    Attributes:
        content: of the file.
        difference: largest one of the scores from PyTorch's, as the content gives them when it is read back.
    """

    content: bytes
    difference: float


@torch.no_grad()
def export(servable: Servable, form: Format) -> Exported:
    """A network in a format, read back and checked on a few batches of different size.

    Args:
        servable: on the CPU, in eval mode.
        form: which.

    Raises:
        LayerwiseError: a library is missing, the exporter refuses the network, or the scores are not the same.
    """
    write, read = FORMATS[form]
    try:
        with quiet():
            content = write(servable, servable.samples(3))
            run = read(content)
    except ImportError as error:
        raise LayerwiseError(f'--format {form.value} needs {error.name}: pip install -e ".[export]"') from error
    except RuntimeError as error:  # of which the exporters' own errors are kinds
        reason = str(error).strip().splitlines()[0]
        raise LayerwiseError(
            f"--format {form.value}: PyTorch cannot export this network ({reason}). Take another format."
        ) from error
    difference, largest = 0.0, 0.0
    for count in BATCH_SIZES:
        inputs = servable.samples(count)
        wanted, found = servable(inputs), run(inputs)
        if wanted.shape != found.shape:
            raise LayerwiseError(
                f"--format {form.value}: gives {tuple(found.shape)} where PyTorch gives {tuple(wanted.shape)}."
            )
        difference = max(difference, float((wanted - found).abs().max()))
        largest = max(largest, float(wanted.abs().max()))
    if not difference <= TOLERANCE * largest:
        raise LayerwiseError(
            f"--format {form.value}: the scores differ by up to {difference:.3g} from PyTorch's, of which the largest "
            f"is {largest:.3g}. Nothing is written; take another format."
        )
    return Exported(content, difference)


def write_onnx(servable: Servable, inputs: Tensor) -> bytes:
    """One file with its weights; the metadata stand in `metadata_props`."""
    import onnx  # noqa: F401 (names what is missing; the exporter's own message does not)
    import onnxscript  # noqa: F401

    program = torch.onnx.export(
        servable,
        (inputs,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for name, text in servable.metadata.items():
        proto.metadata_props.add(key=name, value=text)
    content: bytes = proto.SerializeToString()
    return content


def read_onnx(content: bytes) -> Predictor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run([OUTPUT], {INPUT: inputs.numpy()})[0])


def write_torchscript(servable: Servable, inputs: Tensor) -> bytes:
    """A trace, with the metadata as an extra file `layerwise.json`."""
    content = io.BytesIO()
    traced = torch.jit.trace(servable, (inputs,), check_trace=False)
    torch.jit.save(traced, content, _extra_files={"layerwise.json": json.dumps(servable.metadata)})
    return content.getvalue()


def read_torchscript(content: bytes) -> Predictor:
    loaded: Predictor = torch.jit.load(io.BytesIO(content))
    return loaded


def write_torch_export(servable: Servable, inputs: Tensor) -> bytes:
    """An exported program, with the metadata as an extra file `layerwise.json`."""
    content = io.BytesIO()
    program = torch.export.export(servable, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, content, extra_files={"layerwise.json": json.dumps(servable.metadata)})
    return content.getvalue()


def read_torch_export(content: bytes) -> Predictor:
    loaded: Predictor = torch.export.load(io.BytesIO(content)).module()
    return loaded


FORMATS: dict[Format, tuple[Callable[[Servable, Tensor], bytes], Callable[[bytes], Predictor]]] = {
    Format.onnx: (write_onnx, read_onnx),
    Format.torchscript: (write_torchscript, read_torchscript),
    Format.torch_export: (write_torch_export, read_torch_export),
}
"""How each format is written, and read back as a function."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' own warnings, which are about their inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
