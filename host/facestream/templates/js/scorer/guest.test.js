// Natively, with a fake frame: npm test

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { scoring } from './guest.js';

const frame = (n) => ({
  session: 1n, sequence: BigInt(n), timestamp: BigInt(n * 40e6), capturedAt: BigInt(n), width: 1280, height: 720,
});
const picture = (sharpness) => ({ measure: () => ({ sharpness, brightness: 50 }), crop: () => ({}) });

/** Shows one face in three frames, the second one sharpest, then ends its track. */
function watch() {
  const face = { bbox: { x: 100, y: 100, width: 80, height: 100 }, confidence: 0.9, classId: 0 };
  [10, 30, 20].forEach((sharpness, n) => {
    const track = { id: 1n, phase: 'confirmed', bbox: face.bbox, detection: 0 };
    assert.deepEqual(scoring.observe(frame(n), picture(sharpness), [face], [track], []), []);
  });
  return scoring.observe(frame(3), picture(0), [], [], [1n]);
}

test('the sharpest picture is sent when the track ends', () => {
  scoring.configure({ id: 'door', config: '{}', maxMessageBytes: 900000 });
  const shots = watch();
  assert.deepEqual([shots.length, shots[0].sequence, shots[0].reason], [1, 1n, 'ended']);
});

test('small faces are not kept and settings are checked', () => {
  scoring.configure({ id: 'door', config: '{"min_width": 81}', maxMessageBytes: 900000 });
  assert.deepEqual(watch(), []);
  const wrong = { id: 'door', config: '{"min_widht": 81}', maxMessageBytes: 900000 };
  assert.throws(() => scoring.configure(wrong), (error) => error.tag === 'invalid-config');
});
