// A formatter: a JSON message for each person who has left, saying how long they were in sight.

// The module lives as long as the camera: state between calls is kept.
const schema = '{{name}}/1';
let cameraId = '';
let topic = '{{name}}';

const bytes = (text) => new TextEncoder().encode(text);

export const formatting = {
  configure(camera) {
    const given = JSON.parse(camera.config || '{}');
    const unknown = Object.keys(given).find((key) => key !== 'topic');
    if (unknown) {
      // What is thrown is the error case of the function's result.
      throw { tag: 'invalid-config', val: `unknown setting ${unknown}; there is topic` };
    }
    cameraId = camera.id;
    topic = given.topic ?? '{{name}}';
    return { endings: true };
  },

  format(event) {
    if (event.tag !== 'ending') return [];
    const track = event.val;
    const seconds_in_sight = Number(track.lastSeen - track.firstSeen) / 1e9;
    const body = { camera_id: cameraId, track_id: Number(track.id), seconds_in_sight };
    const payload = bytes(JSON.stringify(body));
    return [{ topic, key: bytes(cameraId), payload, headers: [], contentType: 'application/json' }];
  },

  flush: () => [],
  save: () => ({ schema, data: new Uint8Array() }),
  restore(state) {
    if (state.schema === schema && state.data.length > 0) {
      throw { tag: 'unsupported-snapshot', val: `a state of ${schema} has no bytes` };
    }
  },
};
