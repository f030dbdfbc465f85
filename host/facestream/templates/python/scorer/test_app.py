"""Natively, with a fake frame: PYTHONPATH=bindings python3 -m unittest"""

import unittest

import app
from componentize_py_types import Err
from wit_world.imports import pixels, shots, types


class FakeCrop:
    def __exit__(self, *_):
        pass


class FakeFrame:
    def __init__(self, sharpness):
        self.sharpness = sharpness

    def measure(self, area):
        return pixels.Quality(self.sharpness, 50.0)

    def crop(self, area, options):
        return FakeCrop()


def watch(scorer):
    """Shows one face in three frames, the second one sharpest, then ends its track."""
    face = types.Detection(types.Rect(100.0, 100.0, 80.0, 100.0), 0.9, 0, None)
    for n, sharpness in enumerate([10.0, 30.0, 20.0]):
        info = types.FrameInfo(1, n, n * 40_000_000, n, 1280, 720)
        confirmed = types.TrackPhase.CONFIRMED
        track = types.Track(1, confirmed, face.bbox, types.Point(0.0, 0.0), 0.9, 0, 0, 0, info.timestamp)
        assert scorer.observe(info, FakeFrame(sharpness), [face], [track], []) == []
    return scorer.observe(types.FrameInfo(1, 3, 120_000_000, 3, 1280, 720), FakeFrame(0.0), [], [], [1])


class Scorer(unittest.TestCase):
    def test_the_sharpest_picture_is_sent_when_the_track_ends(self):
        scorer = app.Scorer()
        scorer.configure(types.Camera("door", "{}", 900_000))
        (shot,) = watch(scorer)
        self.assertEqual((shot.sequence, shot.reason), (1, shots.Reason.ENDED))

    def test_small_faces_are_not_kept_and_settings_are_checked(self):
        scorer = app.Scorer()
        scorer.configure(types.Camera("door", '{"min_width": 81}', 900_000))
        self.assertEqual(watch(scorer), [])
        with self.assertRaises(Err):
            scorer.configure(types.Camera("door", '{"min_widht": 81}', 900_000))


if __name__ == "__main__":
    unittest.main()
