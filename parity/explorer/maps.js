// The routing coefficients as maps: a row for each iteration, a column for each class.

"use strict";

const FINE = 4; // dots of a map for each pixel of the image
const MOST = 10; // classes that are shown: those of the longest capsules
const AROUND = 2; // pixels of the image that are shown around the grid of primary capsules

// Fills an element, and on narrow screens a second one with the maps of the class looked at, larger.
// `now` is what the page shows (its image, couplings, label), null for nothing.
function showMaps(container, near, { classes, grid, first, step }, spec, now) {
  const J = classes.length;
  const [rows, columns] = grid;
  const iterations = now?.couplings.length ?? spec.routing.num_iters ?? 1;
  const scale = makeScale(now, J, spec.routing.leaky);
  const draw = rows * columns > 1 ? places() : column;

  // The grid over the image, whose strokes are outlined; a cell is as wide as the step between
  // neighbours. The mean over the types of a place would hide the one that sends: most are short
  // and split evenly.
  function places() {
    const [height, width] = spec.image;
    const outline = now ? outlined(now.image, spec.image) : [];
    const [top, left] = [Math.max(0, Math.floor(first) - AROUND), Math.max(0, Math.floor(first) - AROUND)];
    const bottom = Math.min(height, Math.ceil(first + rows * step) + AROUND + 1);
    const right = Math.min(width, Math.ceil(first + columns * step) + AROUND + 1);
    const [tall, wide] = [(bottom - top) * FINE, (right - left) * FINE];
    const [margin, ink] = [mix(colour("--paper"), colour("--pale"), 0.35), colour("--ink")];
    const cell = (at) => Math.floor(((at + 0.5) / FINE - 0.5 - first) / step);
    return (canvas, coupling, j) => {
      const shades = Array.from({ length: rows * columns }, (_, place) =>
        scale.shade(coupling && largest(coupling, J, j, place * spec.primary.types, spec.primary.types)));
      dot(canvas, tall, wide, (at) => {
        const [y, x] = [top * FINE + Math.floor(at / wide), left * FINE + (at % wide)];
        const [row, across] = [cell(y), cell(x)];
        const inside = row >= 0 && row < rows && across >= 0 && across < columns;
        const under = inside ? shades[row * columns + across] : margin;
        return outline[y * width * FINE + x] ? mix(under, ink, 0.7) : under;
      });
    };
  }

  // Capsules without a place: one under the other.
  function column(canvas, coupling, j) {
    const shades = Array.from({ length: spec.primary.types }, (_, i) =>
      scale.shade(coupling && coupling[i * J + j]));
    dot(canvas, shades.length * 6, 48, (at) => shades[Math.floor(at / (48 * 6))]);
  }

  const longest = [...classes.keys()].sort((a, b) => (now ? now.lengths[b] - now.lengths[a] : 0));
  const shown = longest.slice(0, MOST).sort((a, b) => a - b);
  const chosen = (j) => (now?.label === j ? "chosen" : "");
  const heads = shown.map((j) => element("b", { className: chosen(j), title: classes[j] }, classes[j]));
  const map = (t, j, className) => {
    const canvas = element("canvas", { className });
    draw(canvas, now?.couplings[t], j);
    return canvas;
  };
  const lines = Array.from({ length: iterations }, (_, t) => [
    element("i", {}, iterations > 1 ? String(t + 1) : ""),
    ...shown.map((j) => map(t, j, chosen(j))),
  ]);
  near.style.gridTemplateColumns = `repeat(${iterations}, minmax(0, 8rem))`;
  near.replaceChildren(...lines.map((_, t) => map(t, now?.label ?? 0, "")));
  container.style.gridTemplateColumns = `max-content repeat(${shown.length}, minmax(1.5rem, 6rem))`;
  container.replaceChildren(element("i"), ...heads, ...lines.flat());
  container.setAttribute("aria-label", now ? inWords(now, classes) : "No routing: nothing is drawn");
  return scale;
}

// Colours from the even split (paper) to the largest coefficient; below 0 the warm one.
function makeScale(now, J, leaky) {
  const even = 1 / (J + (leaky ? 1 : 0));
  const most = Math.max(even * 1.01, ...(now?.couplings ?? []).map((each) => largest(each, 1, 0, 0, each.length)));
  const [paper, cool, warm] = [colour("--paper"), colour("--cool"), colour("--warm")];
  const shade = (x) => {
    if (x === undefined) return paper;
    if (x < 0) return mix(paper, warm, Math.min(1, -x / most));
    return mix(paper, cool, Math.max(0, (x - even) / (most - even)));
  };
  return { even, most, shade };
}

// Of `count` capsules from `from` on, the largest coefficient to j.
function largest(coupling, J, j, from, count) {
  let most = -Infinity;
  for (let i = from; i < from + count; i++) most = Math.max(most, coupling[i * J + j]);
  return most;
}

// For those who do not see the maps.
function inWords({ couplings, label }, classes) {
  const J = classes.length;
  const most = couplings.map((each) => largest(each, J, label, 0, each.length / J).toFixed(2));
  return `Largest routing coefficient to ${classes[label]}, by iteration: ${most.join(", ")}`;
}

// Whether each fine dot lies at the edge of what is brighter, interpolated, than one half.
function outlined(image, [height, width, channels]) {
  const at = (row, column) => image[
    (Math.min(Math.max(row, 0), height - 1) * width + Math.min(Math.max(column, 0), width - 1)) * channels];
  const [tall, wide] = [height * FINE, width * FINE];
  const bright = new Uint8Array(tall * wide);
  bright.forEach((_, n) => {
    const [r, c] = [(Math.floor(n / wide) + 0.5) / FINE - 0.5, ((n % wide) + 0.5) / FINE - 0.5];
    const [top, left] = [Math.floor(r), Math.floor(c)];
    const [v, u] = [r - top, c - left];
    const upper = (1 - u) * at(top, left) + u * at(top, left + 1);
    const lower = (1 - u) * at(top + 1, left) + u * at(top + 1, left + 1);
    bright[n] = (1 - v) * upper + v * lower > 0.5;
  });
  return bright.map((here, n) => here
    && !(bright[n - 1] && bright[n + 1] && bright[n - wide] && bright[n + wide]));
}
