"""Writes a trained network to a file that other programs run, after checking that its scores are the same.

    layerwise export RUN                         ONNX, the last classifier
    layerwise export RUN --depth 2               the blocks up to depth 2 and the classifier there
    layerwise export RUN --ensemble              all classifiers and their 2^j ensemble
    layerwise export RUN --format torch_export   for torch.export.load
    layerwise export RUN --int8                  ONNX with int8 weights, and what they cost on the test samples
    layerwise export RUN --hub USER/NAME         also to a repository of the Hugging Face Hub, with a card

The network standardises its inputs itself: it takes images as float32 [B, C, H, W] in [0, 1] (with --inputs uint8:
pixels), or the vectors of a table, and returns class scores [B, c]; their softmax are probabilities. B is free. ONNX
files name them `inputs` and `scores`; their metadata hold the class names as JSON. ONNX needs three libraries:
pip install onnx onnxscript onnxruntime.

Before anything is written, the file is read back (ONNX by onnxruntime) and run on random inputs; the largest difference
from PyTorch's scores is printed. A network whose scores differ is not written. With --int8 the weights are then rounded
to int8 and the layers' inputs, as they come, to uint8; both files are run on the run's test samples, and how good they
are is printed.

With --hub the file, the run's finished checkpoints, config.yaml, dataset.json, results.json and a card with the results
are uploaded in one commit, by the account of `hf auth login` or HF_TOKEN; `layerwise.load` reads what is downloaded
from there. It needs huggingface_hub.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from layerwise.analysis.exporting import BATCH_SIZES, Format, Inputs, Servable, export, held_out_measures, quantised
from layerwise.analysis.publishing import push
from layerwise.commands.arguments import Parser, named
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.measures import measured
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
    parser.add_argument("--int8", action="store_true", help="quantise dynamically to int8 (onnx)")
    parser.add_argument("--hub", type=repository, metavar="USER/NAME", help="repository to upload the network to")
    parser.add_argument("--private", action="store_true", help="make a new repository a private one")
    parser.add_argument("--output", type=named, metavar="FILE", help="default: RUN/depthJ.onnx, RUN/ensembleJ.onnx, …")
    parser.add_trust()
    options = parser.parse_args(words)
    form = Format(options.format)
    if options.private and not options.hub:
        raise LayerwiseError("--private: is for a repository of --hub USER/NAME. Add it, or leave out --private.")
    if options.int8 and form is not Format.onnx:
        raise LayerwiseError(f"--int8 cannot be combined with --format {form.value}. Use --format onnx.")
    servable = Servable(
        load(options.folder, trust=options.trust), options.depth, options.ensemble, Inputs(options.inputs)
    )
    name = ("ensemble" if options.ensemble else "depth") + str(servable.depth) + ("-int8" if options.int8 else "")
    path = options.output or options.folder / f"{name}{form.suffix}"
    exported = export(servable, form)
    content = quantised(exported.content) if options.int8 else exported.content
    write_atomically(path, content, kept="The run is intact.")
    answers = (
        f"the ensemble up to depth {servable.depth}"
        if options.ensemble
        else f"the classifier at depth {servable.depth}"
    )
    print(f"{form.value}: {path} ({len(content) / 1e6:.1f} MB), {answers}")
    told = servable.metadata
    print(f"inputs: {told['inputs']}; outputs: {told['outputs']} [B, {servable.network.spec.outputs}]")
    batches = ", ".join(map(str, BATCH_SIZES))
    print(f"largest difference from PyTorch on random batches of {batches}: {exported.difference:.2g}")
    if options.int8:
        scores = held_out_measures(servable, options.folder, options.trust, exported.content, content)
        print(f"on the test samples: {measured(scores[0])} in float32 ({len(exported.content) / 1e6:.2f} MB), ", end="")
        print(f"{measured(scores[1])} in int8 ({len(content) / 1e6:.2f} MB)")
    if options.hub:
        print(f"hub: {push(options.folder, path, servable, options.hub, options.private)}")


def repository(text: str) -> str:
    """The `type=` of --hub."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no repository: write USER/NAME")
    return text
