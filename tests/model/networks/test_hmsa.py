import torch

from segstream.model.networks.build import build
from tests.model.networks.test_ocr import ocr_head
from tests.model.plain import HMSA as TINY
from tests.model.plain import OCR as TINY_OCR
from tests.model.plain import Plain, bilinear, images, shaken


def one_scale(net, x, scale):
    """Logits, first guess and attention at the size of the scaled image, float64, from the network's trunk on."""
    size_hw = tuple(max(int(n * scale), 1) for n in x.shape[2:])
    p, a = Plain(net), "scale_attn"
    features = net.backbone.features(bilinear(x, size_hw, aligned=False)).double()
    logits, guess, pixels = ocr_head(net, features)
    y = p.norm(p.conv(pixels, f"{a}.conv0"), f"{a}.bn0").relu()
    y = p.norm(p.conv(y, f"{a}.conv1"), f"{a}.bn1").relu()
    attention = 1 / (1 + (-p.conv(y, f"{a}.conv2")).exp())
    return tuple(bilinear(t, size_hw, aligned=False) for t in (logits, guess, attention))


def two_scales(net, x):
    size_hw = x.shape[2:]
    lo, lo_guess, attention = one_scale(net, x, net.lo_scale)
    hi, hi_guess, _ = one_scale(net, x, 1.0)
    up = bilinear(attention, size_hw, aligned=False)
    main, aux = (
        bilinear(attention * low, size_hw, aligned=False) + (1 - up) * high
        for low, high in ((lo, hi), (lo_guess, hi_guess))
    )
    return {"main": main, "aux": aux, "lo": lo, "hi": hi}


def test_three_scales_by_hand_from_high_to_low():
    net = shaken(build("hmsa", 5, n_scales=[0.5, 1.0, 2.0], **TINY)).eval()
    x = images(size_hw=(33, 41))
    with torch.no_grad():
        p, _, _ = one_scale(net, x, 2.0)
        logits, _, a = one_scale(net, x, 1.0)
        p = a * logits + (1 - a) * bilinear(p, (33, 41), aligned=False)
        logits, _, a = one_scale(net, x, 0.5)
        assert logits.shape[2:] == (16, 20)
        p = bilinear(a * logits, (33, 41), aligned=False) + (1 - bilinear(a, (33, 41), aligned=False)) * p
        torch.testing.assert_close(net(x).double(), p, rtol=1e-4, atol=1e-5)


def test_one_scale_alone_is_the_network_without_attention():
    net = shaken(build("hmsa", 5, **TINY)).eval()
    single = build("hrnet-ocr", 5, **TINY_OCR).eval()
    single.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("scale_attn")})
    with torch.no_grad():
        torch.testing.assert_close(net(images(), n_scales=(1,)), single(images()))


def test_batch_norms_see_the_low_scale_first_then_the_high():
    net = shaken(build("hmsa", 3, **TINY)).train()
    before, x = net.backbone.bn1.running_mean.clone(), images(size_hw=(40, 48))
    with torch.no_grad():
        means = [net.backbone.conv1(y).mean(dim=(0, 2, 3)) for y in (bilinear(x, (20, 24), aligned=False), x)]
    attention_before = net.scale_attn.bn0.num_batches_tracked.item()
    net(x)
    expected = 0.9 * (0.9 * before + 0.1 * means[0]) + 0.1 * means[1]
    torch.testing.assert_close(net.backbone.bn1.running_mean, expected)
    assert net.scale_attn.bn0.num_batches_tracked.item() == attention_before + 2


def test_scales_are_combined_in_float32():
    net = shaken(build("hmsa", 4, **TINY)).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = net(images())
    assert output.logits.dtype == output.aux[0].logits.dtype == torch.float32
