"""What frozen features are worth, as numbers: k nearest neighbours, logistic regression, effective rank.

N training and M test images, D features of each, K classes. Labels are int64 from 0.
"""

import torch
import torch.nn.functional as F
from tqdm import tqdm

NEIGHBOURS = 20
TEMPERATURE = 0.07  # of the neighbours' votes
SIMILARITIES = 2**24  # cosines that are held in memory at a time
PENALTIES = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)  # of the squared weights, against the mean cross-entropy; falling
MAX_STEPS = 100  # of L-BFGS
HELD_OUT = 0.1  # share of the training part on which the penalty is chosen
ROUNDING = 1e-5  # singular values of this size, relative to the norm of all features, are none
RANKED = 25_600  # images whose features are ranked, at most: with more the rank hardly changes (RankMe)


def classify_by_neighbours(
    train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, num_classes: int, k: int = NEIGHBOURS
) -> torch.Tensor:
    """Lets the k training images of the highest cosine vote, each with exp(cosine / TEMPERATURE).

    Args:
        train: (N, D) floating point
        labels: (N,) of the training images
        test: (M, D)
        num_classes: K
        k: neighbours; all where there are fewer

    Returns:
        (M,) predicted labels
    """
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    predicted = [test.new_empty(0, dtype=torch.int64)]
    for part in test.split(max(1, SIMILARITIES // len(train))):
        cosines, places = (part @ train.T).topk(min(k, len(train)), dim=1)
        votes = ((cosines - cosines[:, :1]) / TEMPERATURE).exp()
        sums = votes.new_zeros(len(part), num_classes).scatter_add_(1, labels[places], votes)
        predicted.append(sums.argmax(dim=1))
    return torch.cat(predicted)


def classify_linearly(
    train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, float]:
    """Fits a logistic regression on the training features, and predicts the labels of the others.

    Features are standardised by those of the training part. The penalty is the one of PENALTIES with the highest
    accuracy on a part of it that is held out; the regression is then fitted to all of it.

    Args:
        train: (N, D) floating point, N at least 2
        labels: (N,) of the training images
        test: (M, D)
        num_classes: K

    Returns:
        (M,) predicted labels, and the penalty
    """
    train, test = _align(train, test)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).to(train.device)
    held, kept = order.tensor_split([max(1, round(HELD_OUT * len(train)))])
    accuracies = []
    for penalty in tqdm(PENALTIES, desc="Linear probe", unit=" fits", delay=1, disable=None):
        weight, bias = _fit(train[kept], labels[kept], num_classes, penalty)
        accuracies.append(compute_accuracy((train[held] @ weight + bias).argmax(dim=1), labels[held]))
    best = PENALTIES[accuracies.index(max(accuracies))]
    weight, bias = _fit(train, labels, num_classes, best)
    return (test @ weight + bias).argmax(dim=1), best


def compute_accuracy(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """Computes the share of right labels in percent; nan without any."""
    return 100 * (predicted == labels).double().mean().item()


def compute_effective_rank(features: torch.Tensor) -> float:
    """Computes RankMe (arXiv 2210.02885), exp of the entropy of the singular values, of what differs between images.

    The mean of the features is taken from them first: maps that no norm has followed have a large one, beside which
    the published number would be near 1 whatever else there is. The result lies between 1, where all features are equal
    or on one line, as after a collapse, and min(N - 1, D).

    Args:
        features: (N, D) floating point, of which RANKED rows count, evenly spread
    """
    rows = torch.linspace(0, len(features) - 1, min(len(features), RANKED), dtype=torch.float64).round().long()
    chosen = features[rows.to(features.device)].double()
    values = torch.linalg.svdvals(chosen - chosen.mean(dim=0))
    values = values * (values > ROUNDING * chosen.norm())
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp().item()


def _align(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardises both by the mean and deviation of `train`, and turns them to the principal axes of that."""
    deviation, mean = torch.std_mean(train, dim=0)
    deviation = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation))  # constant features
    train, test = (train - mean) / deviation, (test - mean) / deviation
    axes = torch.linalg.eigh(train.T @ train).eigenvectors
    return train @ axes, test @ axes


def _fit(
    features: torch.Tensor, labels: torch.Tensor, num_classes: int, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimises the mean cross-entropy plus half the penalty times the squared weights, by L-BFGS.

    Features whose axes are principal are scaled for it so that the loss is about equally curved along all of them,
    without which it takes several hundred steps.

    Returns:
        weight (D, K) and bias (K,)
    """
    scale = (features.square().mean(dim=0) / num_classes + penalty).rsqrt()[:, None]
    scaled = features * scale.T
    weight, bias = (features.new_zeros(shape, requires_grad=True) for shape in ((len(scale), num_classes), num_classes))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def compute_gradients() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scaled @ weight + bias, labels) + penalty / 2 * (weight * scale).square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(compute_gradients)
    return weight.detach() * scale, bias.detach()
