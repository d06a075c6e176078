// A signing rule to start from: a body of at most `limit` bytes of text is signed, and anything else is refused.
//
// Change `reviewOne`, and cases.toml, which says what must come out. `pingward policy build .` makes the component.
import { textOf } from './pingward/pingward.js';

/** What the config says. */
let limit;

/** Reason codes. */
let tooLong, noText;

export function configure(config) {
  limit = config.integer('limit', 1000, 1, 65536);
}

export function about(about) {
  tooLong = about.reason(`the body has more than ${limit} bytes`);
  noText = about.reason('the body is no text');
}

/** Signs one record (0), or says why not; its author reads these words. */
export function reviewOne(batch, record) {
  if (record.body.length > limit) return tooLong;
  if (textOf(record.body) === null) return noText;
  return 0;
}
