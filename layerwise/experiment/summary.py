"""`summary=table|json`: what a run would cost, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

from layerwise.config import build
from layerwise.config.groups.data import CacheKind
from layerwise.config.groups.outputs import Summary
from layerwise.config.identity import as_plain
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.precision import choose_device, choose_precision
from layerwise.experiment.work import workload
from layerwise.features.cache_plan import store_bytes
from layerwise.models.costs import total_parameters
from layerwise.reporting.tables import costs_table, show


def summarise(config: ResolvedConfig) -> None:
    """Prints what the network costs, as a table or as JSON on stdout."""
    spec = build.build_spec(config)
    stages = build.build_agenda(config).stages()
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    network = build.build_network(config, spec, stages)
    build.check_network(network, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    images, held_out = build.sample_counts(config, spec)
    views, codec = build.cached_views(config, spec, stages), build.codec(config, precision)
    sizes = [store_bytes(cost.output_shape, images, views, held_out, codec) for cost in costs]
    title = f"{config.model.name} k={config.k} J={config.J} on {spec.name} {'×'.join(map(str, spec.shape))}"
    stored = {CacheKind.none: 0, CacheKind.memory: views, CacheKind.disk: views}.get(config.cache.kind)
    if stored is None:  # cache=auto takes one where it fits
        place = Path(config.output_dir)
        stored = build.build_cache_decision(config, spec, stages, costs, precision, place, device).views
    pflop = workload(config, spec, network, costs, stored).operations(stages).in_pflop()
    if config.summary is Summary.table:
        show(costs_table(costs, sizes, f"{title}; cache: {views} view(s) in {codec.dtype.value}"))
        print(
            f"training: {pflop['total_train']:.3g} PFLOP (of which frozen prefixes {pflop['prefix']:.3g}), "
            f"evaluation: {pflop['evaluate']:.3g} PFLOP"
        )
        return
    blocks = [
        {
            "block": cost.block,
            "output_shape": list(cost.output_shape),
            "parameters": {"block": cost.block_parameters, "head": cost.head_parameters},
            "macs": {"block": cost.block_macs, "head": cost.head_macs},
            "activation_bytes": cost.activation_bytes,
            "cache_bytes": size,
        }
        for cost, size in zip(costs, sizes, strict=True)
    ]
    summary = {
        "parameters": total_parameters(costs),
        "pflop": pflop,
        "blocks": blocks,
        "config": as_plain(config),
    }
    print(json.dumps(summary, indent=2))
