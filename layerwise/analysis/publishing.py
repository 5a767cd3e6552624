"""A trained network on the Hugging Face Hub: what `layerwise.load` needs of a run, an exported file, and a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from layerwise.analysis.exporting import Servable
from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import ACCURACY, measure_of
from layerwise.runs.run_files import CHECKPOINTS, CONFIG, PRETRAINED, RESULTS, SPEC, read_results

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"


def push(folder: Path, exported: Path, servable: Servable, repository: str, private: bool = False) -> str:
    """Uploads a run in one commit, and makes the repository if there is none. The user's token is that of the library.

    Args:
        folder: of the run.
        exported: file that was exported of it.
        servable: what that file holds.
        repository: `USER/NAME`.
        private: whether a new repository is.

    Returns:
        The address of the repository.

    Raises:
        LayerwiseError: huggingface_hub is missing, or refuses; nothing or all was uploaded.
    """
    results = read_results(folder / RESULTS)
    if results is None or not any("test" in row for row in results["blocks"]):
        raise LayerwiseError(f"{folder / RESULTS}: there are no results for a card. Run the command of this run again.")
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError as error:
        raise LayerwiseError("--hub needs huggingface_hub: pip install huggingface_hub.") from error
    text = card(repository, results, exported.name, servable).encode()
    operations = [CommitOperationAdd(CARD, text), CommitOperationAdd(exported.name, exported)]
    operations += [CommitOperationAdd(name, folder / name) for name in files_of(folder)]
    api: HfApi = HfApi()
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.create_commit(repository, operations, commit_message=f"{results['name']} trained with layerwise")
    except Exception as error:  # of the library, of its HTTP client, of the network
        reason = " ".join(str(error).split())
        raise LayerwiseError(f"--hub {repository}: {reason} (`hf auth login` sets up an account).") from error
    return str(address)


def files_of(folder: Path) -> list[str]:
    """Returns the names of the files that `layerwise.load` needs, and of the results; no stage in training."""
    stages = [f"{CHECKPOINTS}/{path.name}" for path in sorted((folder / CHECKPOINTS).glob("stage_*.safetensors"))]
    begun = [f"{CHECKPOINTS}/{PRETRAINED}"] if (folder / CHECKPOINTS / PRETRAINED).exists() else []
    search = [f"search/{RESULTS}"] if (folder / "search" / RESULTS).exists() else []  # says which depth was chosen
    return [CONFIG, SPEC, RESULTS, *search, *begun, *(name for name in stages if "_step_" not in name)]


def card(repository: str, results: dict[str, Any], exported: str, servable: Servable) -> str:
    """Returns the repository's README.md: the results of the run, depth by depth, and how the network is used."""
    scored = [row for row in results["blocks"] if "test" in row]
    measure = measure_of(scored[0]["test"]) or ACCURACY
    spec, told = servable.network.spec, servable.metadata
    kind = "image" if spec.has_images else "tabular"
    final = next((row for row in scored if row["block"] == servable.network.depths[-1]), scored[-1])
    entry = {
        "task": {"type": f"{kind}-regression" if spec.target else f"{kind}-classification"},
        "dataset": {"name": results["dataset"], "type": spec.name},
        "metrics": [
            {"type": "accuracy" if measure is ACCURACY else measure.name, "value": final["test"][measure.name]}
        ],
    }
    header = {"tags": ["layerwise"], "model-index": [{"name": repository.split("/")[1], "results": [entry]}]}
    unit = measure.unit
    rows = [
        f"| {row['block']} | {measure.number(row['test'][measure.name])} | "
        f"{measure.number(row['ensemble'][measure.name])} | {sum(row['parameters'].values()):,} |"
        for row in scored
    ]
    notes = [] if results["status"] == "completed" else [f"The run is {results['status']}.\n"]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False, allow_unicode=True).rstrip(),
            "---",
            f"# {repository.split('/')[1]}\n",
            f"A network ({results['model']}) trained with layerwise (plan {results['plan']}, k = {results['k']}, "
            f"J = {results['J']}, seed {results['seed']}) on {results['dataset']}: {spec.in_words()}.\n",
            *notes,
            f"| depth | test {unit} | ensemble {unit} | parameters of block and head |",
            "|---|---|---|---|",
            *rows,
            "\nThe ensemble of a depth weighs the classifier at depth j with 2^j. `results.json` has all figures, "
            "`config.yaml` all options.\n",
            f"`{exported}` holds the {told['predictor']} at depth {told['depth']}; inputs: {told['inputs']}; outputs: "
            f"{told['outputs']}. In Python:\n",
            "```python",
            "import layerwise",
            "from huggingface_hub import snapshot_download",
            "",
            f'net = layerwise.load(snapshot_download("{repository}"))',
            "```",
            "",
        ]
    )
