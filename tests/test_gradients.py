"""evaluation.gradients=true: the same norms however the features are read and the step is computed."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from helpers.run_folders import metrics_of

OPTIONS = {"evaluation.gradients": "true", "precision": "fp32"}


def norms(folder) -> list[dict[str, float]]:
    lines = [line["gradients"] for line in metrics_of(folder)]
    assert lines
    assert all(value > 0 for line in lines for value in line.values())
    return lines


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_norms_are_those_of_recomputed_features(trained, cache):
    assert norms(trained(cache=cache, **OPTIONS)) == norms(trained(cache="none", **OPTIONS))


@pytest.mark.parametrize("plan", ["greedy", "simultaneous"])
def test_norms_of_a_compiled_step(trained, monkeypatch, plan):
    plain = norms(trained(plan=plan, name="plain", **OPTIONS))
    compiled = []

    def compile_eagerly(*arguments, **options):
        compiled.append(arguments)
        return partial(torch_compile, backend="eager")(*arguments, **options)

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    found = norms(trained(plan=plan, name="compiled", compile="true", **OPTIONS))
    assert compiled
    assert [line.keys() for line in found] == [line.keys() for line in plain]
    for line, expected in zip(found, plain, strict=True):
        assert line == pytest.approx(expected, rel=1e-3)
