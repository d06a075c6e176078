// RIPE Atlas' credits: so many for each minute connected, ten times as many for an anchor, posted once in a while.
//
// The same as ../ripe-atlas, which says more of it: config, decisions, reasons and memory are equal, so that one may take
// over from the other on a live network.
import { Presence, refuse } from './pingward/pingward.js';

const MINUTE_MS = 60_000;

/** What the config says. */
let creditsPerMinute, anchorClass, anchorFactor, postSecs;

/** Reason codes. */
let posted, counted, down, unknown, notPaid;

export function configure(config) {
  creditsPerMinute = config.integer('credits_per_minute', 15, 0, MINUTE_MS);
  anchorClass = config.integer('anchor_class', 1, 0, 4_294_967_295);
  anchorFactor = config.integer('anchor_factor', 10, 1, MINUTE_MS);
  postSecs = config.integer('post_secs', 60, 0, 2_592_000);
  const ofAnchors = creditsPerMinute * anchorFactor;
  if (ofAnchors > 0 && MINUTE_MS % ofAnchors !== 0) {
    refuse(
      `\`credits_per_minute\` times \`anchor_factor\` (${ofAnchors}) does not divide 60000: a point would be no whole ` +
        'number of milliseconds',
    );
  }
}

export function about(about) {
  // Milliseconds connected that are no points yet.
  about.memory(4, 'ripe-atlas/1');
  posted = about.reason(`connected: ${creditsPerMinute} points a minute, posted in this round`);
  counted = about.reason('connected: counted, not yet posted');
  down = about.reason('did not answer');
  unknown = about.reason('was not observed: nothing moves');
  notPaid = about.reason('is suspended; what it is owed stays');
}

/** Whether the clock passed a multiple of `post_secs` since the settlement before. */
let isPosted;

export function before(round) {
  const period = (ms) => Math.floor(ms / (postSecs * 1000));
  isPosted = postSecs === 0 || period(round.nowMs) !== period(Math.max(round.nowMs - round.elapsedMs, 0));
}

/** What one member gets for one round. */
export function payOne(round, row, memory) {
  const { presence } = row;
  if (presence === Presence.UNKNOWN) return { points: 0, reason: unknown };
  const isUp = presence === Presence.UP;
  if (!isUp && round.suspect) return { points: 0, reason: unknown };
  if (!row.isPaid) return { points: 0, reason: notPaid };
  let owedMs = memory.getUint32(0, true);
  if (isUp) owedMs = Math.min(owedMs + round.intervalMs, 4_294_967_295);
  let points = 0;
  if (isPosted) {
    const perMinute = creditsPerMinute * (anchorClass !== 0 && row.class === anchorClass ? anchorFactor : 1);
    // At no points a minute nothing is owed.
    const pointMs = perMinute === 0 ? 0 : MINUTE_MS / perMinute;
    points = pointMs === 0 ? 0 : Math.floor(owedMs / pointMs);
    owedMs = pointMs === 0 ? 0 : owedMs % pointMs;
  }
  memory.setUint32(0, owedMs, true);
  return { points, reason: points > 0 ? posted : isUp ? counted : down };
}
