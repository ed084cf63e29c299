// The page: what is drawn or picked goes through the engine, and all that it computes is shown.

"use strict";

const $ = (id) => document.getElementById(id);
const FIELD = 280; // pixels of the drawing field's longer side, about
const SAYS = {
  blank: "Blank: there is nothing to see yet.",
  full: "Full: the ink leaves no paper to see a thing on. Clear it and draw thinner.",
  digit: "Seen as MNIST's digits are: fitted into 20×20, centred by mass.",
  digits: "Seen as MultiMNIST's digits are: fitted into 24×24, in the middle.",
  garment: "Seen as Fashion-MNIST's things are: fitted into the image, in the middle.",
  whole: "Seen as it stands, in the network's size.",
};

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Base64 -> bytes.
const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function makePage(facts, network, tests) {
  const { spec } = network;
  const [height, width] = spec.image;
  const pixels = height * width * spec.image[2];
  const classes = facts.classes;
  // What is shown: the image, what the engine makes of it, the class looked at, its pose as tweaked.
  let now = null;
  let asking = 0; // which question to the wings is the newest

  // ---- the network's answer

  function see(image) {
    const couplings = [];
    const poses = encode(network, image, (name, tensor) => {
      if (name.endsWith(".coupling")) couplings.push(tensor);
    });
    const sure = lengths(poses, spec.pose, spec.length_epsilon);
    return { image, poses, couplings, lengths: sure, longest: longest(sure) };
  }

  // The classes of the longest capsules, as many as an image shows; the first of equal ones.
  function longest(sure) {
    const order = [...sure.keys()].sort((a, b) => sure[b] - sure[a] || a - b);
    return order.slice(0, facts.things);
  }

  const called = (labels) => labels.map((label) => classes[label]).join(" and ");

  function look(image, test = {}) {
    now = { ...see(image), ...test };
    choose(now.longest[0]);
    compare();
  }

  function choose(label) {
    now.label = label;
    now.pose = now.poses.slice(label * spec.pose, (label + 1) * spec.pose);
    show();
  }

  function forget(reason) {
    now = null;
    asking += 1;
    $("state").textContent = SAYS[reason];
    show();
  }

  // ---- what is shown

  function show() {
    showLengths();
    showPose();
    showRouting();
    if (!now) $("wings").hidden = true;
    pictures?.mark(now?.at);
  }

  const bars = classes.map((name, label) => {
    const input = element("input", { type: "radio", name: "class", value: label, disabled: true });
    input.addEventListener("change", () => choose(label));
    const bar = element("i");
    const number = element("output", {}, "–");
    const row = element("label", {}, input, element("span", {}, name), element("span", { className: "bar" }, bar), number);
    $("lengths").append(row);
    return { row, input, bar, number };
  });
  $("lengths").classList.toggle("named", classes.some((name) => name.length > 2));

  function showLengths() {
    bars.forEach(({ row, input, bar, number }, label) => {
      row.classList.toggle("longest", now !== null && now.longest.includes(label));
      [input.disabled, input.checked] = [now === null, now?.label === label];
      bar.style.width = `${now ? 100 * now.lengths[label] : 0}%`;
      number.textContent = now ? now.lengths[label].toFixed(3) : "–";
    });
    if (!now) return $("answer").replaceChildren("No answer: there is nothing to see.");
    const wrong = now.of !== undefined && !now.longest.includes(now.of);
    const truth = now.of === undefined ? "" : `, ${wrong ? "but" : "and"} it is ${classes[now.of]}`;
    return $("answer").replaceChildren(
      "It says ", element("strong", { className: wrong ? "wrong" : "" }, called(now.longest)), truth);
  }

  const sliders = Array.from({ length: spec.pose }, (_, d) => {
    const input = element("input", { type: "range", min: -1, max: 1, step: 0.01, disabled: true });
    input.setAttribute("aria-label", `Component ${d + 1} of the pose`);
    const number = element("output", {}, "–");
    input.addEventListener("input", () => {
      now.pose[d] = Number(input.value);
      showDrawn();
    });
    $("sliders").append(element("label", {}, element("span", {}, String(d + 1)), input, number));
    return { input, number };
  });
  $("sliders").classList.toggle("many", spec.pose > 8);
  $("reset").addEventListener("click", () => choose(now.label));

  function showPose() {
    $("pose-title").textContent = now ? `Pose of ${classes[now.label]}` : "Pose";
    const blank = new Float32Array(pixels);
    paint($("seen"), now ? now.image : blank, spec.image);
    sliders.forEach(({ input }, d) => {
      input.disabled = now === null;
      input.value = now ? now.pose[d] : 0;
      input.style.setProperty("--mark", `${now ? 50 + 50 * now.pose[d] : 50}%`);
    });
    showDrawn();
  }

  function showDrawn() {
    sliders.forEach(({ number }, d) => {
      number.textContent = now ? now.pose[d].toFixed(2).replace("-0.00", "0.00") : "–";
    });
    const own = now && now.poses.subarray(now.label * spec.pose, (now.label + 1) * spec.pose);
    const moved = now !== null && own.some((value, d) => value !== now.pose[d]);
    $("reset").disabled = !moved;
    const said = now && `length ${lengths(now.pose, spec.pose, spec.length_epsilon)[0].toFixed(3)}`;
    $("tweaked").textContent = now ? (moved ? `${said} as moved` : `${said}; move a slider`) : "";
    $("redrawn").hidden = !spec.decoder;
    if (!spec.decoder) return;
    const tweaked = now && Float64Array.from(now.poses);
    tweaked?.set(now.pose, now.label * spec.pose);
    const image = now ? decode(network, tweaked, now.label) : new Float64Array(pixels);
    paint($("drawn"), image, spec.image);
  }

  function showRouting() {
    const { even, most } = showMaps($("maps"), $("near"), facts, spec, now);
    const [I, types] = [network.arrays["digit.kernel"].shape[0], spec.primary.types];
    const what = I > types
      ? `How much the primary capsules at each place send to each class: the largest routing coefficient of their ${types} types, a row for each iteration.`
      : `How much each of the ${I} primary capsules, one under the other, sends to each class.`;
    const negative = network.arrays["digit.prior"] ? ", and orange below 0, where the learned prior takes away" : "";
    const scale = now ? ` Blank is an even split, ${even.toFixed(2)} or less, full blue ${most.toFixed(2)}${negative}.` : "";
    $("routing-says").textContent = what + scale;
  }

  // ---- drawing

  const [tall, wide] = facts.fit === "whole" && facts.frame ? facts.frame : [height, width];
  const fine = Math.max(1, Math.round(FIELD / Math.max(tall, wide)));
  const field = makeField($("field"), tall * fine, wide * fine, () => {
    const reason = fault(field.drawing);
    $("hint").hidden = reason !== "blank";
    const image = reason ? null : prepare(field.drawing, spec.image, facts.fit, facts.frame);
    if (image === null) return forget(reason || "blank");
    $("state").textContent = SAYS[facts.fit];
    return look(image);
  });
  $("clear").addEventListener("click", () => field.clear());

  function pick(at, image, label) {
    $("hint").hidden = true;
    $("state").textContent = `Test image ${at + 1}. Draw on it to begin anew.`;
    field.show(image, spec.image);
    look(image, { at, of: label });
  }
  const pictures = tests && makePictures(tests, facts, spec, (image) => see(image).longest[0], pick);

  // ---- the wings, if the page is served

  async function compare() {
    if (!facts.wings.length) return;
    const [turn, shown] = [(asking += 1), now];
    await new Promise((resolve) => { setTimeout(resolve, 150); }); // not at every point of a stroke
    if (turn !== asking) return;
    let said = `${facts.wings.map((name) => TITLES[name]).join(" and ")} in float32, this page in float64: lengths of the class capsules. A difference is relative to the largest number in the poses.`;
    try {
      const poses = { ...await ask(shown.image), page: shown.poses };
      if (turn !== asking) return;
      showWings($("table"), poses, spec, classes, shown.longest);
      document.body.dataset.compared = String(turn);
    } catch (error) {
      if (turn !== asking) return;
      said = `No answer (${error.message}); does python -m parity explore --serve still run?`;
      $("table").replaceChildren();
    }
    $("wings-say").textContent = said;
    $("wings").hidden = false;
  }

  // ---- first

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    field.repaint();
    show();
    pictures?.repaint();
  });
  if (pictures) pictures.start();
  else forget("blank");
  return { network, drawing: field.drawing }; // for the browser's console
}

async function start() {
  const facts = JSON.parse($("facts").textContent);
  try {
    const network = readWeights(decoded($("weights").textContent).buffer);
    const packed = $("images").textContent.trim();
    const tests = packed && { images: await inflated(decoded(packed)), labels: facts.labels };
    $("about").textContent = facts.about;
    $("notes").textContent = facts.notes.join(" ");
    document.querySelector("main").hidden = false;
    globalThis.explorer = makePage(facts, network, tests || null);
    document.body.dataset.ready = "yes";
  } catch (error) {
    $("fault").hidden = false;
    $("fault").textContent = `This page needs a browser of 2023 or newer (${error.message}).`;
    throw error;
  }
}

start();
