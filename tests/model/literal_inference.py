"""MSeg's inference as it reads: an independent reference in float64, every window and its mirror image alone."""

import math

import cv2
import numpy as np
import torch

from segstream.model.networks.build import build

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def random_image(h, w, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (h // 4 + 2, w // 4 + 2, 3)).astype(np.uint8)
    return cv2.resize(noise, (w, h), interpolation=cv2.INTER_LINEAR)


def settled(arch, classes, *, sure=2, **options):
    """A random network with settled batch norm, confident enough that an average in the wrong place would show."""
    net = build(arch, classes, seed=5, **options)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.stack([torch.from_numpy(random_image(64, 64, seed)).float() for seed in range(4)])
    with torch.no_grad():
        logits = net((images.permute(0, 3, 1, 2) - 120) / 57).logits
        head = net.ocr.cls_head if arch == "hmsa" else net.last_layer[3]
        mean = logits.mean(dim=(0, 2, 3))
        scale = sure / (logits - mean[:, None, None]).std()
        head.weight *= scale
        head.bias.copy_(scale * (head.bias - mean))  # no class is above the others everywhere
    return net.eval()


def literal(net, image, matrix, *, base, crop, scales, flip):
    """(K, H, W) scores; the network itself runs in float64 too."""
    native_h, native_w = image.shape[:2]
    total = np.zeros((len(matrix), native_h, native_w))
    for scale in scales:
        short = round(scale * base)
        if native_h > native_w:
            new_h, new_w = round(short / native_w * native_h), short
        else:
            new_h, new_w = short, round(short / native_h * native_w)
        scaled = cv2.resize(image.astype(np.float64), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        full_h, full_w = max(new_h, crop), max(new_w, crop)
        top, left = (full_h - new_h) // 2, (full_w - new_w) // 2
        padded = np.empty((full_h, full_w, 3))
        padded[:] = MEAN
        padded[top : top + new_h, left : left + new_w] = scaled
        sums, visits = np.zeros((len(matrix), full_h, full_w)), np.zeros((full_h, full_w))
        stride = math.ceil(crop * 2 / 3)
        for i in range(math.ceil((full_h - crop) / stride) + 1):
            for j in range(math.ceil((full_w - crop) / stride) + 1):
                bottom, right = min(i * stride + crop, full_h), min(j * stride + crop, full_w)
                y, x = bottom - crop, right - crop
                window = (padded[y:bottom, x:right] - MEAN) / STD
                scores = _projected(net, window, matrix)
                if flip:
                    scores = (scores + _projected(net, window[:, ::-1], matrix)[:, :, ::-1]) / 2
                sums[:, y:bottom, x:right] += scores
                visits[y:bottom, x:right] += 1
        maps = (sums / visits)[:, top : top + new_h, left : left + new_w]
        total += np.stack([cv2.resize(m, (native_w, native_h), interpolation=cv2.INTER_LINEAR) for m in maps])
    return total / len(scales)


def _projected(net, window, matrix):
    images = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))[None]
    with torch.no_grad():
        logits = net.double()(images)[0].numpy()
    net.float()
    e = np.exp(logits - logits.max(axis=0))
    return np.tensordot(matrix, e / e.sum(axis=0), axes=1)
