"""Networks of timm cut into blocks: the blocks and what follows them are timm's network, whatever its family."""

from __future__ import annotations

import pytest
import timm
import torch

import layerwise
from helpers.commands import assert_refused
from helpers.run_folders import results_of
from layerwise.analysis.exporting import Format, Servable, export
from layerwise.commands.probe import main as probe
from layerwise.core.errors import LayerwiseError
from layerwise.models.heads import CnnHead, MlpSrHead
from layerwise.models.timm_cut import cut
from layerwise.models.timm_net import TimmStages, block_count

VIT = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
TOKENS = {
    "class token": ("vit_tiny_patch16_224", VIT),
    "mean": ("vit_tiny_patch16_224", {**VIT, "global_pool": "avg", "class_token": False}),
    "pre-norm": ("vit_base_patch32_clip_224", VIT),
    "attention pool": ("vit_base_patch16_siglip_224", VIT),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
    "any size": ("test_vit2", VIT),
    "rotary": ("eva02_tiny_patch14_224", VIT),
    "relative": ("beit_base_patch16_224", VIT),
}
STAGES = {
    "swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4}),
    "convnext": ("convnext_atto", {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}),
    "pvt": ("pvt_v2_b0", {"embed_dims": (8, 16, 16, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)}),
    "resnet": ("test_resnet", {}),
    "efficientnet": ("test_efficientnet", {}),
}
IMAGE = (3, 32, 32)


def reference(name, options) -> torch.nn.Module:
    size = {"img_size": 32} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **options, **size).eval()
    for parameter in network.parameters():  # some begin as zeros, behind which nothing is compared
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def copy(theirs, mine) -> None:
    mine.load_state_dict(dict(zip(mine.state_dict(), theirs.state_dict().values(), strict=True)))


@pytest.mark.parametrize("family", TOKENS)
def test_blocks_and_the_head_behind_tokens_are_timms_network(family):
    name, options = TOKENS[family]
    network, theirs = TimmStages(name, CnnHead(1), options).build(IMAGE, 5).eval(), reference(name, options)
    assert len(network.blocks) == block_count(name, options) == 3  # the embedding, and two blocks
    for mine, part in zip([*network.blocks, network.head(3)], cut(theirs), strict=True):
        copy(part, mine)
    x = torch.randn(2, *IMAGE)
    torch.testing.assert_close(network(x), theirs(x))
    if family == "class token":  # not a model of ours
        assert torch.equal(network.features(x, 1), theirs.norm_pre(theirs._pos_embed(theirs.patch_embed(x))))
    if hasattr(theirs, "num_prefix_tokens"):
        inside = theirs.forward_intermediates(x, output_fmt="NLC", intermediates_only=True)
        for j, tokens in enumerate(inside, 2):
            torch.testing.assert_close(network.features(x, j)[:, theirs.num_prefix_tokens :], tokens)


@pytest.mark.parametrize("family", STAGES)
def test_blocks_that_are_stages_give_timms_features(family):
    name, options = STAGES[family]
    network, theirs = TimmStages(name, CnnHead(2, 4), options).build(IMAGE, 5).eval(), reference(name, options)
    *parts, rest = cut(theirs)
    for mine, part in zip(network.blocks, parts, strict=True):
        copy(part, mine)
    x = torch.randn(2, *IMAGE)
    for j, expected in enumerate(theirs.forward_intermediates(x, intermediates_only=True, output_fmt="NCHW"), 1):
        torch.testing.assert_close(network.features(x, j), expected)
        assert network(x, j).shape == (2, 5)
    torch.testing.assert_close(rest(network.features(x, len(parts))), theirs(x))


