// Natively: npm test

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { tracking } from './guest.js';

function see(atMs, places) {
  const faces = places.map((x) => ({ bbox: { x, y: 100, width: 80, height: 100 }, confidence: 0.9, classId: 0 }));
  const at = BigInt(atMs) * 1000000n;
  return tracking.advance({ session: 1n, sequence: 0n, timestamp: at, capturedAt: at, width: 1280, height: 720 }, faces);
}

test('two faces keep their ids over a swap and end once', () => {
  tracking.configure({ id: 'door', config: '', maxMessageBytes: 900000 });
  for (let n = 0; n < 10; n += 1) {
    const update = see(n * 40, [100 + n * 5, 600]);
    assert.deepEqual(update.tracks.map((track) => track.id), [1n, 2n]);
    tracking.restore(tracking.save(), update.tracks);
  }
  assert.deepEqual(see(1000, []).ended, []);
  assert.deepEqual(see(1400, []).ended, [1n, 2n]);
  assert.deepEqual(see(1440, []).ended, []);
  assert.deepEqual(see(1480, [100]).tracks.map((track) => track.id), [3n]);
});
