import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from convmae_det.inference.tracking import Track, Tracker


def found(*objects) -> Instances:
    """Objects of a frame, each x, y of its centre, score and class; 20 pixels wide and 30 high."""
    values = torch.tensor(objects, dtype=torch.float).reshape(-1, 4)
    centre, half = values[:, :2], torch.tensor((10.0, 15.0))
    instances = Instances((400, 400), pred_boxes=Boxes(torch.cat((centre - half, centre + half), 1)))
    instances.scores, instances.pred_classes = values[:, 2], values[:, 3].long()
    return instances


def follow(frames, frame_rate=10.0) -> list[list[int]]:
    tracker = Tracker(frame_rate)
    return [tracker.update(found(*frame)).track_ids.tolist() for frame in frames]


def test_objects_that_pass_each_other_keep_their_numbers():
    """Whatever the order in which they are found."""
    frames = [[(50 + 8 * t, 100, 0.9, 0), (210 - 8 * t, 118, 0.8, 0)][:: 1 if t % 2 else -1] for t in range(20)]
    ids = follow(frames)
    assert [numbers[:: 1 if t % 2 else -1] for t, numbers in enumerate(ids)] == [ids[0][::-1]] * 20
    assert sorted(ids[0]) == [1, 2]


def test_a_hidden_object_comes_back_as_itself_where_its_speed_brings_it():
    """For a second; later it is another."""
    way = [[(50 + 9 * t, 100, 0.9, 0)] for t in range(60)]
    for gap, number in ((8, 1), (11, 2)):
        ids = follow(way[:20] + [[]] * gap + way[20 + gap :])
        assert ids[19] == [1] and ids[20 + gap] == [number]


def test_low_scores_go_on_with_a_track_and_begin_none():
    ids = follow([[(50, 100, 0.9, 0)], [(52, 100, 0.3, 0), (200, 100, 0.3, 0)], [(54, 100, 0.9, 0)]])
    assert ids == [[1], [1, -1], [1]]


def test_classes_are_apart():
    one, other = (50, 100, 0.9, 0), (50, 100, 0.9, 1)
    assert follow([[one], [other], [other, one]]) == [[1], [2], [2, 1]]


def test_frames_without_objects_and_what_is_kept_of_instances():
    tracker = Tracker(25)
    empty = tracker.update(found())
    assert len(empty) == 0 and empty.track_ids.dtype == torch.int64 and not tracker.traces
    frame = found((50, 100, 0.9, 0), (90, 100, 0.2, 1))
    tracked = tracker.update(frame)
    assert tracked.scores is frame.scores and tracked.track_ids.tolist() == [1, -1]


def test_traces_end_where_the_object_is():
    tracker = Tracker(5)
    for t in range(30):
        tracker.update(found((50 + t, 100, 0.9, 0)))
    ((number, trace),) = tracker.traces.items()
    assert number == 1 and trace.shape == (10, 2)  # two seconds
    np.testing.assert_allclose(trace[:, 0], 50 + np.arange(20, 30))
    tracker.update(found())
    assert not tracker.traces  # of what is seen alone


def test_the_filter_learns_the_speed():
    """It is the Kalman filter of place and speed, written out for each coordinate."""
    rng = np.random.default_rng(0)
    track = Track(1, 0, np.array((0.0, 0, 40, 40)), 9)
    state, cov = np.zeros(2), np.diag((track.place_variance[0], track.speed_variance[0]))
    state[0] = 20
    for t in range(1, 60):
        step = np.array(((1, 1), (0, 1)))
        size = track.place[2:].mean()
        state, cov = step @ state, step @ cov @ step.T + np.diag(((size / 20) ** 2, (size / 160) ** 2))
        track.predict()
        x = 3.0 * t + rng.normal()
        track.correct(np.array((x, 0, x + 40, 40)))
        gain = cov[:, 0] / (cov[0, 0] + 2.0**2)
        state = state + gain * (x + 20 - state[0])
        cov = cov - np.outer(gain, cov[0])
        np.testing.assert_allclose((track.place[0], track.speed[0]), state)
    assert abs(track.speed[0] - 3) < 0.5