def test_a_head_of_two_layers_has_a_fresh_transformer_block():
    networks = [TimmStages("vit_tiny_patch16_224", CnnHead(k), VIT).build(IMAGE, 5) for k in (1, 2)]
    shallow, deep = ([sum(p.numel() for p in network.head(j).parameters()) for j in (1, 2, 3)] for network in networks)
    block = sum(p.numel() for p in networks[0].blocks[1].parameters())
    assert shallow == [16 * 5 + 5 + 2 * 16] * 3
    assert deep == [n + block for n in shallow]
    first, second = (networks[1].head(j)[0].attn.qkv.weight for j in (1, 2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "head", "options", "message"),
    [
        ("legacy_xception", CnnHead(2), {}, "cannot be cut into blocks: a stage reads more than .* plan=joint"),
        ("test_vit", MlpSrHead(), {}, "returns tokens, which need model.head=cnn"),
        ("test_vit", CnnHead(2, 8), {}, "model.head_width=8: .* as wide as its tokens"),
        ("hiera_tiny_224", CnnHead(1), {}, r"tokens of different shapes \(64×96 and 1×768\)"),
        ("test_vit", CnnHead(1), {"depht": 3}, r"model.options=.*unexpected keyword argument 'depht'"),
    ],
)
def test_what_cannot_be_built_is_said(name, head, options, message):
    with pytest.raises(LayerwiseError, match=message):
        TimmStages(name, head, options).build(IMAGE, 5)


PLAIN = dict.fromkeys(["model.width", "model.head_width", "model.downsample", "J"])
RUN = {
    "model": "timm",
    "model.name": "vit_tiny_patch16_224",
    "model.options": "{patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}",
    **PLAIN,
    "optimizer.lr": 0.01,
    "precision": "fp32",
}


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cached_tokens_give_the_numbers_of_recomputed_ones(trained, cache):
    rows = [
        [(row["train"], row["test"]) for row in results_of(trained(**RUN, cache=kind))["blocks"]]
        for kind in ("none", cache)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


def test_tokens_in_256_levels(trained):
    cache = results_of(trained(**RUN, cache="memory", **{"cache.dtype": "uint8"}))["cache"]
    assert cache["dtype"] == "uint8"
    assert not cache["exact"]


def test_a_stopped_run_of_a_transformer_goes_on(assert_goes_on_to_the_bit):
    folder = assert_goes_on_to_the_bit(lambda stage, saves: stage == 2, **RUN, **{"plan.head": "carried"})
    network = layerwise.load(folder)
    assert network.features(torch.zeros(1, *network.spec.shape), 2).shape == (1, 5, 16)


def test_all_blocks_of_a_transformer_at_once(trained):
    folder = trained(**RUN, plan="simultaneous", k=2, **{"model.options.depth": 1, "plan.epochs": 1})
    assert [row["block"] for row in results_of(folder)["blocks"]] == [1, 2]


def test_a_transformer_is_exported_and_not_probed(trained, tmp_path):
    folder = trained(**RUN, epochs=1)
    servable = Servable(layerwise.load(folder), ensemble=True)
    for form in Format:
        assert export(servable, form).difference < 1e-4
    with pytest.raises(LayerwiseError, match="returns tokens at its last depth, but probes need feature maps"):
        probe([str(folder)])


def test_options_of_other_networks_and_of_ours_are_refused(train_py):
    assert_refused(train_py(**RUN, **{"model.options.num_classes": 3}), "model.options.num_classes: follows from")
    assert_refused(train_py(**RUN, plan="autoencoder"), "a decoder does not read tokens")
    assert_refused(train_py(**{**RUN, "model.options": 3}), "model.options=3: is a group of keys")
    assert_refused(
        train_py(**{"model.options.depth": 3}), "model.options={'depth': 3}: model=simcnn has no such option"
    )


def test_weights_that_timm_offers_begin_all_blocks(trained, monkeypatch):
    offered = timm.create_model("test_vit", img_size=8, patch_size=4)
    state = offered.state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: dict(state))
    options = {"model.name": "test_vit", "model.options": "{patch_size: 4}", "model.pretrained": "timm"}
    few = {"epochs": 1, "plan.frozen_blocks": 6, "dataset.limit": 100}
    folder = trained(**{**RUN, **options, **few})
    blocks = layerwise.load(folder).blocks
    assert torch.equal(blocks[3].attn.qkv.weight, offered.blocks[2].attn.qkv.weight)
    assert not torch.equal(blocks[6].attn.qkv.weight, offered.blocks[5].attn.qkv.weight)
