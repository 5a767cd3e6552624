"""One of several processes that train some runs one after another: started by test_distributed.py."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from hydra import compose, initialize_config_dir

from layerwise.commands.errors import ended_without_python
from layerwise.commands.overrides import checked
from layerwise.core import distributed
from layerwise.core.errors import LayerwiseError
from layerwise.experiment.run import run

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
sys.path.append(str(ROOT / "examples" / "own_method"))


def main(jobs: Path) -> None:
    outcomes = {}
    for name, overrides in json.loads(jobs.read_text()).items():
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                composed = compose("train", checked(overrides))
            run(composed)
            outcomes[name] = ""
        except LayerwiseError as error:
            outcomes[name] = str(error)
            if not error.is_shared:
                raise
        except Exception:
            traceback.print_exc()
            raise
    jobs.with_name(f"outcomes_{distributed.rank()}.json").write_text(json.dumps(outcomes))
    distributed.leave()


if __name__ == "__main__":
    with ended_without_python():
        main(Path(sys.argv[1]))
