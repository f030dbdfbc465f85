"""A scorer: of each face the sharpest large picture, sent when the face has gone. Change `worth` to make it yours."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import pixels, shots, types

SCHEMA = "{{name}}/1"
SETTINGS = {"min_width": 24.0}
CROP = pixels.CropOptions(margin=0.2, max_side=0)


def worth(face: types.Detection, quality: pixels.Quality) -> float:
    """What a picture is worth; higher is better."""
    return face.confidence * quality.sharpness * (face.bbox.width * face.bbox.height) ** 0.5


def settings(text: str) -> dict:
    """Settings over their defaults; a key that is not known is an error."""
    given = json.loads(text or "{}")
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise Err(types.GuestError_InvalidConfig(f"unknown setting {unknown[0]}; there are {', '.join(SETTINGS)}"))
    return SETTINGS | given


def because(shot: shots.Shot, reason: shots.Reason) -> shots.Shot:
    shot.reason = reason
    return shot


class Scorer:
    def __init__(self):
        self.settings = dict(SETTINGS)
        self.held: dict[int, shots.Shot] = {}

    def configure(self, camera: types.Camera) -> None:
        self.settings = settings(camera.config)

    def observe(self, frame, picture, detections, tracks, ended):
        for track in tracks:
            if track.phase != types.TrackPhase.CONFIRMED or track.detection is None:
                continue
            face = detections[track.detection]
            if face.bbox.width < self.settings["min_width"]:
                continue
            try:
                # Measuring is cheap, a crop costs memory until it is dropped: measure first.
                quality = picture.measure(face.bbox)
                score = worth(face, quality)
                held = self.held.get(track.id)
                if held is not None and score <= held.score:
                    continue
                crop = picture.crop(face.bbox, CROP)
            except Err:
                continue  # Out of the frame, or over the budget: this face tries again.
            if held is not None:
                # Released now, not when Python gets to it: crops count against a budget.
                held.picture.__exit__(None, None, None)
            self.held[track.id] = shots.Shot(
                track.id, crop, face.bbox, face.confidence, face.landmarks, quality, score,
                frame.captured_at, frame.session, frame.sequence, shots.Reason.IMPROVED,
            )
        gone = [self.held.pop(track_id) for track_id in ended if track_id in self.held]
        return [because(shot, shots.Reason.ENDED) for shot in gone]

    def tick(self, timestamp):
        return []

    def flush(self):
        return [because(shot, shots.Reason.FLUSHED) for shot in self.take()]

    def save(self):
        return types.Snapshot(SCHEMA, b""), self.take()

    def restore(self, state, held):
        if state.schema == SCHEMA and state.data:
            raise Err(types.GuestError_UnsupportedSnapshot(f"a state of {SCHEMA} has no bytes"))
        self.held = {shot.track_id: shot for shot in held}

    def take(self):
        held, self.held = list(self.held.values()), {}
        return held


SCORER = Scorer()


class Scoring(exports.Scoring):
    """What the world exports. componentize-py makes an object for each function: all of them are the one above."""

    def __new__(cls):
        return SCORER
