"""Writes trained networks as files that other programs run: ONNX and torch.export.

A file holds the network up to one depth, with the classifier there or with all classifiers up to it and their
ensemble. It standardises its inputs itself. The batch size is free.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from layerwise.config.build import build_data, build_scoring, build_spec, data_listing
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.data.dataset import DatasetSpec
from layerwise.data.table_columns import features_of
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import EnsembleOn
from layerwise.models.ensemble import ensemble as ensemble_of
from layerwise.runs.data_check import check_data
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import TrainedNet

INPUT, OUTPUT = "inputs", "scores"
"""Names of the input and the output in an ONNX file."""

BATCH_SIZES = (1, 2, 7)
"""Batch sizes that a file is checked with; it is traced with another one."""

SCORED = 256
"""Test samples that a file is run on at a time."""

TOLERANCE = 1e-3
"""Largest accepted difference from PyTorch's scores, relative to the largest score."""


class Format(Enum):
    """Values of `--format`."""

    onnx = "onnx"
    torch_export = "torch_export"

    @property
    def suffix(self) -> str:
        """File name extension."""
        return {"onnx": ".onnx", "torch_export": ".pt2"}[self.value]


class Inputs(Enum):
    """Values of `--inputs`: images as float32 in [0, 1], or as uint8 pixels."""

    unit = "unit"
    uint8 = "uint8"


FLOAT32_STEP = 2.0**-24
"""Largest rounding error of float32, relative to the value."""

Predictor = Callable[[Tensor], Tensor]
"""From inputs [B, …] to scores [B, c]."""


def _check_spec(spec: DatasetSpec, inputs: Inputs) -> None:
    """Refuses vectors and targets that float32, their format in the file, would merge, and a format of images for them.

    Raises:
        LayerwiseError: names the column, or `--inputs`.
    """
    if spec.has_images:
        return
    if inputs is not Inputs.unit:
        raise LayerwiseError(f"--inputs {inputs.value}: is a format of images, and dataset={spec.name} has none.")
    columns = features_of(spec.columns) if spec.columns else [f"feature {i}" for i in range(len(spec.mean))]
    scales = list(zip(columns, spec.mean, spec.std, strict=True))
    if spec.target:
        mean, std = spec.target_scale
        scales.append((spec.target, mean, std))
    for name, mean, std in scales:
        if std != 1 and abs(mean) * FLOAT32_STEP > 1e-3 * std:  # 1: of a feature with one value
            raise LayerwiseError(
                f"'{name}' has values of {mean:.6g} that differ by {std:.3g}: float32, the format of the exported "
                "file, would merge them. Train on differences from a fixed value (layerwise predict is exact)."
            )


class Servable(nn.Module):
    """A trained network as it is exported.

    Args:
        network: as `layerwise.load` returns it, on the CPU.
        depth: of the classifier that predicts; with `ensemble`, of the last one. None: the network's last.
        ensemble: whether the 2^j ensemble of all classifiers up to that depth predicts.
        inputs: format of images. Vectors are float32, unscaled, as in the table.

    Shapes: images [B, C, H, W] or vectors [B, F] → class scores [B, c], or values of the target [B, 1].
    The scores of an ensemble with `ensemble.on=probabilities` are averaged probabilities.

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
            raise LayerwiseError(f"--depth {depth}: the run has no classifier at this depth. Use one of {known}.")
        _check_spec(network.spec, inputs)
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
        z = ensemble_of(scores, self.network.ensemble_on) if self.is_ensemble else scores[self.depth]
        return self.network.in_units(z).float()

    @property
    def metadata(self) -> dict[str, str]:
        """What a program that runs the file needs to know."""
        spec, on = self.network.spec, self.network.ensemble_on
        averaged = self.is_ensemble and on is EnsembleOn.probabilities
        scores = "probabilities" if averaged else "class scores"
        return {
            **({"target": spec.target} if spec.target else {"classes": json.dumps(spec.classes, ensure_ascii=False)}),
            "dataset": spec.name,
            "depth": str(self.depth),
            "predictor": "ensemble" if self.is_ensemble else "head",
            "inputs": f"{self.input_words}; they are standardised in the network",
            "outputs": "values of the target" if spec.target else scores,
        }

    @property
    def input_words(self) -> str:
        """Shape, format and range of the inputs, as text."""
        shape = ", ".join(map(str, ("B", *self.network.spec.shape)))
        if not self.network.spec.has_images:
            return f"float32 [{shape}], features as in the table"
        return f"uint8 [{shape}], pixels" if self.inputs is Inputs.uint8 else f"float32 [{shape}] in [0, 1]"

    def samples(self, count: int) -> Tensor:
        """The same random inputs at each call, [count, …]."""
        spec: DatasetSpec = self.network.spec
        with seeded(key("export", count)):
            if not spec.has_images:
                mean, std = (torch.tensor(v) for v in (spec.mean, spec.std))
                return torch.randn(count, *spec.shape) * std + mean
            pixels = torch.randint(0, 256, (count, *spec.shape), dtype=torch.uint8)
        return pixels if self.inputs is Inputs.uint8 else pixels.float() / 255

    def inputs_of(self, values: Tensor) -> Tensor:
        """Samples of a data set, images uint8 [B, H, W, C] or scaled vectors [B, F], as it takes them."""
        spec = self.network.spec
        if not spec.has_images:
            mean, std = (torch.tensor(v) for v in (spec.mean, spec.std))
            return values * std + mean
        pixels = values.permute(0, 3, 1, 2).contiguous()
        return pixels if self.inputs is Inputs.uint8 else pixels.float() / 255


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        difference: largest absolute difference between its scores and PyTorch's, after reading it back.
    """

    content: bytes
    difference: float


