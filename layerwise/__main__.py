"""`layerwise NAME …` and `python -m layerwise NAME …`: imports and runs one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from layerwise.commands.errors import ended_without_python, reported
from layerwise.core.errors import LayerwiseError, suggest

COMMANDS = {
    "train": "train a network, or continue or show a run",
    "list": "list models, heads, data sets, plans or objectives with their keys",
    "predict": "classify image files with a trained network",
    "evaluate": "score a trained network on other data",
    "export": "write a trained network as ONNX or for torch.export",
    "probe": "measure how separable the classes are at each depth",
    "anytime": "measure accuracy against cost when confident samples leave early",
    "report": "write report.html of one run, or of several side by side",
    "watch": "follow running and finished runs on a local page",
    "figures": "draw accuracy and separability over depth",
    "collect": "gather the results of many runs in one table",
    "log": "send finished runs to W&B or TensorBoard",
    "sweep": "train one run for each line of a file",
    "cross_validate": "train one run for each fold and average them",
    "prepare_data": "pack image files into a few large files that load faster",
    "plan_cluster": "estimate time, caches and traffic of a run on many GPUs",
}


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command; `words` are the command line's arguments unless given."""
    words = sys.argv[1:] if words is None else words
    with ended_without_python(), reported():
        if not words or words[0] in ("-h", "--help"):
            print(usage())
            return
        if words[0] == "--version":
            from layerwise import __version__

            print(__version__)
            return
        name, arguments = words[0], words[1:]
        if name not in COMMANDS:
            hint = " Write `layerwise train KEY=VALUE …`." if "=" in name else suggest(name, COMMANDS)
            raise LayerwiseError(f"unknown command '{name}'.{hint}")
        if exit_code := import_module(f"layerwise.commands.{name}").main(arguments):
            sys.exit(exit_code)


def usage() -> str:
    lines = [f"  {name:<16}{summary}" for name, summary in COMMANDS.items()]
    heading = "usage: layerwise COMMAND …\n\ncommands (layerwise COMMAND --help explains each):"
    return "\n".join([heading, *lines])


if __name__ == "__main__":
    main()
