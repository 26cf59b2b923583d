from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import plain
from safetensors.torch import save_file
from small_model import base_of, open_clip_keys, random_views
from small_training import CONFIG, OUT, towers
from torch.nn import functional as F

from noduleserve.errors import NoduleserveError, TrainingError
from noduleserve.training.model.lora import Lora, prepare, published_state
from noduleserve.training.model.loss import classification, contrast, feature_loss
from noduleserve.training.model.network import NoduleClip
from noduleserve.training.model.towers import configured_towers, file_towers, named_towers


@pytest.fixture
def network(tmp_path: Path) -> NoduleClip:
    return NoduleClip(towers(tmp_path), 3).eval()


def test_the_image_branch_is_the_plain_references(network: NoduleClip) -> None:
    state = {key: torch.from_numpy(value) for key, value in published_state(network, Lora())[0].items()}
    views = random_views(3)
    present = torch.ones(3, 9, dtype=torch.bool)
    with torch.no_grad():
        images, weights = network.encode_views(torch.from_numpy(views.reshape(-1, 50, 50)), present)
        logits = network.classifier_image(images)
    for nodule in range(3):
        pixels = torch.from_numpy(plain.pixels_of(views[nodule])).float()
        wanted = plain.image_forward(state, pixels)
        for own, other in zip((images, weights, logits), wanted, strict=True):
            torch.testing.assert_close(own[nodule], other, atol=2e-6, rtol=0)


def test_views_that_are_not_there_change_nothing(network: NoduleClip) -> None:
    views = torch.from_numpy(random_views(2)[:, :3])
    present = torch.tensor([[True, True, True], [True, False, False]])
    with torch.no_grad():
        mixed, weights = network.encode_views(torch.cat([views[0], views[1, :1]]), present)
        first, _ = network.encode_views(views[0], torch.ones(1, 3, dtype=torch.bool))
        second, _ = network.encode_views(views[1, :1], torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(mixed, torch.cat([first, second]), atol=1e-6, rtol=0)
    assert weights[1].tolist() == [1.0, 0.0, 0.0]


def test_what_comes_after_the_longest_text_changes_nothing(network: NoduleClip) -> None:
    import open_clip

    tokens = open_clip.SimpleTokenizer()(["a nodule", "a solid nodule of the lung"])
    with torch.no_grad():
        longest = int(tokens.argmax(dim=1).max()) + 1
        short, long = network.encode_texts(tokens[:, :longest]), network.encode_texts(tokens)
    assert longest < tokens.shape[1]
    torch.testing.assert_close(short, long, atol=1e-6, rtol=0)


def test_half_precision_computes_nearly_the_same(network: NoduleClip) -> None:
    prepare(network, "lora", Lora(), 0)
    views, present = torch.from_numpy(random_views(2)[:, :2].reshape(-1, 50, 50)), torch.ones(2, 2, dtype=torch.bool)
    tokens = torch.tensor([[49406, 10, 49407], [49406, 20, 49407]])
    whole = network.encode_views(views, present)[0], network.encode_texts(tokens)
    with torch.autocast("cpu", torch.bfloat16):  # as a GPU does
        half = network.encode_views(views, present)[0], network.encode_texts(tokens)
    (half[0] @ half[1].T).sum().backward()
    for own, other in zip(half, whole, strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, other, atol=0.05, rtol=0)
    moved = [p.grad for name, p in network.named_parameters() if ".lora_B." in name]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in moved)


def test_the_caller_keeps_his_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(1)
    torch.manual_seed(1)
    prepare(NoduleClip(towers(tmp_path), 3), "lora", Lora(), 3)
    assert torch.rand(1) == wanted


@pytest.mark.parametrize(("tuning", "moves"), [("lora", {".lora_"}), ("full", {"clip."}), ("probe", set())])
def test_what_each_tuning_trains(network: NoduleClip, tuning: Any, moves: set[str]) -> None:
    prepare(network, tuning, Lora(), 0)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    towers = {name for name in trained if name.startswith("clip.") and name != "clip.logit_scale"}
    assert "clip.logit_scale" in trained
    heads = {name for name, _ in network.named_parameters() if not name.startswith("clip.")}
    assert heads <= trained
    if tuning == "full":
        assert trained == {name for name, _ in network.named_parameters()}
    elif tuning == "lora":
        # q, k and v of one block in each tower, A and B
        assert len(towers) == 12 and all(".lora_" in name for name in towers)
        assert {name.split(".lora_")[0].rpartition(".")[2] for name in towers} == {"q_proj", "k_proj", "v_proj"}
    else:
        assert towers == set()


def test_adapters_begin_as_nothing_and_are_scaled_by_the_root_of_the_rank(network: NoduleClip) -> None:
    views, present = torch.from_numpy(random_views(1)[0, :1]), torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        before, _ = network.encode_views(views, present)
        prepare(network, "lora", Lora(rank=2, alpha=1), 0)
        network.eval()
        after, _ = network.encode_views(views, present)
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)
    _, updates = published_state(network, Lora(rank=2, alpha=1))
    assert {update.scale for update in updates.values()} == {1 / math.sqrt(2)}
    assert sorted(updates)[0] == "transformer.resblocks.0.attn.k_proj" and len(updates) == 6


