// The mixes and profiles of `load run` for k6, against a running Holdfast:
//
//   k6 run -e BASE_URL=http://127.0.0.1:8080 -e KEYS=hf_… loadtest/k6/holdfast.js
//
// Settings: MIX, PROFILE, RATE (a second, at its most), DURATION (seconds), KEYS ([CLASS=]KEY, by commas),
// ACCOUNTS (of each tenant), FUND (minor units of each account), CURRENCY.
//
// Only promises are thresholds; how fast it was is for you to judge. k6 counts a latency from when a request is
// sent: what was due while no VU was free is in dropped_iterations, and then the latencies are too good.
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';
import { check } from 'k6';
import { call, code, equip, held, sum } from './api.js';
import { draw, pick, stages, zipf } from './shapes.js';

const shapes = JSON.parse(open('./shapes.json'));
const mix = named(shapes.mixes, __ENV.MIX || 'mixed');
const profile = named(shapes.profiles, __ENV.PROFILE || 'steady');
const rate = Number(__ENV.RATE || 50);
const duration = Number(__ENV.DURATION || 45);

// How many VUs there are for each request of a second, and their bounds.
const vusPerRate = 2;
const vusMin = 10;
const vusMax = 1000;
// How long the money may be on its way after the load, in seconds.
const drainMax = 90;
// One of so many transfers is followed to its end.
const followEvery = 20;

const refused = new Counter('holdfast_refused');
const refusal = new Trend('holdfast_refusal', true);
const retryAfter = new Trend('holdfast_retry_after_seconds');
const wrong = new Rate('holdfast_wrong');
const same = new Rate('holdfast_same_answer');
const inTime = new Rate('holdfast_ended_in_time');
const completed = new Trend('holdfast_completed', true);

const vus = Math.min(vusMax, Math.max(vusMin, Math.ceil(rate * vusPerRate)));

