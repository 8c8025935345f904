"""Whether scores are what they look like: of detections with a score of 0.7, 70 % should be right."""

import numpy as np

BINS = 10


def calibrate(score: np.ndarray, right: np.ndarray) -> dict:
    """Compares scores with the share of detections that are objects.

    Args:
        score: (n,) 0 to 1
        right: (n,) bool

    Returns:
        "bins", for each its scores "from" and "to", the mean "score" and the "precision" in percent, both None without
        detections, and their "count"; "error", the expected calibration error in percent: how far score and precision
        lie apart, on average over the detections; None without any
    """
    place = np.clip((score * BINS).astype(int), 0, BINS - 1)
    count, total, hits = (np.bincount(place, weights, minlength=BINS) for weights in (None, score, right))
    bins = [
        {
            "from": i / BINS,
            "to": (i + 1) / BINS,
            "score": float(total[i] / count[i]) if count[i] else None,
            "precision": float(100 * hits[i] / count[i]) if count[i] else None,
            "count": int(count[i]),
        }
        for i in range(BINS)
    ]
    error = float(100 * np.abs(total - hits).sum() / len(score)) if len(score) else None
    return {"bins": bins, "error": error}
