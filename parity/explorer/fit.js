// A drawing as an image of a network: parity/predict/fit.py once more, with the same numbers.
//
// float32 is what NumPy and Pillow compute there, so each step here is rounded to it (fround).
// A drawing is {height, width, data}, bytes, light on black.

"use strict";

const SIDES = { digit: 20, digits: 24 }; // of the squares that they are fitted into
const EDGE = { digit: 0.15, digits: 0.15, garment: 0.02 }; // of the strongest ink, where its box ends
const TIE = 1e-4; // of a pixel, so that rounding errors do not decide where a symmetrical digit goes
const FAINTEST = Math.fround(0.1); // the contrast below which there is nothing
const FULL = 0.5; // the share of the field beyond which no paper is left to see a thing on

// "blank", "full" or "": whether there is something to be seen in a drawing.
function fault({ data }) {
  const inked = data.reduce((count, byte) => count + (byte > 127), 0);
  if (inked === 0) return "blank";
  return inked > FULL * data.length ? "full" : "";
}

// A drawing as an image, flat [height, width, channels] in 0 to 1; null where there is nothing.
function prepare(drawing, [height, width, channels], fit, frame) {
  const grey = fit === "whole"
    ? middle(drawing, height, width, frame ?? [height, width])
    : fitted(drawing, height, width, fit);
  if (grey === null) return null;
  return Float32Array.from({ length: grey.length * channels }, (_, at) => grey[Math.floor(at / channels)]);
}

// The thing's box, as large as fits, in the middle: of its mass for a digit, of its box for others.
function fitted(drawing, height, width, fit) {
  const found = crop(ink(drawing), EDGE[fit]);
  if (found === null) return null;
  const side = SIDES[fit];
  const scale = Math.min((side ?? height) / found.height, (side ?? width) / found.width);
  const [h, w] = [found.height, found.width].map((size) => Math.max(1, even(size * scale)));
  const small = resized(found, h, w);
  let [down, right] = [Math.floor((height + 1 - h) / 2), Math.floor((width + 1 - w) / 2)];
  if (side !== undefined) { // thin lines are faint when they are small, MNIST's are not
    const strongest = small.data.reduce((a, b) => Math.max(a, b));
    small.data = small.data.map((value) => value / strongest);
  }
  if (fit === "digit") {
    const [row, column] = centreOfMass(small);
    const moved = [Math.floor(height / 2) - row, Math.floor(width / 2) - column];
    [down, right] = moved.map((by) => even(by - TIE));
  }
  [down, right] = [Math.min(Math.max(down, 0), height - h), Math.min(Math.max(right, 0), width - w)];
  const out = new Float32Array(height * width);
  small.data.forEach((value, at) => {
    const [row, column] = [down + Math.floor(at / w), right + (at % w)];
    out[row * width + column] = Math.min(Math.max(value, 0), 1);
  });
  return out;
}

// How far each pixel stands out from the paper, the border's median: darker or lighter, whichever
// there is more of.
function ink({ height, width, data }) {
  const grey = Float32Array.from(data, (byte) => byte / 255);
  const border = [];
  for (let n = 0; n < width; n++) border.push(grey[n], grey[grey.length - 1 - n]);
  for (let n = 0; n < height; n++) border.push(grey[n * width], grey[(n + 1) * width - 1]);
  border.sort((a, b) => a - b); // an even number of them: the median is between two
  const paper = Math.fround((border[border.length / 2 - 1] + border[border.length / 2]) / 2);
  const dark = grey.map((value) => Math.max(paper - value, 0));
  const light = grey.map((value) => Math.max(value - paper, 0));
  const sum = (array) => array.reduce((a, b) => a + b, 0);
  return { height, width, data: sum(dark) > sum(light) ? dark : light };
}

// The box of all ink above `edge` times the strongest; null where there is none.
function crop({ width, data }, edge) {
  const strongest = data.reduce((a, b) => Math.max(a, b));
  if (strongest < FAINTEST) return null;
  let [top, bottom, left, right] = [Infinity, -1, Infinity, -1];
  data.forEach((value, at) => {
    if (value <= Math.fround(Math.fround(edge) * strongest)) return;
    const [row, column] = [Math.floor(at / width), at % width];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    [left, right] = [Math.min(left, column), Math.max(right, column)];
  });
  const box = { height: bottom + 1 - top, width: right + 1 - left, data: null };
  box.data = Float32Array.from({ length: box.height * box.width }, (_, at) =>
    data[(top + Math.floor(at / box.width)) * width + left + (at % box.width)]);
  return box;
}

// Pillow's BILINEAR: first along the rows, then along the columns, each result in float32.
function resized(picture, height, width) {
  const across = line(picture.width, width);
  const rows = new Float32Array(picture.height * width);
  rows.forEach((_, at) => {
    const [row, { first, weights }] = [Math.floor(at / width), across[at % width]];
    rows[at] = weights.reduce((sum, w, n) => sum + picture.data[row * picture.width + first + n] * w, 0);
  });
  const down = line(picture.height, height);
  const out = new Float32Array(height * width);
  out.forEach((_, at) => {
    const [column, { first, weights }] = [at % width, down[Math.floor(at / width)]];
    out[at] = weights.reduce((sum, w, n) => sum + rows[(first + n) * width + column] * w, 0);
  });
  return { height, width, data: out };
}

// For each pixel of a resized line: where its window begins in the old one, and its weights.
function line(before, after) {
  const scale = before / after;
  const support = Math.max(scale, 1); // a triangle of this half width: antialiased when smaller
  return Array.from({ length: after }, (_, n) => {
    const centre = (n + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), before);
    const weights = Array.from({ length: last - first }, (_, k) =>
      Math.max(1 - Math.abs((k + first - centre + 0.5) / support), 0));
    const total = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

function centreOfMass({ width, data }) {
  let [total, rows, columns] = [0, 0, 0];
  data.forEach((value, at) => {
    total += value;
    rows += Math.floor(at / width) * value;
    columns += (at % width) * value;
  });
  return [rows / total, columns / total];
}

// "whole": the middle, in the network's size, of the drawing in the size of a frame.
function middle(drawing, height, width, frame) {
  const small = resized({ ...drawing, data: Float32Array.from(drawing.data) }, ...frame);
  const [down, right] = [Math.floor((frame[0] - height) / 2), Math.floor((frame[1] - width) / 2)];
  return Float32Array.from({ length: height * width }, (_, at) =>
    Math.round(small.data[(down + Math.floor(at / width)) * frame[1] + right + (at % width)]) / 255);
}

// Rounded as Python does: of two equally near, the even one.
function even(x) {
  const rounded = Math.round(x);
  return Math.abs(x % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
