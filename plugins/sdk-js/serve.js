// Between the contract and a rule: what `pingward policy build` connects the rule's module to.
import { About, Config, Refusal, Row, Standing, USUAL_TARIFF, connect } from './pingward.js';

const { BANNED, GOOD, PROBATION } = Standing;

/** The interface `ban`. */
export function ban(rule, name, version, write) {
  return slot(rule, name, version, write, 'judge', 'judgeOne', (n) => {
    const strikes = new Uint16Array(n), standing = new Uint8Array(n), until = new Uint32Array(n);
    const reasons = new Uint16Array(n);
    return {
      put(i, verdict) {
        // What does not come back as it was put is no number of that column: it would wrap around, or become 0.
        const code = verdict.standing;
        standing[i] = code === PROBATION ? GOOD : code;
        if (standing[i] > BANNED || (standing[i] !== code && code !== PROBATION)) wrong(verdict, 'standing', BANNED, i);
        strikes[i] = verdict.strikes;
        if (strikes[i] !== verdict.strikes) wrong(verdict, 'strikes', 65535, i);
        until[i] = verdict.until;
        if (until[i] !== verdict.until) wrong(verdict, 'until', 4294967295, i);
        reasons[i] = verdict.reason;
        if (reasons[i] !== verdict.reason) wrong(verdict, 'reason', 65535, i);
      },
      decision: () => ({ strikes, standing, until, reasons }),
    };
  });
}

/** The interface `reward`. */
export function reward(rule, name, version, write) {
  return slot(rule, name, version, write, 'settle', 'payOne', (n) => {
    const points = new BigInt64Array(n), reasons = new Uint16Array(n);
    // The same bytes as halves: a BigInt for each member would cost more than the rule.
    const halves = new Int32Array(points.buffer);
    return {
      put(i, pay) {
        const value = pay.points;
        halves[2 * i] = value;
        if (halves[2 * i] === value) {
          if (value < 0) halves[2 * i + 1] = -1;
        } else {
          if (!Number.isSafeInteger(value)) {
            throw new TypeError(`decision for member ${i}: points is ${value}; it must be a whole number`);
          }
          halves[2 * i + 1] = Math.floor(value / 4294967296);
        }
        reasons[i] = pay.reason;
        if (reasons[i] !== pay.reason) wrong(pay, 'reason', 65535, i);
      },
      decision: () => ({ points, reasons, tariff: rule.tariff === undefined ? USUAL_TARIFF : rule.tariff() }),
    };
  });
}

/** The interface `signing`. */
export function signing(rule, name, version, write) {
  begin(rule, write, 'reviewOne');
  return {
    describe(config) {
      return told(() => ({ name, version, ...asked(rule, config) }));
    },
    review(config, records, context) {
      return told(() => {
        asked(rule, config);
        const { batch: number, round, orderedMs, setSize } = context;
        const batch = { number: Number(number), round: Number(round), orderedMs: Number(orderedMs), setSize };
        const codes = new Uint16Array(records.length);
        records.forEach(({ sequence, author, digest, expiresMs, body }, index) => {
          const record = { index, sequence: Number(sequence), author, digest, expiresMs: Number(expiresMs), body };
          const reason = rule.reviewOne(batch, record);
          codes[index] = reason;
          if (codes[index] !== reason) {
            throw new TypeError(`decision for record ${index}: it is ${reason}; it must be 0 or what about.reason returned`);
          }
        });
        return codes;
      });
    },
  };
}

function begin(rule, write, each) {
  connect(write);
  for (const part of ['configure', 'about', each]) {
    if (typeof rule[part] !== 'function') throw new TypeError(`rule.js exports no function \`${part}\``);
  }
}

function slot(rule, name, version, write, decide, each, outputs) {
  begin(rule, write, each);
  return {
    describe(config) {
      return told(() => ({ name, version, ...asked(rule, config) }));
    },
    [decide](config, round, members, memory) {
      return told(() => {
        const { memoryBytes } = asked(rule, config);
        const n = round.population;
        checkLengths(members, memory, n, memoryBytes);
        const all = { ...round, ...members };
        rule.before?.(all);
        const out = outputs(n);
        const decideOne = rule[each], row = new Row(members, 0);
        const { buffer, byteOffset } = memory;
        for (let i = 0; i < n; i++) {
          const block = memoryBytes > 0 ? new DataView(buffer, byteOffset + i * memoryBytes, memoryBytes) : null;
          // One row for all: an object for each would cost a tenth of the round.
          row.index = i;
          out.put(i, decideOne(all, row, block));
        }
        return { ...out.decision(), memory };
      });
    },
  };
}

/** Calls `configure` and `about`. */
function asked(rule, text) {
  const config = new Config(text);
  rule.configure(config);
  config.finish();
  const about = new About();
  rule.about(about);
  const { memoryBytes, memorySchema, reasons, extra } = about;
  return { memoryBytes, memorySchema, reasons, extra };
}

/** An error becomes the contract's error: a text. What the rule did not refuse itself is a mistake and says where. */
function told(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof Refusal) throw error.message;
    throw error instanceof Error ? `${error}\n${error.stack ?? ''}`.trim() : String(error);
  }
}

function checkLengths(members, memory, n, memoryBytes) {
  const columns = [...Object.entries(members), ...members.extra.map(({ name, values }) => [name, values])];
  for (const [name, values] of columns) {
    if (values !== members.extra && values.length !== n) {
      throw new TypeError(`column \`${name}\` has ${values.length} entries for a population of ${n}`);
    }
  }
  if (memory.length !== n * memoryBytes) {
    const expected = n * memoryBytes;
    throw new TypeError(`memory has ${memory.length} bytes; ${n} members of ${memoryBytes} bytes are ${expected}`);
  }
}

function wrong(decision, key, most, i) {
  const found = decision[key];
  throw new TypeError(`decision for member ${i}: ${key} is ${found}; it must be a whole number from 0 to ${most}`);
}
