"""A formatter: a JSON message for each person who has left, saying how long they were in sight."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import formatting
from wit_world.imports import types

SCHEMA = "{{name}}/1"


class Formatter:
    def __init__(self):
        self.camera_id, self.topic = "", "{{name}}"

    def configure(self, camera: types.Camera):
        given = json.loads(camera.config or "{}")
        unknown = sorted(set(given) - {"topic"})
        if unknown:
            raise Err(types.GuestError_InvalidConfig(f"unknown setting {unknown[0]}; there is topic"))
        self.camera_id, self.topic = camera.id, given.get("topic", "{{name}}")
        return formatting.Interest.ENDINGS

    def format(self, event):
        if not isinstance(event, formatting.Event_Ending):
            return []
        track = event.value
        seconds = (track.last_seen - track.first_seen) / 1e9
        body = {"camera_id": self.camera_id, "track_id": track.id, "seconds_in_sight": seconds}
        payload = json.dumps(body).encode()
        return [formatting.Message(self.topic, self.camera_id.encode(), payload, [], "application/json")]

    def flush(self):
        return []

    def save(self):
        return types.Snapshot(SCHEMA, b"")

    def restore(self, state):
        if state.schema == SCHEMA and state.data:
            raise Err(types.GuestError_UnsupportedSnapshot(f"a state of {SCHEMA} has no bytes"))


FORMATTER = Formatter()


class Formatting(exports.Formatting):
    """What the world exports. componentize-py makes an object for each function: all of them are the one above."""

    def __new__(cls):
        return FORMATTER
