"""Probes depend on what they measure alone: not on scale, order, or how the work is cut."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from convmae_det.evaluation import probe
from convmae_det.evaluation.probe import (
    classify_by_neighbours,
    classify_linearly,
    compute_accuracy,
    compute_effective_rank,
)

CLASSES = 3


@pytest.fixture
def clusters():
    """Features and labels of 120 training and 30 test images, of classes that overlap a little."""
    labels = torch.arange(150) % CLASSES
    features = torch.randn(CLASSES, 8)[labels] + 0.8 * torch.randn(150, 8)
    return features[:120], labels[:120], features[120:], labels[120:]


def vote_plainly(train, labels, test, k):
    """An image and a neighbour at a time."""
    predicted = []
    for image in test:
        cosines = torch.stack([F.cosine_similarity(image, other, dim=0) for other in train])
        votes = [0.0] * CLASSES
        for place in cosines.argsort(descending=True)[:k].tolist():
            votes[int(labels[place])] += math.exp(float(cosines[place]) / 0.07)
        predicted.append(votes.index(max(votes)))
    return torch.tensor(predicted)


@pytest.mark.parametrize("k", [1, 5, 20, 500])
def test_neighbours_vote_by_their_cosine(clusters, monkeypatch, k):
    train, labels, test, _ = clusters
    expected = vote_plainly(train, labels, test, k)
    assert torch.equal(classify_by_neighbours(train, labels, test, CLASSES, k), expected)
    monkeypatch.setattr(probe, "SIMILARITIES", 7 * len(train))  # in parts
    assert torch.equal(classify_by_neighbours(17 * train, labels, 0.3 * test, CLASSES, k), expected)


def test_each_image_is_its_own_nearest_neighbour(clusters):
    train, labels, _, _ = clusters
    assert torch.equal(classify_by_neighbours(train, labels, train, CLASSES, k=1), labels)


def test_neighbours_without_test_images(clusters):
    train, labels, test, _ = clusters
    assert classify_by_neighbours(train, labels, test[:0], CLASSES).shape == (0,)


def test_linear_probe_of_separable_classes():
    labels = torch.arange(90) % CLASSES
    features = torch.cat([F.one_hot(labels, CLASSES) + 0.1 * torch.randn(90, CLASSES), torch.ones(90, 1)], dim=1)
    predicted, penalty = classify_linearly(features[:60], labels[:60], features[60:], CLASSES)
    assert torch.equal(predicted, labels[60:])
    assert penalty in probe.PENALTIES


def test_linear_probe_is_that_of_standardised_features(clusters):
    train, labels, test, _ = (x.double() if x.is_floating_point() else x for x in clusters)
    scale, shift = torch.rand(8).double() * 100 + 0.01, torch.randn(8).double() * 10
    predicted, penalty = classify_linearly(train, labels, test, CLASSES)
    moved = classify_linearly(train * scale + shift, labels, test * scale + shift, CLASSES)
    assert torch.equal(predicted, moved[0]) and penalty == moved[1]


def test_linear_probe_reaches_the_minimum(clusters):
    """The loss is convex, so a point without gradient is the minimum."""
    train, labels, _, _ = clusters
    train = train.double() * torch.logspace(0, -2, 8)
    weight, bias = (x.requires_grad_() for x in probe._fit(train, labels, CLASSES, penalty=1e-3))
    (F.cross_entropy(train @ weight + bias, labels) + 5e-4 * weight.square().sum()).backward()
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-5


def test_the_penalty_suits_the_data():
    """Where labels follow one of many features with noise, fits without a penalty learn the noise."""
    features = torch.randn(400, 300)
    labels = (features[:, 0] + torch.randn(400) > 0).long()
    assert classify_linearly(features, labels, features, 2)[1] >= 1e-2


def test_probes_leave_random_numbers_alone(clusters):
    state = torch.get_rng_state()
    classify_linearly(*clusters[:3], CLASSES)
    classify_by_neighbours(*clusters[:3], CLASSES)
    assert torch.equal(torch.get_rng_state(), state)


def test_accuracy():
    assert compute_accuracy(torch.tensor([1, 2, 0, 0]), torch.tensor([1, 2, 0, 3])) == 75
    assert math.isnan(compute_accuracy(torch.empty(0), torch.empty(0)))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_of_equal_directions(rank):
    """Whatever their scale, and wherever their mean lies."""
    centred = torch.randn(40, 8)
    rows = torch.linalg.qr(centred - centred.mean(dim=0))[0][:, :rank]
    features = rows @ torch.linalg.qr(torch.randn(8, 8))[0][:rank]
    for moved in (features, 1000 * features, features + 10 * torch.randn(8)):
        assert_close(compute_effective_rank(moved), float(rank), rtol=1e-3, atol=0)


def test_effective_rank_falls_where_directions_fade():
    features = torch.randn(50, 8)
    ranks = [compute_effective_rank(features * factor ** torch.arange(8)) for factor in (1, 0.5, 0.1)]
    assert 8 > ranks[0] > ranks[1] > ranks[2] > 1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_effective_rank_after_a_collapse(value):
    """Also where features differ by rounding."""
    features = torch.full((20, 5), value)
    assert compute_effective_rank(features) == 1
    assert compute_effective_rank(features * (1 + 1e-6 * torch.randn(20, 5))) == 1
