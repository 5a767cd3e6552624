"""From a resolved configuration to the objects of a run."""

from layerwise.config.build.data import (
    build_batch_plan,
    build_data,
    build_spec,
    check_data_suffice,
    data_listing,
    reader_of,
    sample_counts,
)
from layerwise.config.build.features import build_cache_decision, build_source, cached_views, codec
from layerwise.config.build.network import (
    build_agenda,
    build_costs,
    build_last_head,
    build_network,
    check_network,
)
from layerwise.config.build.training import (
    build_graph,
    build_objective,
    build_optimizer,
    build_recipe,
    build_schedule,
    build_scoring,
    build_team,
)

__all__ = [
    "build_agenda",
    "build_batch_plan",
    "build_cache_decision",
    "build_costs",
    "build_data",
    "build_graph",
    "build_last_head",
    "build_network",
    "build_objective",
    "build_optimizer",
    "build_recipe",
    "build_schedule",
    "build_scoring",
    "build_source",
    "build_spec",
    "build_team",
    "cached_views",
    "check_data_suffice",
    "check_network",
    "codec",
    "data_listing",
    "reader_of",
    "sample_counts",
]