def test_the_contrast_is_the_papers_where_reports_differ() -> None:
    rng = torch.Generator().manual_seed(0)
    images, reports = (F.normalize(torch.randn(5, 8, generator=rng), dim=-1) for _ in range(2))
    logits, own = 9.0 * images @ reports.T, torch.arange(5)
    wanted = (
        F.cross_entropy(logits, own, label_smoothing=0.1) + F.cross_entropy(logits.T, own, label_smoothing=0.1)
    ) / 2
    tokens = torch.arange(5)[:, None]
    torch.testing.assert_close(contrast(images, reports, torch.tensor(9.0), tokens, 0.1), wanted)
    # Two that have the same report are not held against each other.
    same = torch.eye(8)[[0, 0, 1]]
    assert float(contrast(same, same, torch.tensor(100.0), torch.tensor([[7], [7], [8]]), 0.0)) == pytest.approx(
        2 / 3 * math.log(2), abs=1e-5
    )


def test_nodules_without_a_label_have_no_part_in_the_classification() -> None:
    logits = torch.tensor([[0.0, 2.0], [5.0, 1.0], [1.0, 1.0]], requires_grad=True)
    known = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.5, 0.5]])
    loss = classification(logits, known)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)
    assert logits.grad is not None and logits.grad[1].tolist() == [0.0, 0.0]
    assert classification(logits, torch.zeros(3, 2)).item() == 0.0


def test_the_loss_of_features_stays_within_each_feature() -> None:
    prompts = torch.eye(5)
    images = F.normalize(torch.tensor([[2.0, 1.0, 0.0, 0.0, 9.0]]), dim=-1)
    groups = torch.tensor([0, 0, 1, 1, 1])
    only_first = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
    x = 3.0 * images[0]
    wanted = -(x[0] - torch.logsumexp(x[:2], 0))
    torch.testing.assert_close(feature_loss(images, prompts, torch.tensor(3.0), groups, only_first), wanted)
    assert feature_loss(images, prompts, torch.tensor(3.0), groups, torch.zeros(1, 5)).item() == 0.0


def test_towers_of_a_file_have_its_weights(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    save_file({key: value.contiguous() for key, value in open_clip_keys(base_of()).items()}, file)
    found = file_towers(file, OUT)
    network = NoduleClip(found, 0)
    state, updates = published_state(network, Lora())
    for key, value in base_of().items():
        np.testing.assert_array_equal(state[key], value)
    assert updates == {} and found.sha256 and not found.halves
    assert float(network.scale.detach()) == pytest.approx(1 / 0.07)


def test_a_base_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    tensors = {key: value.contiguous() for key, value in open_clip_keys(base_of()).items()}
    del tensors["ln_final.bias"]
    save_file(tensors, tmp_path / "base.safetensors")
    with pytest.raises(TrainingError, match=r"TOWERS_UNSUPPORTED.*ln_final\.bias"):
        file_towers(tmp_path / "base.safetensors", OUT)
    with pytest.raises(TrainingError, match="BASE_NOT_FOUND"):
        file_towers(tmp_path / "other.safetensors", OUT)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quick_gelu": False}, "TOWERS_UNSUPPORTED"),
        ({"vision_cfg": CONFIG["vision_cfg"] | {"patch_size": 50}}, "TOWERS_UNSUPPORTED"),  # type: ignore[operator]
        ({"vision_cfg": CONFIG["vision_cfg"] | {"ls_init_value": 1}}, "TOWERS_UNSUPPORTED"),  # type: ignore[operator]
        ({"vision_cfg": CONFIG["vision_cfg"] | {"width": 96}}, "TOWERS_UNSUPPORTED"),  # type: ignore[operator]
        ({"text_cfg": CONFIG["text_cfg"] | {"heads": 2}}, "TOWERS_UNSUPPORTED"),  # type: ignore[operator]
        ({"text_cfg": {"width": 64}}, "TOWERS_CONFIG"),
        ({"embed_dim": 2.5}, "TOWERS_CONFIG"),
        ({"custom_text": True}, "TOWERS_CONFIG"),
    ],
)
def test_a_network_that_is_not_served_is_refused(tmp_path: Path, changes: dict[str, object], code: str) -> None:
    (tmp_path / "towers.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(TrainingError) as refused:
        configured_towers(tmp_path / "towers.json", OUT, 0)
    assert refused.value.code == code


def test_a_name_says_what_it_is_and_nothing_is_downloaded() -> None:
    with pytest.raises(NoduleserveError, match="BASE_NOT_CACHED"):
        named_towers("ViT-B-32-quickgelu", "metaclip_fullcc", OUT, 0)
    with pytest.raises(NoduleserveError, match="GELU_UNSUPPORTED"):
        named_towers("ViT-B-32", None, OUT, 0)
