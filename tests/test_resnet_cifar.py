"""`model=resnet_cifar`: the published sizes, the equations, and modules of any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from helpers.configs import configured
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.models.blocknet import BlockNet, count_parameters


def resnet(*words: str) -> BlockNet:
    config = configured("model=resnet_cifar", "plan=joint", *words)
    return build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())


@pytest.mark.parametrize(
    ("depth", "published", "counted"), [(20, 0.27, 269_722), (32, 0.46, 464_154), (110, 1.7, 1_727_962)]
)
def test_parameters_are_those_of_he_et_al(depth, published, counted):
    """Their table 6, in millions; the exact count is of its layers: 3×3 kernels, two numbers a norm, 64·10 + 10."""
    with torch.device("meta"):
        found = count_parameters(resnet(f"model.depth={depth}"))
    n = (depth - 2) // 6
    units = [(16, 16), *[(16, 16)] * (n - 1), (16, 32), *[(32, 32)] * (n - 1), (32, 64), *[(64, 64)] * (n - 1)]
    assert found == counted == 9 * 3 * 16 + 32 + sum(9 * a * b + 9 * b * b + 4 * b for a, b in units) + 650
    assert f"{found / 1e6:.2g}" == str(published)


def test_projections_are_the_only_other_parameters():
    with torch.device("meta"):
        more = count_parameters(resnet("model.shortcut=projection")) - count_parameters(resnet())
    assert more == 16 * 32 + 64 + 32 * 64 + 128


@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_the_scores_are_those_of_the_equations(shortcut):
    """Written out with arrays: stem, units, average, linear layer."""
    net = resnet("model.depth=14", "model.width=4", "model.modules=2", f"model.shortcut={shortcut}").double()
    state = iter([tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")])
    images = torch.randn(3, 3, 9, 8, dtype=torch.float64)

    def convolved(x, stride, padding):
        x = F.conv2d(x, next(state), stride=stride, padding=padding)
        scale, shift, _, _ = (next(state)[:, None, None] for _ in range(4))
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return scale * (x - mean) / (variance + 1e-5).sqrt() + shift

    x = convolved(images, 1, 1).clamp_min(0)
    for group in range(3):
        for unit in range(2):
            halves = group > 0 and unit == 0
            r = convolved(convolved(x, 2 if halves else 1, 1).clamp_min(0), 1, 1)
            if halves and shortcut == "projection":
                x = convolved(x, 2, 0)
            elif halves:
                x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)
            x = (x + r).clamp_min(0)
    wanted = x.mean((2, 3)).float() @ next(state).float().T + next(state).float()
    torch.testing.assert_close(net.train().float()(images.float()), wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("model.modules=2", [8, 8]),
        ("model.modules=4", [4, 4, 4, 4]),
        ("model.modules=16", [1] * 16),
        ("J=8", [2] * 8),
        ("", [1] * 16),
        ("model.modules=[6,5,5]", [6, 5, 5]),
        ("model.depth=110 model.modules=4", [13, 14, 14, 14]),
        ("model.depth=110 model.modules=16", [3] * 9 + [4] * 7),
        ("model.depth=110", [1] * 55),
    ],
)
def test_modules_of_equal_or_given_sizes(words, sizes):
    config = configured("model=resnet_cifar", "plan=simultaneous", *words.split())
    assert (config.J, config.model.modules) == (len(sizes), sizes)


def test_every_cut_is_the_same_network():
    """The same weights in other modules give the same scores."""
    whole, cut = resnet("model.depth=8", "model.modules=1"), resnet("model.depth=8", "model.modules=3")
    cut.load_state_dict(dict(zip(cut.state_dict(), whole.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(whole(images), cut(images))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("model.depth=30", "model.depth=30: must be 6n + 2"),
        ("model.modules=17", "model.modules=17: resnet32 has 16 layers"),
        ("model.modules=[9,8]", "resnet32 has 16 layers"),
        ("model.modules=[3,3]", "resnet32 has 16 layers, .* and these are 6"),
        ("model.modules=[9,0]", "must be a number of modules"),
        ("model.modules=half", "must be a number of modules"),
        ("J=17", "J=17: resnet32 has 16 layers"),
        ("J=3 model.modules=4", "J=3: resnet32 has 4 block"),
        (
            "model.head=pooled",
            "Use cnn, mlp_sr, predsim, aux_1c2f",
        ),
        ("model.head=cnn model.head_depth=3", "model.head_depth=3 has no effect: it needs model.head=auglocal"),
    ],
)
def test_what_it_cannot_be_is_refused(words, told):
    with pytest.raises(LayerwiseError, match=told.replace("+", r"\+")):
        configured("model=resnet_cifar", *words.split())


def test_modules_train_in_turn_and_at_once(trained):
    small = {"model.width": 4, "model.head_width": None, "model.downsample": None, "plan.epochs": 1}
    for plan in ("greedy", "simultaneous"):
        trained("model=resnet_cifar", "model.depth=8", f"plan={plan}", name=plan, **small)
