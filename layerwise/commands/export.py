"""Writes a trained network to a file that other programs run, after checking that its scores are the same.

    layerwise export RUN                         ONNX, the last classifier
    layerwise export RUN --depth 2               the blocks up to depth 2 and the classifier there
    layerwise export RUN --ensemble              all classifiers and their 2^j ensemble
    layerwise export RUN --format torch_export   for torch.export.load

The network standardises its inputs itself: it takes images as float32 [B, C, H, W] in [0, 1] (with --inputs uint8:
pixels), or the vectors of a table, and returns class scores [B, c]; their softmax are probabilities. B is free. ONNX
files name them `inputs` and `scores`; their metadata hold the class names as JSON. ONNX needs three libraries:
pip install onnx onnxscript onnxruntime.

Before anything is written, the file is read back (ONNX by onnxruntime) and run on random inputs; the largest difference
from PyTorch's scores is printed. A network whose scores differ is not written.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerwise.analysis.exporting import BATCH_SIZES, Format, Inputs, Servable, export
from layerwise.commands.arguments import Parser, named
from layerwise.core.files import write_atomically
from layerwise.runs.loading import load


def main(words: Sequence[str]) -> None:
    parser = Parser("export", __doc__)
    parser.add_argument("folder", type=named, metavar="RUN", help="run folder")
    parser.add_argument("--depth", type=int, metavar="J", help="depth of the classifier (default: the last)")
    parser.add_argument("--ensemble", action="store_true", help="export the ensemble of all classifiers up to --depth")
    parser.add_argument(
        "--inputs", choices=[kind.value for kind in Inputs], default="unit", help="images (default: unit)"
    )
    parser.add_argument("--format", choices=[form.value for form in Format], default="onnx", help="default: onnx")
    parser.add_argument("--output", type=named, metavar="FILE", help="default: RUN/depthJ.onnx, RUN/ensembleJ.onnx, …")
    parser.add_trust()
    options = parser.parse_args(words)
    form = Format(options.format)
    servable = Servable(
        load(options.folder, trust=options.trust), options.depth, options.ensemble, Inputs(options.inputs)
    )
    name = ("ensemble" if options.ensemble else "depth") + str(servable.depth)
    path = options.output or options.folder / f"{name}{form.suffix}"
    exported = export(servable, form)
    write_atomically(path, exported.content, kept="The run is intact.")
    answers = (
        f"the ensemble up to depth {servable.depth}"
        if options.ensemble
        else f"the classifier at depth {servable.depth}"
    )
    print(f"{form.value}: {path} ({len(exported.content) / 1e6:.1f} MB), {answers}")
    told = servable.metadata
    print(f"inputs: {told['inputs']}; outputs: {told['outputs']} [B, {servable.network.spec.outputs}]")
    batches = ", ".join(map(str, BATCH_SIZES))
    print(f"largest difference from PyTorch on random batches of {batches}: {exported.difference:.2g}")
