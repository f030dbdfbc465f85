// Natively: npm test

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { formatting } from './guest.js';

test('who has left is told with the time in sight', () => {
  assert.deepEqual(formatting.configure({ id: 'door', config: '{}', maxMessageBytes: 900000 }), { endings: true });
  const track = { id: 7n, phase: 'lost', firstSeen: 0n, lastSeen: 2500000000n };
  const [message] = formatting.format({ tag: 'ending', val: track });
  const body = JSON.parse(new TextDecoder().decode(message.payload));
  assert.deepEqual(body, { camera_id: 'door', track_id: 7, seconds_in_sight: 2.5 });
});

test('settings are checked', () => {
  const wrong = { id: 'door', config: '{"topics": "x"}', maxMessageBytes: 900000 };
  assert.throws(() => formatting.configure(wrong), (error) => error.tag === 'invalid-config');
});
