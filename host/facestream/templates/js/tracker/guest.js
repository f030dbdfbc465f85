// A tracker: each detection goes to the track whose box it overlaps most; who is away too long has ended. A start, not a
// good tracker: the built-in `botsort` predicts where people walk.

const defaults = { new_track_thresh: 0.6, min_iou: 0.2, track_buffer_ms: 1000 };
const schema = '{{name}}/1';

// The module lives as long as the camera: state between calls is kept.
let settings = defaults;
let tracks = [];
let nextId = 1n;

/** Intersection over union. */
function iou(a, b) {
  const w = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const h = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return w <= 0 || h <= 0 ? 0 : (w * h) / (a.width * a.height + b.width * b.height - w * h);
}

const center = (r) => ({ x: r.x + r.width / 2, y: r.y + r.height / 2 });

function number(data, at) {
  return new DataView(data.buffer, data.byteOffset).getBigUint64(at, true);
}

export const tracking = {
  configure(camera) {
    const given = JSON.parse(camera.config || '{}');
    const unknown = Object.keys(given).find((key) => !(key in defaults));
    if (unknown) {
      // What is thrown is the error case of the function's result.
      throw { tag: 'invalid-config', val: `unknown setting ${unknown}; there are ${Object.keys(defaults)}` };
    }
    settings = { ...defaults, ...given };
  },

  advance(frame, detections) {
    const pairs = [];
    tracks.forEach((track, t) => detections.forEach((face, d) => {
      const overlap = iou(track.bbox, face.bbox);
      if (overlap > 0 && overlap >= settings.min_iou) pairs.push([overlap, t, d]);
    }));
    pairs.sort((a, b) => b[0] - a[0] || a[1] - b[1] || a[2] - b[2]);
    const seen = new Map();
    const taken = new Set();
    for (const [, t, d] of pairs) {
      if (seen.has(t) || taken.has(d)) continue;
      seen.set(t, d);
      taken.add(d);
    }
    tracks = tracks.map((track, t) => {
      if (!seen.has(t)) return { ...track, phase: 'lost', detection: undefined };
      const face = detections[seen.get(t)];
      // Times, not counts of frames: the host may drop frames, and cameras differ.
      const seconds = Number(frame.timestamp - track.lastSeen) / 1e9;
      const [now, before] = [center(face.bbox), center(track.bbox)];
      const velocity = seconds > 0
        ? { x: (now.x - before.x) / seconds, y: (now.y - before.y) / seconds }
        : track.velocity;
      const { bbox, confidence } = face;
      return { ...track, bbox, confidence, velocity, phase: 'confirmed', detection: seen.get(t), lastSeen: frame.timestamp };
    });
    const buffer = BigInt(settings.track_buffer_ms) * 1000000n;
    const over = (track) => frame.timestamp - track.lastSeen > buffer;
    const ended = tracks.filter(over).map((track) => track.id);
    tracks = tracks.filter((track) => !over(track));
    detections.forEach((face, d) => {
      if (taken.has(d) || face.confidence < settings.new_track_thresh) return;
      const { bbox, confidence, classId } = face;
      const at = frame.timestamp;
      tracks.push({
        id: nextId, phase: 'tentative', bbox, velocity: { x: 0, y: 0 }, confidence, classId, detection: d,
        firstSeen: at, lastSeen: at,
      });
      nextId += 1n;
    });
    return { tracks, ended };
  },

  save() {
    // All else is in the live tracks, which the host hands over beside this.
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, nextId, true);
    return { schema, data };
  },

  restore(state, live) {
    tracks = live;
    let spent = 1n;
    if (state.schema === schema) spent = number(state.data, 0);
    // The envelope of the Rust SDK: ids below this were given out by the tracker before.
    else if (String.fromCharCode(...state.data.slice(0, 4)) === 'FSg1') spent = number(state.data, 4);
    nextId = live.reduce((next, track) => (track.id >= next ? track.id + 1n : next), spent);
  },
};
