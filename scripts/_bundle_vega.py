"""Makes layerwise/reporting/html/assets/vega.min.js anew: Vega, Vega-Lite and Vega-Embed in one file.

    pip install -U vl-convert-python && python scripts/_bundle_vega.py

The file is kept in the repository, so that a run needs neither this 80 MB library nor the seconds that it takes.
"""

from __future__ import annotations

from pathlib import Path

import vl_convert

BUNDLE = Path(__file__).resolve().parents[1] / "layerwise" / "reporting" / "html" / "assets" / "vega.min.js"


def main() -> None:
    names = (
        f"Vega {vl_convert.get_vega_version()}, Vega-Lite {vl_convert.get_vegalite_versions()[-1]}, "
        f"Vega-Embed {vl_convert.get_vega_embed_version()} (BSD-3-Clause, https://github.com/vega)"
    )
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    BUNDLE.write_text(f"/*! {names}; made by scripts/_bundle_vega.py */\n(function () {{\n{script}\n}})();\n")
    print(f"{BUNDLE}: {BUNDLE.stat().st_size / 2**10:.0f} KiB")


if __name__ == "__main__":
    main()
