// The field that is drawn on: strokes into bytes of its own, which no browser rounds or blurs; and
// how pixels are shown.

"use strict";

// A colour of style.css, as [red, green, blue]: it changes with the light or dark scheme.
function colour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function mix(from, to, share) {
  return from.map((value, n) => value + (to[n] - value) * share);
}

// Shows an image, flat [height, width, channels] in 0 to 1; grey as ink on paper.
function paint(canvas, image, [height, width, channels]) {
  const [paper, ink] = [colour("--paper"), colour("--ink")];
  const grey = (share) => mix(paper, ink, share);
  const rgb = (place) => Array.from(image.subarray(place * 3, place * 3 + 3), (value) => value * 255);
  dot(canvas, height, width, (place) => (channels === 3 ? rgb(place) : grey(image[place * channels])));
}

// Gives each pixel of a canvas of this size the colour at its place.
function dot(canvas, height, width, at) {
  const small = new ImageData(width, height);
  for (let place = 0; place < height * width; place++) small.data.set([...at(place), 255], place * 4);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(small, 0, 0);
}

// canvas -> {drawing: {height, width, data}, clear(), show(image)}. `changed` is called after each
// stroke, and after a clearing, but not for an image that is shown.
function makeField(canvas, height, width, changed) {
  const drawing = { height, width, data: new Uint8Array(height * width) };
  const radius = Math.max(height, width) / 26; // MNIST's lines are some two pixels of 28 wide
  let [shown, last, pen, waiting] = [null, null, null, false];

  function repaint() {
    if (shown) paint(canvas, shown.image, shown.size);
    else paint(canvas, Float32Array.from(drawing.data, (byte) => byte / 255), [height, width, 1]);
    if (pen && document.activeElement === canvas) {
      const context = canvas.getContext("2d");
      context.save();
      // The pen is where a drawing has it, and the canvas as large as what it shows.
      context.scale(canvas.width / width, canvas.height / height);
      context.strokeStyle = `rgb(${colour("--cool")})`;
      context.lineWidth = 3;
      context.beginPath();
      context.arc(pen.x, pen.y, radius, 0, 2 * Math.PI);
      context.stroke();
      context.restore();
    }
  }

  // Once a frame, however many points a pointer sends.
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      repaint();
      changed();
    });
  }

  // Every pixel nearer to the line than the radius is inked, the edge over one pixel.
  function stroke(from, to) {
    if (shown) {
      shown = null;
      drawing.data.fill(0);
    }
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const reach = radius + 1;
    const [top, bottom] = [Math.min(from.y, to.y) - reach, Math.max(from.y, to.y) + reach];
    const [left, right] = [Math.min(from.x, to.x) - reach, Math.max(from.x, to.x) + reach];
    for (let y = Math.max(0, Math.floor(top)); y < Math.min(height, bottom); y++) {
      for (let x = Math.max(0, Math.floor(left)); x < Math.min(width, right); x++) {
        const along = ((x - from.x) * dx + (y - from.y) * dy) / (dx * dx + dy * dy || 1);
        const share = Math.min(Math.max(along, 0), 1);
        const away = Math.hypot(x - from.x - share * dx, y - from.y - share * dy);
        const inked = Math.round(255 * Math.min(Math.max(radius + 0.5 - away, 0), 1));
        drawing.data[y * width + x] = Math.max(drawing.data[y * width + x], inked);
      }
    }
    soon();
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * width,
      y: ((event.clientY - box.top) / box.height) * height,
    };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    [pen, last] = [null, point(event)];
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const points = event.getCoalescedEvents?.() ?? [];
    for (const each of points.length ? points : [event]) {
      const next = point(each);
      stroke(last, next);
      last = next;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { last = null; });
  }

  const STEPS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return field.clear();
    if (!STEPS[event.key]) return undefined;
    event.preventDefault();
    const from = pen ?? { x: width / 2, y: height / 2 };
    const [across, down] = STEPS[event.key].map((step) => step * radius);
    pen = {
      x: Math.min(Math.max(from.x + across, 0), width - 1),
      y: Math.min(Math.max(from.y + down, 0), height - 1),
    };
    if (event.shiftKey) stroke(from, pen);
    else repaint();
    return undefined;
  });
  canvas.addEventListener("blur", repaint);

  const field = {
    drawing,
    repaint,
    clear() {
      [shown, last] = [null, null];
      drawing.data.fill(0);
      soon();
    },
    show(image, size) {
      shown = { image, size };
      repaint();
    },
  };
  repaint();
  return field;
}
