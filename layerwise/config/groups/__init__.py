"""The groups of keys of the schema, a file for each subject; those of `model` are in `config/networks/`,
those of `dataset` in `config/datasets/`, those of `plan` in `config/plans/`."""

WHERE = {"identity": False}
"""Marks fields that say where or how fast a run computes, not what: they do not name its folder."""
