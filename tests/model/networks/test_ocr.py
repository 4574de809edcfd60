import pytest
import torch

from segstream.model.networks.build import build
from segstream.model.networks.ocr import gather
from tests.model.plain import OCR as TINY
from tests.model.plain import Plain


def ocr_head(net, features):
    """Logits, first guess and augmented pixels from the trunk's features, pixel by pixel and class by class."""
    p, c = Plain(net), "ocr.ocr_distri_head.object_context_block"

    def steps(x, *names):
        for conv, norm in names:
            x = p.norm(p.conv(x, conv), norm).relu()
        return x

    pixels = steps(features, ("ocr.conv3x3_ocr.0", "ocr.conv3x3_ocr.1.0"))
    guess = p.conv(steps(features, ("ocr.aux_head.0", "ocr.aux_head.1.0")), "ocr.aux_head.2")
    weights = (guess - guess.amax(dim=(2, 3), keepdim=True)).exp().unsqueeze(1)
    vectors = ((pixels.unsqueeze(2) * weights).sum(dim=(3, 4)) / weights.sum(dim=(3, 4)))[..., None]
    query = steps(pixels, (f"{c}.f_pixel.0", f"{c}.f_pixel.1.0"), (f"{c}.f_pixel.2", f"{c}.f_pixel.3.0"))
    key = steps(vectors, (f"{c}.f_object.0", f"{c}.f_object.1.0"), (f"{c}.f_object.2", f"{c}.f_object.3.0"))
    value = steps(vectors, (f"{c}.f_down.0", f"{c}.f_down.1.0"))
    scores = torch.einsum("bchw,bck->bkhw", query, key[..., 0]) / query.shape[1] ** 0.5
    shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    context = steps(torch.einsum("bkhw,bck->bchw", shares, value[..., 0]), (f"{c}.f_up.0", f"{c}.f_up.1.0"))
    d = "ocr.ocr_distri_head.conv_bn_dropout"
    augmented = steps(torch.cat([context, pixels], dim=1), (f"{d}.0", f"{d}.1.0"))
    return p.conv(augmented, "ocr.cls_head"), guess, augmented


def ocr(net, x):
    return dict(zip(("main", "aux"), ocr_head(net, net.backbone.features(x).double()), strict=False))


def test_a_class_is_the_mean_of_pixels_weighted_over_the_image():
    pixels, guess = torch.randn(2, 4, 3, 5), torch.full((2, 3, 3, 5), -1e4)
    guess[:, 0, 1, 2] = 0.0  # all of class 0 is one pixel
    guess[:, 1] = 7.0  # class 1 is everywhere alike
    got = gather(pixels, guess)
    assert got.shape == (2, 4, 3, 1)
    torch.testing.assert_close(got[:, :, 0, 0], pixels[:, :, 1, 2])
    torch.testing.assert_close(got[:, :, 1, 0], pixels.mean(dim=(2, 3)))


def test_first_weights_the_trunks_tiny_the_heads_by_fan_in():
    a = build("hrnet-ocr", 3, seed=7, **TINY | {"stem": 64}).state_dict()
    assert a["backbone.conv2.weight"].std().item() == pytest.approx(0.001, rel=0.05)
    bound = (22 * 9) ** -0.5
    assert 0.95 * bound < a["ocr.conv3x3_ocr.0.weight"].abs().max().item() <= bound
