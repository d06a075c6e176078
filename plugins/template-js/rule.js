// A ban rule to start from: who misses `limit` rounds in a row is suspended until it answers again; nobody is banned.
//
// Change `judgeOne`, and cases.toml, which says what must come out. `pingward policy build .` makes the component.
import { Presence, Standing, stay } from './pingward/pingward.js';

/** What the config says. */
let limit;

/** Reason codes. */
let missed;

export function configure(config) {
  limit = config.integer('limit', 3, 1, 1000);
}

export function about(about) {
  missed = about.reason(`missed ${limit} rounds in a row`);
}

/** What becomes of one member after one round. */
export function judgeOne(round, row, memory) {
  const { presence } = row;
  if (presence === Presence.UP) return { standing: Standing.GOOD, strikes: 0, until: 0, reason: 0 };
  // Nobody had a fair chance to see it: no news moves nothing.
  if (presence === Presence.UNKNOWN || row.inMaintenance) return stay(row);
  const strikes = Math.min(row.strikes + 1, 65535);
  if (strikes < limit) return stay(row, { strikes });
  return { standing: Standing.SUSPENDED, strikes, until: 1, reason: missed };
}
