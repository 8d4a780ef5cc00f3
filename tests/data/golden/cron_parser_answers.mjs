// Writes next-run-cron-parser.tsv: npm `cron-parser`'s answers. See README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

// From the folder it is started in, where `npm install` put it.
const { CronExpressionParser } = createRequire(join(process.cwd(), 'x.js'))('cron-parser');
const DATA = join(import.meta.dirname, '..');
const ANSWERS = 4;

const lines = (name) => readFileSync(join(DATA, name), 'utf8').trimEnd().split('\n');

function deltas(expression, tz, start) {
  try {
    const runs = CronExpressionParser.parse(expression, { tz, currentDate: start });
    let at = start.getTime();
    const found = [];
    for (let n = 0; n < ANSWERS; n += 1) {
      const following = runs.next().getTime();
      const seconds = Math.round((following - at) / 1000);
      found.push(seconds % 60 === 0 ? `${seconds / 60}` : `${seconds}s`);
      at = following;
    }
    return found.join(',');
  } catch (error) {
    return `! ${error.message}`; // The test sees that there is no answer.
  }
}

const zones = lines('next-run-starts.tsv').map((line) => {
  const [tz, ...starts] = line.split('\t');
  return { tz, starts: starts.map((at) => new Date(at)) };
});
const rows = lines('next-run-expressions.txt').map((expression, index) =>
  zones.flatMap(({ tz, starts }) =>
    [0, 1].map((turn) => deltas(expression, tz, starts[(2 * index + turn) % starts.length])),
  ).join('\t'),
);
writeFileSync(join(DATA, 'next-run-cron-parser.tsv'), `${rows.join('\n')}\n`);
