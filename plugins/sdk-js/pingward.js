// Rules for pingward in JavaScript: what a rule sees, and what it says.
//
// A rule exports `configure(config)`, `about(about)`, and `judgeOne(round, row, memory)` (a ban rule), `payOne` with the
// same arguments (a reward rule) or `reviewOne(batch, record)` (a signing rule). They are called in that order, for
// every round or batch in a fresh instance: a variable of the module holds what `configure` read, and nothing lives
// longer than the round but the member's memory. It may export besides `before(round)`, which looks at all members
// before the first one is decided, and, for a reward rule, `tariff()`.
//
// `reviewOne` returns 0 to sign a record, or what `about.reason` returned to refuse it. A batch has `number`, `round`,
// `orderedMs` and `setSize`; a record `index`, `sequence`, `author` and `digest` (32 bytes each), `expiresMs` and `body`,
// a Uint8Array of 0 to 65,536 bytes.
//
// The same inputs must give the same answer. There is no clock (`Date.now()` ends the round), no timer, no file.
// `Math.random()` gives everybody the same numbers in every round: draw lots from `round.seed`.
// Numbers are exact up to 2^53; compute with whole ones, and divide with `Math.floor`.

/** What was seen of a member in the round. */
export const Presence = Object.freeze({
  /** No valid answer, though there was a fair chance. */
  DOWN: 0,
  /** It answered. */
  UP: 1,
  /** Nobody had a fair chance to see it: no news at all, move no counter. */
  UNKNOWN: 2,
});

/** A member's grade. */
export const Standing = Object.freeze({
  GOOD: 0,
  /** Near a limit; nothing is taken away. */
  WARNED: 1,
  /** Still pinged, not paid. */
  SUSPENDED: 2,
  /** Disconnected and refused until its ban is over. */
  BANNED: 3,
  /** Back from a ban; the host's to give: returning it counts as GOOD. */
  PROBATION: 4,
});

/** Bits of `row.facts`. */
export const Fact = Object.freeze({
  ABSENT: 1,
  MISSED: 2,
  LATE: 4,
  STALE_NONCE: 8,
  OUT_OF_TURN: 16,
  MALFORMED: 32,
  FLOOD: 64,
});

/** Bits of `row.flags`. */
export const Flag = Object.freeze({
  /** It declared maintenance that covers this round. */
  MAINTENANCE: 1,
  /** It speaks a newer protocol version than the host. */
  NEWER_VERSION: 2,
  /** It asked to return since the settlement before. */
  ASKED_TO_RETURN: 4,
});

/** Penalty and fees, if a reward rule says nothing else. */
export const USUAL_TARIFF = Object.freeze({ overclaimBp: 1000, overclaimMin: 1, recordFee: 0, recordFeeKib: 0 });

/**
 * All that is known of one member in one round, until the rule has decided about it: the same object is the next
 * member's then. What is read is looked up, so ask once for what is used twice.
 */
export class Row {
  constructor(members, index) {
    /** All members' columns. */
    this.members = members;
    /** Its place in the columns. Says nothing about the member. */
    this.index = index;
  }

  /** See {@link Presence}. */
  get presence() { return this.members.presence[this.index]; }
  /** Bits of {@link Fact}. */
  get facts() { return this.members.facts[this.index]; }
  /** Lowest round trip, microseconds; 0 = none. */
  get rttUs() { return this.members.rttUs[this.index]; }
  /** Observers that asked it. */
  get asked() { return this.members.observers[this.index] >> 8; }
  /** Observers that saw it. */
  get seen() { return this.members.observers[this.index] & 255; }
  /** Rounds in the queue since it joined. */
  get age() { return this.members.age[this.index]; }
  /** Its grade after the settlement before, see {@link Standing}. */
  get standing() { return this.members.standing[this.index]; }
  /** Strikes, as the ban rule last returned them. */
  get strikes() { return this.members.strikes[this.index]; }
  /** Points earned and not claimed. */
  get earned() { return this.members.earned[this.index]; }
  /** A number that the member writes itself: never trust it. */
  get data() { return this.members.data[this.index]; }
  /** A number that the operator gave it. */
  get class() { return this.members.class[this.index]; }
  /** Its network group. */
  get group() { return this.members.group[this.index]; }
  /** Bits of {@link Flag}. */
  get flags() { return this.members.flags[this.index]; }
  /** It declared maintenance that covers this round. */
  get inMaintenance() { return (this.flags & Flag.MAINTENANCE) !== 0; }
  /** Good, warned and on probation are paid. */
  get isPaid() { return this.standing !== Standing.SUSPENDED && this.standing !== Standing.BANNED; }
}

