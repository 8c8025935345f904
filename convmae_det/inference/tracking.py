"""Objects followed from frame to frame: ByteTrack (arXiv 2110.06864), class by class.

A track predicts by a Kalman filter where its object will be. Objects of high scores are matched with all tracks by what
their boxes share; those of low scores then with the tracks that were there a frame ago and are still unmatched, so that
an object is not lost while something hides a part of it.
"""

from collections import deque

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, pairwise_iou

HIGH, LOW, NEW = 0.5, 0.1, 0.6  # scores: of high ones; the least; from which on an object begins a track
SHARED_HIGH, SHARED_LOW = 0.2, 0.5  # least IoU of an object of a high, or a low, score and the predicted box
PATIENCE, TRACE = 1.0, 2.0  # seconds: for which a lost track is kept; which its trace shows
PLACE_NOISE, SPEED_NOISE = 1 / 20, 1 / 160  # standard deviations a frame, in sizes of the object


class Track:
    """An object that is followed.

    Each of the four coordinates (centre x, centre y, width, height, in pixels) is filtered by itself: a place, a speed
    in pixels a frame, and the variances of both with their covariance.

    Attributes:
        number: from 1 on
        index: of the class
        missed: frames since it was last seen
        trace: the latest centres, (2) each
    """

    def __init__(self, number: int, index: int, box: np.ndarray, length: int):
        self.number, self.index, self.missed = number, index, 0
        self.place, self.speed = _to_centre(box), np.zeros(4)
        size = self.place[2:].mean()
        self.place_variance = np.full(4, (2 * PLACE_NOISE * size) ** 2)
        self.speed_variance = np.full(4, (10 * SPEED_NOISE * size) ** 2)
        self.covariance = np.zeros(4)
        self.trace = deque([self.place[:2]], maxlen=length)

    def predict(self) -> None:
        """Goes on by a frame."""
        size = self.place[2:].mean()
        self.place = self.place + self.speed
        self.place_variance = (
            self.place_variance + 2 * self.covariance + self.speed_variance + (PLACE_NOISE * size) ** 2
        )
        self.covariance = self.covariance + self.speed_variance
        self.speed_variance = self.speed_variance + (SPEED_NOISE * size) ** 2
        self.missed += 1

    def correct(self, box: np.ndarray) -> None:
        """Takes in where the object was found."""
        found = _to_centre(box)
        total = self.place_variance + (PLACE_NOISE * found[2:].mean()) ** 2
        gain, speed_gain = self.place_variance / total, self.covariance / total
        error = found - self.place
        self.place, self.speed = self.place + gain * error, self.speed + speed_gain * error
        self.speed_variance = self.speed_variance - speed_gain * self.covariance
        self.covariance = (1 - gain) * self.covariance
        self.place_variance = (1 - gain) * self.place_variance
        self.missed = 0
        self.trace.append(found[:2])

    @property
    def box(self) -> np.ndarray:  # (4) x0 y0 x1 y1
        centre, half = self.place[:2], np.maximum(self.place[2:], 1) / 2
        return np.concatenate((centre - half, centre + half))


class Tracker:
    """Follows the objects of a video.

    Attributes:
        tracks: those that are seen, or have been a short time ago
    """

    def __init__(self, frame_rate: float):
        """`frame_rate` is that of the video, in frames a second."""
        self.patience, self.trace_length = (max(1, round(time * frame_rate)) for time in (PATIENCE, TRACE))
        self.tracks: list[Track] = []
        self._count = 0

    @property
    def traces(self) -> dict[int, np.ndarray]:
        """The way of each object that is seen, by number: centres (k, 2) in pixels, the latest last."""
        return {track.number: np.array(track.trace) for track in self.tracks if not track.missed}

    def update(self, instances: Instances) -> Instances:
        """Follows the objects into the next frame.

        Args:
            instances: found in it: pred_boxes, pred_classes, scores

        Returns:
            The same objects with track_ids, (n) int64; -1: not followed
        """
        boxes, scores = instances.pred_boxes.tensor.double().numpy(), instances.scores.numpy()
        classes = instances.pred_classes.numpy()
        ids = np.full(len(instances), -1)
        for track in self.tracks:
            track.predict()
        high = np.flatnonzero(scores >= HIGH)
        self._match(self.tracks, high, boxes, classes, SHARED_HIGH, ids)
        waiting = [track for track in self.tracks if track.missed == 1]
        low = np.flatnonzero((scores >= LOW) & (scores < HIGH))
        self._match(waiting, low, boxes, classes, SHARED_LOW, ids)
        for number in high[(ids[high] < 0) & (scores[high] >= NEW)]:
            self._count += 1
            self.tracks.append(Track(self._count, int(classes[number]), boxes[number], self.trace_length))
            ids[number] = self._count
        self.tracks = [track for track in self.tracks if track.missed <= self.patience]
        fields = instances.get_fields() | {"track_ids": torch.from_numpy(ids)}
        return Instances(instances.image_size, **fields)

    @staticmethod
    def _match(
        tracks: list[Track], numbers: np.ndarray, boxes: np.ndarray, classes: np.ndarray, least: float, ids: np.ndarray
    ) -> None:
        """Matches tracks with objects of their class so that they share most, at least `least`, and fills in `ids`."""
        from scipy.optimize import linear_sum_assignment

        if not tracks or not len(numbers):
            return
        predicted = np.array([track.box for track in tracks])
        shared = pairwise_iou(Boxes(torch.from_numpy(predicted)), Boxes(torch.from_numpy(boxes[numbers]))).numpy()
        shared[np.array([track.index for track in tracks])[:, None] != classes[numbers]] = 0
        shared[shared < least] = 0
        for row, column in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            if shared[row, column]:
                tracks[row].correct(boxes[numbers[column]])
                ids[numbers[column]] = tracks[row].number


def _to_centre(box: np.ndarray) -> np.ndarray:
    """Converts x0 y0 x1 y1 to the centre's x and y, width, height."""
    return np.concatenate(((box[:2] + box[2:]) / 2, box[2:] - box[:2]))
