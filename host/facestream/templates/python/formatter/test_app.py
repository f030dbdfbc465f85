"""Natively: PYTHONPATH=bindings python3 -m unittest"""

import json
import unittest

import app
from componentize_py_types import Err
from wit_world.exports import formatting
from wit_world.imports import types


class Formatter(unittest.TestCase):
    def test_who_has_left_is_told_with_the_time_in_sight(self):
        formatter = app.Formatter()
        self.assertEqual(formatter.configure(types.Camera("door", "{}", 900_000)), formatting.Interest.ENDINGS)
        box, still = types.Rect(0.0, 0.0, 10.0, 10.0), types.Point(0.0, 0.0)
        track = types.Track(7, types.TrackPhase.LOST, box, still, 0.9, 0, None, 0, 2_500_000_000)
        (message,) = formatter.format(formatting.Event_Ending(track))
        self.assertEqual(json.loads(message.payload), {"camera_id": "door", "track_id": 7, "seconds_in_sight": 2.5})

    def test_settings_are_checked(self):
        with self.assertRaises(Err):
            app.Formatter().configure(types.Camera("door", '{"topics": "x"}', 900_000))


if __name__ == "__main__":
    unittest.main()
