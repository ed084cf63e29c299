// The test images: those that the network gets wrong, found one after the other, or all of them.

"use strict";

const AT_ONCE = 24; // thumbnails that are shown before "More"

// `answer` is the class that the network says of an image; `pick(at, image, label)` is called for
// the image that is chosen.
function makePictures(tests, { classes }, spec, answer, pick) {
  const [grid, size] = [$("grid"), spec.image.reduce((a, b) => a * b)];
  const answers = [];
  let [pages, marked] = [1, undefined];

  const image = (at) => Float32Array.from(
    tests.images.subarray(at * size, (at + 1) * size), (byte) => byte / 255);
  const missed = (at) => answers[at] !== undefined && answers[at] !== tests.labels[at];
  const choose = (at) => pick(at, image(at), tests.labels[at]);

  function refresh() {
    const all = $("which").value === "all";
    const places = [...tests.labels.keys()].filter((at) => all || missed(at));
    const shown = places.slice(0, pages * AT_ONCE);
    const kept = new Map([...grid.children].map((button) => [button.dataset.at, button]));
    const focused = document.activeElement;
    grid.replaceChildren(...shown.map((at) => kept.get(String(at)) ?? thumbnail(at)));
    if (grid.contains(focused)) focused.focus({ preventScroll: true });
    for (const button of grid.children) name(button);
    mark(marked);
    $("more").hidden = shown.length === places.length;
    rove([...grid.children].find((button) => button.tabIndex === 0) ?? grid.firstElementChild);
  }

  function thumbnail(at) {
    const button = element("button", { type: "button", tabIndex: -1 }, element("canvas"), element("span"));
    button.dataset.at = at;
    button.addEventListener("click", () => choose(at));
    paint(button.firstChild, image(at), spec.image);
    return button;
  }

  function name(button) {
    const at = Number(button.dataset.at);
    const [is, says] = [classes[tests.labels[at]], classes[answers[at]]];
    button.lastChild.textContent = missed(at) ? `${is}, not ${says}` : is;
    button.lastChild.className = missed(at) ? "wrong" : "";
    const said = missed(at) ? `, the network says ${says}` : "";
    button.setAttribute("aria-label", `Test image ${at + 1}: ${is}${said}`);
  }

  // Shows which one the network is looking at, if any.
  function mark(at) {
    marked = at;
    for (const button of grid.children) {
      button.setAttribute("aria-pressed", String(button.dataset.at === String(at)));
    }
  }

  // One of the images can be reached by Tab, the others from it by the arrow keys.
  function rove(button) {
    for (const each of grid.children) each.tabIndex = each === button ? 0 : -1;
  }
  grid.addEventListener("focusin", (event) => rove(event.target));
  grid.addEventListener("keydown", (event) => {
    const all = [...grid.children];
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const at = all.indexOf(document.activeElement) + steps[event.key];
    all[Math.min(Math.max(at, 0), all.length - 1)].focus();
  });
  $("which").addEventListener("change", () => {
    pages = 1;
    refresh();
  });
  $("more").addEventListener("click", () => {
    pages += 1;
    refresh();
  });

  // Shows the network every image, one at a time so that the page stays awake.
  async function examine() {
    const count = tests.labels.length;
    let wrong = 0;
    for (let at = 0; at < count; at++) {
      answers[at] = answer(image(at));
      if (missed(at)) {
        wrong += 1;
        refresh();
      }
      const seen = (at + 1).toLocaleString("en");
      if (at + 1 === count) $("progress").textContent = `${wrong} wrong of all ${seen}`;
      else if (at % 50 === 49) $("progress").textContent = `${wrong} wrong of ${seen} so far`;
      await new Promise((resolve) => { setTimeout(resolve); });
    }
    document.body.dataset.examined = "all";
  }

  return {
    mark,
    repaint() {
      grid.replaceChildren();
      refresh();
    },
    start() {
      $("pictures").hidden = false;
      refresh();
      choose(0);
      setTimeout(examine, 200);
    },
  };
}
