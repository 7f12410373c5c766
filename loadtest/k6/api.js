// Calls of the API, and what a load needs before it can begin.
import http from 'k6/http';
import { sleep } from 'k6';

const base = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '');
const currency = __ENV.CURRENCY || 'EUR';
const accounts = Number(__ENV.ACCOUNTS || 50);
const fund = Number(__ENV.FUND || 20000);

const skus = 10;
const location = 'load';
const pagesMax = 25;
const stock = 100000000;
const stockLeast = 2000000;

// Things are named after the week: a key is kept for 30 days, so within the week the same things are found again.
const week = `k6-w${Math.floor(Date.now() / (7 * 24 * 3600 * 1000))}`;

// call sends one request.
export function call(method, path, { caller, key, body, tags, wait }) {
  const headers = { Authorization: `Bearer ${caller.secret}` };
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
    headers['Idempotency-Key'] = key;
  }
  if (wait) {
    headers.Prefer = `wait=${wait}`;
  }
  // The name keeps ids out of the metrics.
  const name = `${method} ${path.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '{id}').replace(/\?.*/, '')}`;
  return http.request(method, base + path, body === undefined ? null : JSON.stringify(body), {
    headers,
    tags: { ...tags, name },
    timeout: '40s',
    redirects: 0,
  });
}

// code is the problem code of an answer, or nothing.
export function code(answer) {
  if (answer.status < 400) {
    return '';
  }
  try {
    return answer.json().code || '';
  } catch {
    return '';
  }
}

// must is call for what cannot be done without.
function must(method, path, request) {
  const answer = call(method, path, { ...request, tags: { kind: 'prepare' } });
  if (answer.status < 200 || answer.status > 299) {
    throw new Error(`${method} ${path}: ${answer.status} ${answer.error || code(answer)}; is BASE_URL up, and ` +
      'is each of KEYS a key with all scopes?');
  }
  return answer.json();
}

// equip gives every tenant accounts with money, and something to buy if there are orders.
export function equip(orders) {
  const tenants = [];
  for (const text of (__ENV.KEYS || '').split(',').filter((one) => one)) {
    const at = text.indexOf('=');
    const caller = { class: at < 0 ? 'standard' : text.slice(0, at), secret: text.slice(at + 1) };
    const merchant = account(caller, 0);
    let tenant = tenants.find((one) => one.merchant === merchant); // keys that find the same account
    if (!tenant) {
      tenant = { name: `tenant ${tenants.length + 1}`, merchant, callers: [], currency, location, skus: [] };
      tenants.push(tenant);
    }
    tenant.callers.push(caller);
    probe(caller, orders);
  }
  if (tenants.length === 0) {
    throw new Error('give KEYS=hf_…: ctl key create makes one, and make up prints one');
  }
  for (const tenant of tenants) {
    const caller = tenant.callers[0];
    tenant.accounts = Array.from({ length: accounts }, (_, n) => account(caller, n + 1));
    fill(tenant, caller);
    if (orders) {
      tenant.skus = Array.from({ length: skus }, (_, n) => sku(caller, n));
    }
    tenant.sum = sum(tenant);
  }
  return { tenants };
}

// probe finds out in time whether a key may do what the load does: a change without an Idempotency-Key is refused,
// but later than a scope that lacks.
function probe(caller, orders) {
  for (const path of orders ? ['/v1/transfers', '/v1/orders', '/v1/skus'] : ['/v1/transfers']) {
    const answer = call('POST', path, { caller, key: '', body: {}, tags: { kind: 'prepare' } });
    if (answer.status === 403) {
      throw new Error(`a key of class ${caller.class} may not do POST ${path}: it needs the scopes of docs/load.md`);
    }
  }
}

function account(caller, n) {
  const key = `${week}-${currency}-account-${n}`;
  return must('POST', '/v1/accounts', { caller, key, body: { name: `k6 ${n}`, kind: 'user', currency } }).id;
}

const balance = (caller, id) => must('GET', `/v1/accounts/${id}/balance`, { caller });

// fill moves money from the richest account to those that have too little.
function fill(tenant, caller) {
  const missing = tenant.accounts
    .map((id) => ({ id, value: fund - balance(caller, id).available }))
    .filter((one) => one.value > fund / 2);
  if (missing.length === 0) {
    return;
  }
  const from = richest(tenant, caller);
  const made = missing.map(({ id, value }) => must('POST', '/v1/transfers', {
    caller,
    key: `${week}-fill-${id}-${Date.now()}`,
    body: { from_account: from, to_account: id, amount: { value, currency } },
  }));
  for (const one of made) {
    const end = must('GET', `/v1/transfers/${one.id}`, { caller, wait: 30 });
    if (end.status !== 'settled') {
      throw new Error(`transfer ${one.id} to fill an account is ${end.status} ${end.reason || ''}`);
    }
  }
}

function richest(tenant, caller) {
  const own = [...tenant.accounts, tenant.merchant];
  let best;
  let cursor = '';
  for (let page = 0; page < pagesMax; page++) {
    const found = must('GET', `/v1/accounts?limit=200${cursor && `&cursor=${cursor}`}`, { caller });
    for (const one of found.accounts) {
      const fits = one.kind === 'user' && one.status === 'active' && one.currency === currency;
      if (fits && !own.includes(one.id) && (!best || one.balance.available > best.balance.available)) {
        best = one;
      }
    }
    cursor = found.next_cursor;
    if (!cursor) {
      break;
    }
  }
  if (!best) {
    throw new Error(`no account of the tenant has ${currency}`);
  }
  return best.id;
}

function sku(caller, n) {
  const name = `${week}-${currency}-${n}`;
  const { id } = must('POST', '/v1/skus', {
    caller,
    key: `${name}-sku`,
    body: { code: name, name: 'Something to buy', price: { value: 1, currency } },
  });
  const here = must('GET', `/v1/skus/${id}/stock`, { caller }).stock.find((one) => one.location === location);
  if (!here || here.available < stockLeast) {
    must('POST', `/v1/skus/${id}/stock`, {
      caller,
      key: `${name}-${Date.now()}`,
      body: { location, kind: 'restock', quantity: stock, reason: 'load test' },
    });
  }
  return id;
}

// sum is the money that is posted to the accounts of the load.
export function sum(tenant) {
  const own = [...tenant.accounts, tenant.merchant];
  return own.reduce((all, id) => all + balance(tenant.callers[0], id).posted, 0);
}

// held waits until no money of the load is on its way, for some seconds at most.
export function held(tenant, seconds) {
  const own = [...tenant.accounts, tenant.merchant];
  for (let n = 0; n < seconds && own.some((id) => balance(tenant.callers[0], id).held > 0); n++) {
    sleep(1);
  }
}
