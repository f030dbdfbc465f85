"""Natively: PYTHONPATH=bindings python3 -m unittest"""

import unittest

import app
from wit_world.imports import types


def see(tracker, at_ms, places):
    faces = [types.Detection(types.Rect(x, 100.0, 80.0, 100.0), 0.9, 0, None) for x in places]
    return tracker.advance(types.FrameInfo(1, at_ms // 40, at_ms * 1_000_000, 0, 1280, 720), faces, None)


class Tracker(unittest.TestCase):
    def test_two_faces_keep_their_ids_and_end_once(self):
        tracker = app.Tracking()
        for n in range(10):
            update = see(tracker, n * 40, [100.0 + n * 5, 600.0])
            self.assertEqual([t.id for t in update.tracks], [1, 2])
        self.assertEqual(see(tracker, 1000, []).ended, [])
        self.assertEqual(see(tracker, 1400, []).ended, [1, 2])
        self.assertEqual(see(tracker, 1440, []).ended, [])
        self.assertEqual(see(tracker, 1480, [100.0]).tracks[0].id, 3)

    def test_a_swap_keeps_ids(self):
        one, two = app.Tracking(), app.Tracking()
        update = see(one, 0, [100.0])
        two.restore(one.save(), update.tracks)
        self.assertEqual([t.id for t in see(two, 40, [103.0, 500.0]).tracks], [1, 2])


if __name__ == "__main__":
    unittest.main()