/** Nothing moves, but for what `changes` says. */
export function stay(row, changes) {
  return { standing: row.standing, strikes: row.strikes, until: 0, reason: 0, ...changes };
}

/** The text of some bytes, or null where they are no UTF-8. */
export function textOf(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at++];
    const more = first < 0x80 ? 0 : first >= 0xc2 && first <= 0xdf ? 1 : (first & 0xf0) === 0xe0 ? 2
      : first >= 0xf0 && first <= 0xf4 ? 3 : -1;
    if (more < 0 || at + more > bytes.length) return null;
    let code = more === 0 ? first : first & (0x3f >> more);
    for (let i = 0; i < more; i++, at++) {
      if ((bytes[at] & 0xc0) !== 0x80) return null;
      code = (code << 6) | (bytes[at] & 0x3f);
    }
    // Written longer than it must be, half of a pair, or beyond the last one.
    if (code < [0, 0x80, 0x800, 0x10000][more] || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return null;
    text += String.fromCodePoint(code);
  }
  return text;
}

/** The keys of the config that nobody took yet; those that are left over are refused for the rule. */
export class Config {
  #rest;
  #known = [];

  constructor(text) {
    let value;
    try {
      value = text.trim() === '' ? {} : JSON.parse(text);
    } catch {
      refuse('the config is not valid JSON');
    }
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      refuse('the config is no JSON object, such as {"limit":3}');
    }
    this.#rest = new Map(Object.entries(value));
  }

  /** A whole number from `low` to `high`, or `usual` if the key is not there. */
  integer(key, usual, low, high) {
    const value = this.take(key);
    if (value === undefined) return usual;
    if (!Number.isSafeInteger(value) || value < 0) {
      refuse(`\`${key}\` is ${kind(value)}; it must be a whole number from ${low} to ${high}`);
    }
    if (value < low || value > high) refuse(`\`${key}\` is ${value}; it may be ${low} to ${high}`);
    return value;
  }

  /** `true` or `false`. */
  boolean(key, usual) {
    const value = this.take(key);
    if (value === undefined) return usual;
    if (typeof value !== 'boolean') refuse(`\`${key}\` is ${kind(value)}; it must be true or false`);
    return value;
  }

  /** A text. */
  string(key, usual) {
    const value = this.take(key);
    if (value === undefined) return usual;
    if (typeof value !== 'string') refuse(`\`${key}\` is ${kind(value)}; it must be a text in quotes`);
    return value;
  }

  /** Any value, for lists and objects; `undefined` if the key is not there. */
  take(key) {
    this.#known.push(key);
    const value = this.#rest.get(key);
    this.#rest.delete(key);
    return value;
  }

  /** Refuses what is left over. */
  finish() {
    for (const key of this.#rest.keys()) {
      const known = this.#known.map((key) => `\`${key}\``).join(', ');
      refuse(`unknown key \`${key}\`; ${known === '' ? 'it takes no config' : `it knows ${known}`}`);
    }
  }
}

function kind(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) return 'a fraction';
    return value < 0 ? 'a number below zero' : 'a number';
  }
  return { boolean: 'a boolean', string: 'a text', object: 'an object' }[typeof value];
}

/** What the rule says of itself. Name and version are those of package.json. */
export class About {
  memoryBytes = 0;
  memorySchema = '';
  reasons = [];
  extra = [];

  /** Adds the text of a reason and returns its code: 1, 2, 3 and so on. */
  reason(text) {
    return this.reasons.push(text);
  }

  /** So many bytes are remembered of each member; `schema` names their meaning: another meaning, another name. */
  memory(bytes, schema) {
    this.memoryBytes = bytes;
    this.memorySchema = schema;
  }

  /** Asks for a column, such as `observer.0.presence`; `round.extra[k].values` has it. */
  column(name) {
    this.extra.push(name);
  }
}

/** What is thrown to refuse a config or a round with a text for the operator. */
export class Refusal extends Error {}

/** Refuses the config, in `configure`; anywhere else it ends the round, which is a fault: nothing is decided. */
export function refuse(text) {
  throw new Refusal(text);
}

let write = () => {};

/** For the entry that `pingward policy build` makes. */
export function connect(host) {
  write = host;
}

/** Lines for the operator. Few of them: more than 64 KiB a round is a fault. */
export const log = Object.freeze({
  debug(text) { write(1, String(text)); },
  info(text) { write(2, String(text)); },
  warn(text) { write(3, String(text)); },
  error(text) { write(4, String(text)); },
});