export const options = {
  setupTimeout: '180s',
  teardownTimeout: '180s',
  summaryTrendStats: ['count', 'med', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
  scenarios: {
    load: {
      executor: 'ramping-arrival-rate',
      timeUnit: '10s',
      startRate: Math.round(profile.parts[0].from * rate * 10),
      preAllocatedVUs: vus,
      stages: stages(profile, rate * 10, duration),
    },
  },
  thresholds: {
    holdfast_wrong: ['rate==0'],
    holdfast_same_answer: ['rate==1'],
    holdfast_ended_in_time: ['rate==1'],
    'checks{promise:money}': ['rate==1'],
    ...perClass(),
  },
};

// perClass makes k6 report each class by itself.
function perClass() {
  const all = {};
  for (const key of (__ENV.KEYS || '').split(',')) {
    const name = key.includes('=') ? key.split('=')[0] : 'standard';
    all[`http_req_duration{class:${name}}`] = ['max>=0'];
    all[`holdfast_refused{class:${name}}`] = ['count>=0'];
    all[`holdfast_refusal{class:${name}}`] = ['max>=0'];
  }
  return all;
}

function named(list, name) {
  const found = list.find((one) => one.name === name);
  if (!found) {
    throw new Error(`there is no ${name}: ${list.map((one) => one.name).join(', ')}`);
  }
  return found;
}

export function setup() {
  return equip(mix.weights.some((w) => w.kind === 'order'));
}

// What this VU remembers of its last accepted transfer of each tenant.
const last = {};

export default function (world) {
  const tenant = world.tenants[zipf(world.tenants.length, mix.tenants)];
  const caller = pick(tenant.callers);
  let kind = draw(mix.weights);
  if ((kind === 'repeat' || kind === 'conflict') && !last[tenant.name]) {
    kind = 'transfer';
  }
  const tags = { class: caller.class, kind };
  ({ transfer, order, read, repeat, conflict })[kind](tenant, caller, tags);
}

// key is of this iteration alone.
const key = () => `k6-${exec.scenario.startTime}-${exec.scenario.iterationInTest}`;

function transfer(tenant, caller, tags) {
  const from = zipf(tenant.accounts.length, mix.accounts);
  let to = zipf(tenant.accounts.length, mix.accounts);
  if (to === from) {
    to = (from + 1) % tenant.accounts.length;
  }
  const request = {
    key: key(),
    body: {
      from_account: tenant.accounts[from],
      to_account: tenant.accounts[to],
      amount: { value: 1 + Math.floor(Math.random() * 9), currency: tenant.currency },
    },
  };
  const answer = call('POST', '/v1/transfers', { ...request, caller, tags });
  if (judge(answer, tags, answer.status === 202)) {
    last[tenant.name] = { ...request, status: answer.status, text: answer.body };
    follow(caller, answer.json(), 'transfers');
  }
}

function order(tenant, caller, tags) {
  const first = Math.floor(Math.random() * tenant.skus.length);
  const answer = call('POST', '/v1/orders', {
    caller,
    tags,
    key: key(),
    body: {
      customer_account: pick(tenant.accounts),
      merchant_account: tenant.merchant,
      location: tenant.location,
      lines: [0, 1].map((n) => ({ sku: tenant.skus[(first + n) % tenant.skus.length], quantity: 1 })),
    },
  });
  judge(answer, tags, answer.status === 202);
}

function read(tenant, caller, tags) {
  const known = last[tenant.name];
  const path = known
    ? `/v1/transfers/${JSON.parse(known.text).id}`
    : `/v1/accounts/${pick(tenant.accounts)}/balance`;
  const answer = call('GET', path, { caller, tags });
  judge(answer, tags, answer.status === 200);
}

// repeat sends the last transfer once more: the answer has to be the first one, to the byte.
function repeat(tenant, caller, tags) {
  const known = last[tenant.name];
  const answer = call('POST', '/v1/transfers', { caller, tags, key: known.key, body: known.body });
  if (judge(answer, tags, answer.status === 202)) {
    same.add(answer.status === known.status && answer.body === known.text);
  }
}

// conflict uses the key of the last transfer for another one: it has to be refused.
function conflict(tenant, caller, tags) {
  const known = last[tenant.name];
  const body = { ...known.body, amount: { ...known.body.amount, value: known.body.amount.value + 1 } };
  const answer = call('POST', '/v1/transfers', { caller, tags, key: known.key, body });
  judge(answer, tags, code(answer) === 'idempotency_key_reused');
}

// judge counts an answer: what was asked for, a refusal for a moment, or something that no load should get.
function judge(answer, tags, good) {
  const passing = answer.status === 503 || answer.status === 429 || code(answer) === 'idempotency_in_progress';
  wrong.add(!good && !passing, tags);
  if (!good && !passing) {
    console.error(`${tags.kind}: ${answer.status} ${answer.error || answer.body}`);
  }
  if (!good && passing) {
    refused.add(1, { ...tags, code: code(answer) });
    refusal.add(answer.timings.duration, tags);
    const wait = Number(answer.headers['Retry-After']);
    if (wait >= 0) {
      retryAfter.add(wait, tags);
    }
  }
  return good;
}

// follow waits for the end of some transfers: the time to it is Postgres's, by the events.
function follow(caller, made) {
  if (exec.scenario.iterationInTest % followEvery !== 0) {
    return;
  }
  const tags = { class: caller.class, kind: 'follow' };
  const now = call('GET', `/v1/transfers/${made.id}`, { caller, tags, wait: 30 });
  const found = call('GET', `/v1/transfers/${made.id}/events`, { caller, tags });
  if (now.status !== 200 || found.status !== 200) {
    return; // refused for a moment: this one is not followed
  }
  const ends = found.json().events.filter((e) => ['settled', 'blocked', 'canceled', 'expired', 'failed'].includes(e.to));
  const end = ends.length === 1 ? Date.parse(ends[0].at) : NaN;
  inTime.add(end <= Date.parse(made.promise_at));
  completed.add(end - Date.parse(made.created_at));
}

// teardown holds the money of the load to what it was: it may have moved, and none may be gone.
export function teardown(world) {
  for (const tenant of world.tenants) {
    held(tenant, drainMax);
    check(sum(tenant), { 'money is conserved': (now) => now === tenant.sum }, { promise: 'money' });
  }
}
