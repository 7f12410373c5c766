// What shapes.json says, as draws and stages.

export const pick = (list) => list[Math.floor(Math.random() * list.length)];

// draw picks a kind by its weight.
export function draw(weights) {
  let n = Math.random() * 100;
  for (const { kind, percent } of weights) {
    if (n < percent) {
      return kind;
    }
    n -= percent;
  }
  return weights[0].kind;
}

const sums = {};

// zipf draws 0 to n-1, the kth with a weight of 1/(k+1)^s.
export function zipf(n, s) {
  const id = `${n} ${s}`;
  if (!sums[id]) {
    let all = 0;
    sums[id] = Array.from({ length: n }, (_, k) => (all += (k + 1) ** -s));
  }
  const at = Math.random() * sums[id][n - 1];
  return Math.min(sums[id].findIndex((sum) => sum >= at), n - 1);
}

// stages makes a profile real: each part begins at its own rate and goes evenly to its end's.
export function stages(profile, rate, seconds) {
  const all = [];
  let now = Math.round(profile.parts[0].from * rate);
  for (const { share, from, to } of profile.parts) {
    const begin = Math.round(from * rate);
    if (begin !== now) {
      all.push({ target: begin, duration: '0s' });
    }
    now = Math.round(to * rate);
    all.push({ target: now, duration: `${Math.round(share * seconds * 1000)}ms` });
  }
  return all;
}
