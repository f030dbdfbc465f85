"""A tracker: each detection goes to the track whose box it overlaps most; who is away too long has ended. A start, not a
good tracker: the built-in `botsort` predicts where people walk."""

import json
import struct
from dataclasses import replace

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import tracking
from wit_world.imports import types

SETTINGS = {"new_track_thresh": 0.6, "min_iou": 0.2, "track_buffer_ms": 1000}
SCHEMA = "{{name}}/1"


def iou(a: types.Rect, b: types.Rect) -> float:
    """Intersection over union."""
    w = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    h = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a.width * a.height + b.width * b.height - w * h)


class Tracking(exports.Tracking):
    def __init__(self):
        # Module and instance live as long as the camera: state between calls is kept.
        self.tracks: list[types.Track] = []
        self.next_id = 1
        self.settings = dict(SETTINGS)

    def configure(self, camera: types.Camera) -> None:
        given = json.loads(camera.config or "{}")
        unknown = sorted(set(given) - set(SETTINGS))
        if unknown:
            raise Err(types.GuestError_InvalidConfig(f"unknown setting {unknown[0]}; there are {', '.join(SETTINGS)}"))
        self.settings = SETTINGS | given

    def advance(self, frame, detections, motion):
        pairs = []
        for t, track in enumerate(self.tracks):
            for d, detection in enumerate(detections):
                overlap = iou(track.bbox, detection.bbox)
                if overlap > 0 and overlap >= self.settings["min_iou"]:
                    pairs.append((-overlap, t, d))
        seen, taken = {}, set()
        for _, t, d in sorted(pairs):
            if t not in seen and d not in taken:
                seen[t] = d
                taken.add(d)
        for t, track in enumerate(self.tracks):
            if t not in seen:
                track.phase, track.detection = types.TrackPhase.LOST, None
                continue
            face = detections[seen[t]]
            # Times, not counts of frames: the host may drop frames, and cameras differ.
            seconds = (frame.timestamp - track.last_seen) / 1e9
            if seconds > 0:
                dx = face.bbox.x + face.bbox.width / 2 - track.bbox.x - track.bbox.width / 2
                dy = face.bbox.y + face.bbox.height / 2 - track.bbox.y - track.bbox.height / 2
                track.velocity = types.Point(dx / seconds, dy / seconds)
            track.bbox, track.confidence, track.detection = face.bbox, face.confidence, seen[t]
            track.last_seen, track.phase = frame.timestamp, types.TrackPhase.CONFIRMED
        buffer = self.settings["track_buffer_ms"] * 1_000_000
        ended = [t.id for t in self.tracks if frame.timestamp - t.last_seen > buffer]
        self.tracks = [t for t in self.tracks if t.id not in ended]
        for d, face in enumerate(detections):
            if d not in taken and face.confidence >= self.settings["new_track_thresh"]:
                self.tracks.append(types.Track(
                    self.next_id, types.TrackPhase.TENTATIVE, face.bbox, types.Point(0.0, 0.0),
                    face.confidence, face.class_id, d, frame.timestamp, frame.timestamp,
                ))
                self.next_id += 1
        return tracking.Update([replace(t) for t in self.tracks], ended)

    def save(self):
        # All else is in the live tracks, which the host hands over beside this.
        return types.Snapshot(SCHEMA, struct.pack("<Q", self.next_id))

    def restore(self, state, tracks):
        above = max((t.id + 1 for t in tracks), default=1)
        spent = 1
        if state.schema == SCHEMA:
            (spent,) = struct.unpack("<Q", state.data)
        elif state.data[:4] == b"FSg1":
            # The envelope of the Rust SDK: ids below this were given out by the tracker before.
            (spent,) = struct.unpack_from("<Q", state.data, 4)
        self.tracks, self.next_id = tracks, max(above, spent)