@torch.no_grad()
def export(servable: Servable, form: Format) -> Exported:
    """Exports a network, reads it back and compares its scores on batches of several sizes.

    Args:
        servable: on the CPU, in eval mode.

    Raises:
        LayerwiseError: a library is missing, PyTorch cannot export the network, or the scores differ.
    """
    write, read = FORMATS[form]
    try:
        with quiet():
            content = write(servable, servable.samples(3))
            run = read(content)
    except ImportError as error:
        raise LayerwiseError(
            f"--format {form.value} needs {error.name}: pip install onnx onnxscript onnxruntime."
        ) from error
    except RuntimeError as error:  # the exporters' own errors are subclasses
        reason = str(error).strip().splitlines()[0]
        raise LayerwiseError(
            f"--format {form.value}: PyTorch cannot export this network ({reason}). Try the other format."
        ) from error
    difference, largest = 0.0, 0.0
    for count in BATCH_SIZES:
        inputs = servable.samples(count)
        wanted, found = servable(inputs), run(inputs)
        if wanted.shape != found.shape:
            raise LayerwiseError(
                f"--format {form.value}: returns shape {tuple(found.shape)} instead of {tuple(wanted.shape)}."
            )
        difference = max(difference, float((wanted - found).abs().max()))
        largest = max(largest, float(wanted.abs().max()))
    if not difference <= TOLERANCE * largest:
        raise LayerwiseError(
            f"--format {form.value}: the scores differ from PyTorch's by up to {difference:.3g} (largest score: "
            f"{largest:.3g}). No file was written; try the other format."
        )
    return Exported(content, difference)


def write_onnx(servable: Servable, inputs: Tensor) -> bytes:
    """One file including the weights, with the metadata in `metadata_props`."""
    import onnx  # noqa: F401 (the exporter's own error does not name what is missing)
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


def quantised(content: bytes) -> bytes:
    """Returns an ONNX file with int8 weights, whose layers round their inputs to uint8 as they come (dynamically)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(onnx.load_from_string(content), path, weight_type=QuantType.QInt8)
        return path.read_bytes()


@torch.no_grad()
def held_out_measures(servable: Servable, folder: Path, trust: bool, *contents: bytes) -> list[dict[str, float]]:
    """Returns how good ONNX files of a network are on the test samples of its run: accuracies, or R² and MAE.

    Args:
        folder: of the run.
        trust: whether code of other packages that it names may be imported.

    Raises:
        LayerwiseError: the data cannot be read, or were changed.
    """
    config, spec = run_config(folder, trust), servable.network.spec
    check_data(folder, build_spec(config), lambda: data_listing(config))
    split = build_data(config, spec, torch.device("cpu")).splits["test"]
    runs, batches = [read_onnx(content) for content in contents], torch.arange(len(split)).split(SCORED)
    scores: list[list[Tensor]] = [[] for _ in runs]
    for values in split.read(batches):
        inputs = servable.inputs_of(values)
        for rows, run in zip(scores, runs, strict=True):
            rows.append(run(inputs))
    mean, deviation = spec.target_scale if spec.target else (0.0, 1.0)
    outputs = [(torch.cat(rows) - mean) / deviation for rows in scores]
    return [build_scoring(config, spec).measures(z, split.labels) for z in outputs]


def read_onnx(content: bytes) -> Predictor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run([OUTPUT], {INPUT: inputs.numpy()})[0])


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
    Format.torch_export: (write_torch_export, read_torch_export),
}
"""The function that writes each format, and the one that reads it back."""


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the exporters' warnings, which are about their internals."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
