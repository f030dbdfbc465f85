// A scorer: of each face the sharpest large picture, sent when the face has gone. Change `worth` to make it yours.

const defaults = { min_width: 24 };
const schema = '{{name}}/1';
const cropOptions = { margin: 0.2, maxSide: 0 };

// The module lives as long as the camera: state between calls is kept.
let settings = defaults;
let held = new Map();

/** Gives a crop back now, not when the engine gets to it: crops count against a budget. */
const release = (crop) => crop[Symbol.dispose ?? Symbol.for('dispose')]?.();

/** What a picture is worth; higher is better. */
const worth = (face, quality) => face.confidence * quality.sharpness * Math.sqrt(face.bbox.width * face.bbox.height);

const take = () => {
  const all = [...held.values()];
  held = new Map();
  return all;
};

export const scoring = {
  configure(camera) {
    const given = JSON.parse(camera.config || '{}');
    const unknown = Object.keys(given).find((key) => !(key in defaults));
    if (unknown) {
      // What is thrown is the error case of the function's result.
      throw { tag: 'invalid-config', val: `unknown setting ${unknown}; there are ${Object.keys(defaults)}` };
    }
    settings = { ...defaults, ...given };
  },

  observe(frame, picture, detections, tracks, ended) {
    for (const track of tracks) {
      if (track.phase !== 'confirmed' || track.detection === undefined) continue;
      const face = detections[track.detection];
      if (face.bbox.width < settings.min_width) continue;
      let quality, score, crop;
      try {
        // Measuring is cheap, a crop costs memory until it is dropped: measure first.
        quality = picture.measure(face.bbox);
        score = worth(face, quality);
        if (held.has(track.id) && score <= held.get(track.id).score) continue;
        crop = picture.crop(face.bbox, cropOptions);
      } catch {
        continue; // Out of the frame, or over the budget: this face tries again.
      }
      if (held.has(track.id)) release(held.get(track.id).picture);
      held.set(track.id, {
        trackId: track.id,
        picture: crop,
        bbox: face.bbox,
        confidence: face.confidence,
        landmarks: face.landmarks,
        quality,
        score,
        capturedAt: frame.capturedAt,
        session: frame.session,
        sequence: frame.sequence,
        reason: 'improved',
      });
    }
    const shots = [];
    for (const id of ended) {
      if (held.has(id)) shots.push({ ...held.get(id), reason: 'ended' });
      held.delete(id);
    }
    return shots;
  },

  tick: () => [],
  flush: () => take().map((shot) => ({ ...shot, reason: 'flushed' })),
  save: () => [{ schema, data: new Uint8Array() }, take()],
  restore(state, shots) {
    if (state.schema === schema && state.data.length > 0) {
      throw { tag: 'unsupported-snapshot', val: `a state of ${schema} has no bytes` };
    }
    held = new Map(shots.map((shot) => [shot.trackId, shot]));
  },
};
