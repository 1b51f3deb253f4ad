/* The demo's controls: a photo, a brush, and views of what the worker makes of it. The page's own thread only draws.
   What goes wrong ends in a sentence, and the demo can be used again. */
window.cascadeDemo.start = async function (root) {
  "use strict";
  const LONGEST = 640; // px, what a photo is scaled to; the networks know squares of about 100 px
  const MOST = { bytes: 100e6, pixels: 60e6 }; // of a photo's file, and of its picture
  const UNDO = 20;
  const DAMAGE = ["motion", "blur", "sigma", "seed"];
  const { userAgent, platform, maxTouchPoints } = navigator; // an iPad says that it is a Mac
  const APPLE = /iPhone|iPod|iPad/.test(userAgent) || (/^Mac/.test(platform) && maxTouchPoints > 1);
  const ELSEWHERE = "On a computer, the command `cascade restore` does the same without a browser.";

  const find = (selector) => root.querySelector(selector);
  const is = (name) => find(`[data-is="${name}"]`);
  const canvas = find("canvas"), context = canvas.getContext("2d");
  const progress = find("progress"), curtain = find(".curtain"), other = is("other");
  const views = [...root.querySelectorAll("input[type=radio]")];
  const say = (text) => (find(".status").textContent = text);
  const show = (done, total) => Object.assign(progress, { hidden: done === total, max: total, value: done });

  // Pictures by the name of their view, the mask, the masks before it, the brush's place, and a count of the changes.
  let pictures = {}, mask, undo = [], cursor = null, turn = 0;

  // ---- the worker ----

  const waiting = new Map();
  let worker = null, about, last = 0;

  function ask(task, given, tell) {
    return new Promise((done, fail) => {
      waiting.set(++last, { done, fail, tell });
      worker.postMessage({ id: last, task, ...given });
    });
  }

  async function begin() {
    const lacking = ["WebAssembly", "Worker", "DecompressionStream"].find((name) => !(name in window));
    if (lacking) throw new Error(`This browser has no ${lacking}, which the demo needs. ${ELSEWHERE}`);
    const source = `(${cascadeWorker})(${cascadeRestoration}, ${cascadeDegradation}())`;
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data: { id, result, error, done, total } }) => {
      const asked = waiting.get(id);
      if (done) return asked?.tell?.(done, total);
      waiting.delete(id);
      return result ? asked?.done(result) : asked?.fail(new Error(error));
    };
    worker.onerror = ({ message }) => waiting.forEach(({ fail }) => fail(new Error(message || "out of memory")));
    try {
      const { parts, files } = window.cascadeDemo;
      return await ask("load", { parts, files });
    } catch (error) {
      throw ended(error);
    }
  }

  /* After a failure nothing in the worker can be trusted: the next task gets a new one. Returns what to say. */
  function ended({ message }) {
    worker?.terminate();
    worker = null;
    waiting.clear();
    const memory = /memory|alloc|abort|RangeError/i.test(message);
    const device = APPLE ? "This iPhone or iPad, as many do," : "This device";
    const why = memory ? `${device} gave the networks too little memory` : `The networks stopped (${message})`;
    return new Error(`${why}: close other pages, and try again. ${ELSEWHERE}`);
  }

  /* The result of a task; nothing, if the photo, the damage or the mask was changed while it ran. */
  async function made(task, given) {
    const before = turn;
    canvas.setAttribute("aria-busy", true);
    try {
      if (!worker) await begin();
      const result = await ask(task, given, (done, total) => before === turn && show(done, total));
      return before === turn ? result : null;
    } catch (error) {
      if (/superseded/.test(error.message)) return null;
      throw worker ? ended(error) : error;
    } finally {
      if (before === turn) canvas.setAttribute("aria-busy", false);
    }
  }

  /* What an action throws is said. */
  const guarded = (action) => async (...given) => {
    try {
      await action(...given);
    } catch (error) {
      show(1, 1);
      say(error.message);
    }
  };

  // ---- photos ----

  async function open(blob, name) {
    const small = (what, most) => new Error(`${name} has ${what}, and ${most} are the most here: make a smaller copy.`);
    if (blob.size > MOST.bytes) throw small(`${Math.round(blob.size / 1e6)} MB`, MOST.bytes / 1e6);
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    try {
      await new Promise((done, fail) => Object.assign(image, { onload: done, onerror: fail })); // of it, the header
      const { naturalWidth: width, naturalHeight: height } = image;
      if (width * height > MOST.pixels) {
        throw small(`${Math.round((width * height) / 1e6)} megapixels`, MOST.pixels / 1e6);
      }
      if (Math.min(width, height) < 16) throw new Error(`${name} is too small: 16 pixels a side are the least.`);
      await image.decode();
      const scale = Math.min(1, LONGEST / Math.max(width, height));
      const size = { width: Math.max(16, Math.round(scale * width)), height: Math.max(16, Math.round(scale * height)) };
      const paper = Object.assign(document.createElement("canvas"), size).getContext("2d");
      Object.assign(paper, { fillStyle: "#fff", imageSmoothingQuality: "high" });
      paper.fillRect(0, 0, size.width, size.height);
      paper.drawImage(image, 0, 0, size.width, size.height); // upright: the browser turns it as its EXIF data say
      return paper.getImageData(0, 0, size.width, size.height);
    } catch (error) {
      if (error instanceof Event || error instanceof DOMException) {
        throw new Error(`${name} is not a photo that this browser can read.`);
      }
      throw error;
    } finally {
      URL.revokeObjectURL(image.src);
    }
  }

  async function take(blob, name) {
    const { width, height, data } = await open(blob, name);
    pictures = { truth: { width, height, data }, input: { width, height, data } };
    Object.assign(canvas, { width, height });
    mask = new Uint8Array(width * height);
    undo = [];
    cursor = null;
    await degrade();
  }

  const damage = () => {
    const [motion, blur, sigma, seed] = DAMAGE.map((name) => Number(is(name).value) || 0);
    return { photo: pictures.truth, motion, blur, sigma, seed };
  };

  async function degrade() {
    changed();
    Object.assign(pictures, await made("degrade", damage()));
    draw();
  }

  // ---- the mask ----

  /* Whatever was made of the photo before is of another input. */
  function changed(text = "") {
    turn++;
    canvas.setAttribute("aria-busy", false);
    show(1, 1);
    for (const name of ["laplace", "generator", "cascade"]) delete pictures[name];
    say(text);
    choose("input");
  }

  const keep = () => (undo = [...undo, mask.slice()].slice(-UNDO));
  const area = () => `${((100 * mask.reduce((sum, m) => sum + m, 0)) / mask.length).toFixed(1)} % is painted over.`;

  function stroke(from, to, radius = Number(is("brush").value) / 2) {
    const { width, height } = canvas, length = Math.hypot(to.x - from.x, to.y - from.y);
    const steps = Math.max(1, Math.ceil((2 * length) / radius));
    for (let step = 0; step <= steps; step++) {
      const [x, y] = ["x", "y"].map((axis) => from[axis] + ((to[axis] - from[axis]) * step) / steps);
      for (let v = Math.max(0, Math.ceil(y - radius)); v <= Math.min(height - 1, y + radius); v++) {
        for (let u = Math.max(0, Math.ceil(x - radius)); u <= Math.min(width - 1, x + radius); u++) {
          if (Math.hypot(u - x, v - y) <= radius) mask[v * width + u] = 1;
        }
      }
    }
  }

  const place = ({ offsetX, offsetY }) => ({
    x: (offsetX * canvas.width) / canvas.clientWidth,
    y: (offsetY * canvas.height) / canvas.clientHeight,
  });

  canvas.onpointerdown = (event) => {
    if (event.button) return;
    keep();
    changed();
    canvas.setPointerCapture(event.pointerId);
    cursor = place(event);
    stroke(cursor, cursor);
  };
  canvas.onpointermove = (event) => {
    const before = cursor;
    cursor = place(event);
    if (canvas.hasPointerCapture(event.pointerId)) stroke(before, cursor);
    draw();
  };
  canvas.onpointerup = () => say(area());
  canvas.onpointerleave = canvas.onblur = () => {
    cursor = null;
    draw();
  };
  canvas.onkeydown = (event) => {
    const step = event.shiftKey ? 1 : Number(is("brush").value) / 2, { width, height } = canvas;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const move = moves[event.key], { x, y } = cursor ?? { x: width / 2, y: height / 2 };
    if (move) {
      cursor = { x: Math.min(Math.max(x + move[0], 0), width), y: Math.min(Math.max(y + move[1], 0), height) };
    } else if (event.key === " ") {
      cursor = { x, y };
      keep();
      stroke(cursor, cursor);
      changed(area());
    } else if (event.key.toLowerCase() === "z") {
      is("undo").click();
    } else return;
    event.preventDefault();
    draw();
  };

  is("undo").onclick = () => {
    mask = undo.pop() ?? mask;
    changed(area());
  };
  is("clear").onclick = () => {
    keep();
    mask = new Uint8Array(mask.length);
    changed(area());
  };
  is("square").onclick = () => { // the paper's: its share of the shorter side
    const { width, height } = canvas, side = Math.round((Math.min(width, height) * about.hole) / about.size);
    const within = (at, length) => at >= (length - side) >> 1 && at < ((length - side) >> 1) + side;
    keep();
    mask = mask.map((_, i) => Number(within(i % width, width) && within(Math.floor(i / width), height)));
    changed(area());
  };

  // ---- restoring ----

  is("restore").onclick = guarded(async () => {
    const given = damage(), deblur = given.motion + given.blur + given.sigma > 0, start = performance.now();
    if (!deblur && !mask.some(Boolean)) throw new Error("Paint over something first, or add blur or noise.");
    if (mask.every(Boolean)) throw new Error("The whole photo is painted over: leave some of it.");
    changed("Restoring …");
    show(0, 1);
    const result = await made("restore", { ...given, mask, deblur });
    if (!result) return;
    show(1, 1);
    Object.assign(pictures, result);
    choose("cascade");
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    say(`Restored in ${seconds} s on this device. Below, the PSNR ${mask.some(Boolean) ? "in the hole" : "of each"}.`);
  });

  is("save").onclick = () => {
    const { width, height, data } = pictures.cascade;
    const paper = Object.assign(document.createElement("canvas"), { width, height });
    paper.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
    paper.toBlob((blob) => {
      const href = URL.createObjectURL(blob);
      Object.assign(document.createElement("a"), { href, download: "restored.png" }).click();
      setTimeout(() => URL.revokeObjectURL(href), 10000);
    });
  };

  // ---- views ----

  /* The PSNR in the hole, or of the whole photo where there is none. */
  function decibels({ data }) {
    const some = mask.some(Boolean), truth = pictures.truth.data;
    let sum = 0, count = 0;
    for (let i = 0; i < data.length; i++) {
      if (i % 4 === 3 || (some && !mask[i >> 2])) continue;
      sum += (data[i] - truth[i]) ** 2;
      count++;
    }
    return sum ? `${(10 * Math.log10((255 ** 2 * count) / sum)).toFixed(1)} dB` : "";
  }

  function choose(name, beside = "") {
    other.value = beside;
    for (const view of views) {
      const scored = pictures[view.value] && !["input", "truth"].includes(view.value);
      view.checked = view.value === name;
      view.disabled = other.querySelector(`[value=${view.value}]`).disabled = !pictures[view.value];
      view.parentNode.querySelector("output").textContent = scored ? decibels(pictures[view.value]) : "";
    }
    is("save").disabled = !pictures.cascade;
    draw();
  }

  /* A view as the canvas takes it; the hole of the input is checkered. */
  function picture(name) {
    const { width, height, data } = pictures[name], shown = new ImageData(data.slice(), width, height);
    mask.forEach((m, i) => {
      if (m && name === "input") shown.data.fill((Math.floor(i / width) ^ i % width) & 8 ? 105 : 150, 4 * i, 4 * i + 3);
    });
    return shown;
  }

  let asked = false;
  function draw() {
    curtain.hidden = !other.value; // at once, for whoever presses a key before the next frame
    if (!asked) requestAnimationFrame(drawNow);
    asked = true;
  }

  function drawNow() {
    asked = false;
    const left = views.find((view) => view.checked).value, right = other.value, { width, height } = canvas;
    context.putImageData(picture(left), 0, 0);
    if (right) {
      const x = Math.round((width * curtain.value) / 100);
      context.putImageData(picture(right), 0, 0, x, 0, width - x, height);
      context.fillStyle = "#fff";
      context.fillRect(x - 1, 0, 2, height);
      const [one, two] = [left, right].map((name) => other.querySelector(`[value=${name}]`).textContent);
      curtain.setAttribute("aria-valuetext", `${curtain.value} % ${one}, the rest ${two}`);
    } else if (cursor && left === "input") {
      for (const [lineWidth, strokeStyle] of [[3, "#000"], [1.5, "#fff"]]) {
        Object.assign(context, { lineWidth, strokeStyle });
        context.beginPath();
        context.arc(cursor.x, cursor.y, Number(is("brush").value) / 2, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }

  views.forEach((view) => (view.onchange = () => choose(view.value, other.value)));
  other.onchange = curtain.oninput = draw;

  // ---- all of it ----

  for (const [name, unit] of [["brush", " px"], ["motion", " px"], ["blur", " px"], ["sigma", ""]]) {
    const tell = () => (is(name).parentNode.querySelector("output").textContent = is(name).value + unit);
    is(name).addEventListener("input", tell);
    tell();
  }
  for (const name of DAMAGE) is(name).addEventListener("input", guarded(degrade));

  is("scaled").textContent = `(its longer side is scaled to ${LONGEST} px at most)`;
  const loaded = await begin(), own = is("file");
  const photos = loaded.examples.map(({ bytes }) => new Blob([bytes], { type: "image/jpeg" }));
  about = loaded.about;
  const names = [...loaded.examples.map((example) => example.about), "your own"];
  is("example").replaceChildren(...names.map((name, i) => new Option(name, photos[i] ? i : "")));
  is("example").onchange = guarded(async ({ target: { value } }) => {
    await (value ? take(photos[value], "The example") : own.click());
  });
  const bring = guarded(async (file) => {
    if (!file) return;
    await take(file, file.name);
    is("example").value = "";
  });
  own.onchange = () => bring(own.files[0]);
  root.ondragover = (event) => (event.preventDefault(), root.classList.add("over"));
  root.ondragleave = () => root.classList.remove("over");
  root.ondrop = (event) => {
    event.preventDefault();
    root.classList.remove("over");
    bring(event.dataTransfer.files[0]);
  };

  await take(photos[0], "The example");
  const wave = (x) => ({ x, y: canvas.height * (0.66 + 0.08 * Math.sin(x / 40)) });
  for (let x = 0.35 * canvas.width; x < 0.65 * canvas.width; x += 8) stroke(wave(x), wave(x + 8), 6);
  changed("Press Restore, or paint over more of the photo.");
  find(".start").hidden = true;
  root.querySelectorAll(".work").forEach((part) => (part.hidden = false));
  root.cascadeDemo = { made, open }; // for whoever wants to drive it, such as a test
};
