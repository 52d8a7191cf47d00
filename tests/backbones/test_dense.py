"""Backbones under torchvision's detectors and a segmentation head learn from boxes and masks."""

import pytest
import torch
from tiny_models import TINY_WIDTH, models
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from backbones import create, load_config
from backbones.dense import Pyramid, Segmenter
from backbones.errors import ConfigError
from backbones.network import Backbone
from backbones.official.vmamba import vmamba_dense

TINY = models()
SIDE = 64
SQUARES = [
    {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, SIDE, SIDE, dtype=torch.uint8),
    }
]


def falls(module, loss, rate=1e-3):
    """Whether two steps lower a loss."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate)
    seen = []
    for _ in range(3):
        torch.manual_seed(1)  # of the proposals that are drawn
        value = loss()
        seen.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return seen[-1] < seen[0]


def anchors(levels):
    return AnchorGenerator(tuple((16 * 2**i,) for i in range(levels)), ((1.0,),) * levels)


def test_a_mask_rcnn_learns_from_boxes_and_masks():
    pyramid = Pyramid(TINY["mixer:hilbert"], channels=16)
    detector = MaskRCNN(
        pyramid, 2, min_size=SIDE, max_size=SIDE, rpn_anchor_generator=anchors(3),
        rpn_post_nms_top_n_train=20,
    )  # fmt: skip
    images = [torch.rand(3, SIDE, SIDE)]
    assert falls(detector, lambda: sum(detector(images, SQUARES).values()))
    without = [n for n, p in pyramid.named_parameters() if p.grad is None]
    assert without == []
    [found] = detector.eval()(images)
    assert set(found) == {"boxes", "labels", "scores", "masks"}


def test_a_retinanet_learns_on_a_plain_backbone():
    pyramid = Pyramid(TINY["preset:vim_base"], channels=16, extra="p6p7")
    detector = RetinaNet(pyramid, 2, min_size=SIDE, max_size=SIDE, anchor_generator=anchors(6))
    images = [torch.rand(3, SIDE, SIDE)]
    assert falls(detector, lambda: sum(detector(images, SQUARES).values()), 1e-2)
    assert [n for n, p in pyramid.named_parameters() if p.grad is None] == []


def test_a_segmenter_learns_classes_of_pixels():
    segmenter = Segmenter(Pyramid(TINY["mixer:quadtree"], channels=16, extra="none"), 3)
    image = torch.rand(2, 3, 48, 64)
    labels = torch.randint(3, (2, 48, 64))
    assert segmenter(image).shape == (2, 3, 48, 64)
    assert falls(segmenter, lambda: torch.nn.functional.cross_entropy(segmenter(image), labels))


def test_the_backbone_of_a_released_detector_loads():
    config = TINY["preset:vmamba_base_s1l20"]
    model = Backbone(config, stage_norms=True)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    state = {
        f"backbone.{key}": torch.randn(source.expected(shapes[ours]))
        for ours, source in vmamba_dense(config).sources.items()
        for key in source.keys
    }
    others = {"neck.fpn.weight": torch.zeros(1), "rpn_head.conv.bias": torch.zeros(1)}
    pyramid = Pyramid(config, channels=16, weights={"state_dict": state | others, "meta": {}})
    norm = pyramid.body.stage_norms[3]
    assert torch.equal(norm.weight, state["backbone.outnorm3.weight"])
    assert torch.equal(
        pyramid.body.stages[0].blocks[0].mixer.in_proj.weight,
        state["backbone.layers.0.blocks.0.op.in_proj.weight"],
    )
    del state["backbone.outnorm3.weight"]
    with pytest.raises(ConfigError, match=r"1 missing: outnorm3\.weight"):
        Pyramid(config, weights=state)


def test_a_classifiers_weights_load_below_fresh_norms():
    config = TINY["mixer:hilbert"]
    classifier = create(config)
    pyramid = Pyramid(config, weights=classifier.state_dict())
    assert torch.equal(pyramid.body.stem.conv1.weight, classifier.stem.conv1.weight)
    assert torch.equal(pyramid.body.stage_norms[0].weight, torch.ones(TINY_WIDTH))


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="extra 'p5' is unknown; use one of pool, p6p7, none"):
        Pyramid(TINY["mixer:hilbert"], extra="p5")
    state = {"backbone.outnorm0.weight": torch.zeros(1)}
    with pytest.raises(ConfigError, match="no released detectors of family mambaout are known"):
        Pyramid(load_config("mambaout_femto"), weights=state)
