// A reward rule to start from: `points` for each round in which a member answers, twice as many from its hundredth round
// in the queue on.
//
// Change `payOne`, and cases.toml, which says what must come out. `pingward policy build .` makes the component.
import { Presence } from './pingward/pingward.js';

/** Rounds after which a member is paid twice. */
const LOYAL = 100;

/** What the config says. */
let points;

/** Reason codes. */
let answered, loyal;

export function configure(config) {
  points = config.integer('points', 10, 0, 1000);
}

export function about(about) {
  answered = about.reason('answered');
  loyal = about.reason(`answered, and has been here for ${LOYAL} rounds`);
}

/** What one member gets for one round. The host pays nobody who ends the round suspended or banned. */
export function payOne(round, row, memory) {
  // Nobody had a fair chance to see it, or it did not answer: nothing is paid, nothing is taken.
  if (row.presence !== Presence.UP) return { points: 0, reason: 0 };
  if (row.age >= LOYAL) return { points: 2 * points, reason: loyal };
  return { points, reason: answered };
}
