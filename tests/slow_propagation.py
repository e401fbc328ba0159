"""Label propagation once more, independent and slow: lists, loops, one cell at a time; for parity tests."""

import math

import torch


def context_of(target, protocol):
    """Frame numbers that frame `target` sees; the first is frame 0 as such, repetitions are meant."""
    if protocol.padded_start:
        return [0] + [max(0, index) for index in range(target - protocol.queue, target)]
    return [0] + list(range(max(1, target - protocol.queue), target))


def slow_propagate(features, first_labels, protocol, confidences=None):
    features = [frame.double() / frame.double().norm(dim=0, keepdim=True) for frame in features]
    labels = [first_labels.double()]
    height, width = first_labels.shape[1:]
    cells = [(y, x) for y in range(height) for x in range(width)]
    for target in range(1, len(features)):
        result = torch.zeros_like(labels[0])
        for y, x in cells:
            found = []
            for position, frame in enumerate(context_of(target, protocol)):
                scores = torch.einsum("d,dhw->hw", features[target][:, y, x], features[frame]).tolist()
                for v, u in cells:
                    dy, dx = abs(v - y), abs(u - x)
                    if protocol.shape == "disc":
                        near = math.sqrt(dy**2 + dx**2) < protocol.radius
                    else:
                        near = dy <= protocol.radius and dx <= protocol.radius
                    if near or (position == 0 and not protocol.mask_first_frame):
                        found.append((scores[v][u], frame, v, u))
            found = sorted(found, key=lambda item: -item[0])[: protocol.top_k]
            weights = [math.exp(item[0] / protocol.temperature) for item in found]
            if confidences is not None:
                trusted = [confidences[frame][v, u].item() for _, frame, v, u in found]
                weights = [weight * trust for weight, trust in zip(weights, trusted, strict=True)]
            for weight, (_, frame, v, u) in zip(weights, found, strict=True):
                result[:, y, x] += weight / sum(weights) * labels[frame][:, v, u]
        labels.append(result)
    return labels


def random_video(frames, grid, dim=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(dim, *grid, generator=generator) for _ in range(frames)]
    labels = torch.rand(classes, *grid, generator=generator)
    return features, labels / labels.sum(0)
