// PyTorch and JAX beside the page, where `python -m parity explore --serve` answers.

"use strict";

const TITLES = { torch: "PyTorch", jax: "JAX", page: "this page" };

// The poses of each wing for an image, flat [J, D], by name.
async function ask(image) {
  const body = JSON.stringify({ image: Array.from(image) });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("poses", { method: "POST", headers, body });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// The ladder's measure: the largest difference over the largest value of either.
function difference(a, b) {
  let [apart, most] = [0, 0];
  for (let n = 0; n < a.length; n++) {
    apart = Math.max(apart, Math.abs(a[n] - b[n]));
    most = Math.max(most, Math.abs(a[n]), Math.abs(b[n]));
  }
  return most === 0 ? 0 : apart / most;
}

// Fills a table: a row for each class with its capsule's lengths, then a row for each difference.
function showWings(table, poses, spec, classes, longest) {
  const names = Object.keys(poses);
  const cell = (tag, text, more = {}) => element(tag, more, text);
  const heads = ["class", ...names.map((name) => TITLES[name])].map((text) => cell("th", text, { scope: "col" }));
  const sure = names.map((name) => lengths(poses[name], spec.pose, spec.length_epsilon));
  const rows = classes.map((name, label) => element(
    "tr", { className: longest.includes(label) ? "longest" : "" },
    cell("th", name, { scope: "row" }), ...sure.map((each) => cell("td", each[label].toFixed(7)))));
  const pairs = names.flatMap((a, n) => names.slice(n + 1).map((b) => [a, b]));
  const feet = pairs.map(([a, b]) => element(
    "tr", {}, cell("th", `poses differ, ${TITLES[a]} and ${TITLES[b]}`, { scope: "row", colSpan: names.length }),
    cell("td", difference(poses[a], poses[b]).toExponential(1))));
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
    element("tfoot", {}, ...feet));
}
