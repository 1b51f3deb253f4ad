/* What cascade_lab.restoration does to a photo, in the page: windows around the holes, the fill, the networks,
   compositing, tiles. The functions have the names of the Python code, which gives the reasons; a test restores the
   same photo in both and compares the pixels.

   The whole is one function, because a worker is made from its text. Nothing in it knows the networks: `about` tells
   what they were trained on and how far they see, and `run(name, channels, height, width, values)` runs one of them.
   Inside, a picture is three planes {width, height, data}. */
function cascadeRestoration(about, run) {
  "use strict";
  const TILE = 256; // px, side of what is deblurred at a time

  const plane = (width, height, data = new Uint8ClampedArray(width * height)) => ({ width, height, data });
  const made = (length, value, Kind = Uint8ClampedArray) => {
    const out = new Kind(length);
    for (let i = 0; i < length; i++) out[i] = value(i);
    return out;
  };
  const copy = (p) => plane(p.width, p.height, p.data.slice());
  const rounded = (p) => plane(p.width, p.height, made(p.data.length, (i) => p.data[i])); // to bytes
  const range = (count) => Array.from({ length: count }, (_, i) => i);
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);
  const half = (x) => Math.floor(x / 2);
  const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // halves to even, as Python

  // ---- resizing, as Pillow does it ----

  const bicubic = [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2)];
  const bilinear = [1, (x) => 1 - x];

  /* For each of `count` pixels, from `low` to `high` of a line of `length`: the first that it reads, and weights. */
  function taps(low, high, count, length, [reach, kernel]) {
    const scale = (high - low) / count, wide = Math.max(scale, 1);
    return range(count).map((i) => {
      const center = low + (i + 0.5) * scale;
      const first = Math.max(0, Math.trunc(center - reach * wide + 0.5));
      const end = Math.min(length, Math.trunc(center + reach * wide + 0.5));
      const weights = range(end - first).map((k) => {
        const x = Math.abs(first + k - center + 0.5) / wide;
        return x < reach ? kernel(x) : 0;
      });
      const sum = weights.reduce((a, b) => a + b, 0);
      return { first, weights: weights.map((weight) => weight / sum) };
    });
  }

  function mix(data, start, step, { first, weights }) {
    let sum = 0;
    for (let k = 0; k < weights.length; k++) sum += weights[k] * data[start + (first + k) * step];
    return sum;
  }

  function filtered({ width, height, data }, columns, rows) {
    const between = plane(columns.length, height), out = plane(columns.length, rows.length);
    for (let y = 0; y < height; y++) {
      columns.forEach((tap, x) => (between.data[y * between.width + x] = mix(data, y * width, 1, tap)));
    }
    rows.forEach((tap, y) => {
      for (let x = 0; x < out.width; x++) out.data[y * out.width + x] = mix(between.data, x, out.width, tap);
    });
    return out;
  }

  function resize(p, [left, top, right, bottom], width, height, kernel) {
    return filtered(p, taps(left, right, width, p.width, kernel), taps(top, bottom, height, p.height, kernel));
  }

  /* Means over blocks of factor x factor, as floats; the blocks at the lower and right border may be smaller. */
  function shrink({ width, height, data }, factor) {
    const w = Math.ceil(width / factor), h = Math.ceil(height / factor);
    const sums = new Float64Array(w * h), counts = new Float64Array(w * h);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const to = Math.floor(y / factor) * w + Math.floor(x / factor);
        sums[to] += data[y * width + x];
        counts[to]++;
      }
    }
    return plane(w, h, sums.map((sum, i) => sum / counts[i]));
  }

  // ---- fills ----

  /* The exact solution of the Laplace equation where pixels are missing, by conjugate gradients from what stands there.
     A pixel at the border has only the neighbors that exist: the others are one place after the last, which stays 0. */
  function laplace(photo, missing) {
    const { width, height } = photo[0], size = width * height, cells = [];
    missing.forEach((m, i) => m && cells.push(i));
    const near = new Uint32Array(4 * cells.length).fill(size), degree = new Uint8Array(cells.length);
    cells.forEach((cell, i) => {
      const x = cell % width, inside = [x > 0, x < width - 1, cell >= width, cell < size - width];
      [cell - 1, cell + 1, cell - width, cell + width].forEach((neighbor, k) => {
        if (inside[k]) near[4 * i + k] = neighbor, degree[i]++;
      });
    });
    return photo.map((p) => plane(width, height, solve(Float64Array.from(p.data), cells, near, degree)));
  }

  function solve(out, cells, near, degree) {
    const grid = new Float64Array(out.length + 1);
    const around = (i) => grid[near[4 * i]] + grid[near[4 * i + 1]] + grid[near[4 * i + 2]] + grid[near[4 * i + 3]];
    grid.set(out);
    const r = made(cells.length, (i) => around(i) - degree[i] * grid[cells[i]], Float64Array);
    const p = r.slice(), q = new Float64Array(r.length);
    grid.fill(0);
    let left = r.reduce((sum, v) => sum + v * v, 0);
    for (let turn = 0; turn < 3000 && left > 1e-10 * r.length; turn++) {
      let curve = 0, next = 0;
      for (let i = 0; i < p.length; i++) grid[cells[i]] = p[i];
      for (let i = 0; i < p.length; i++) curve += p[i] * (q[i] = degree[i] * p[i] - around(i));
      for (let i = 0; i < p.length; i++) {
        out[cells[i]] += (left / curve) * p[i];
        r[i] -= (left / curve) * q[i];
        next += r[i] * r[i];
      }
      for (let i = 0; i < p.length; i++) p[i] = r[i] + (next / left) * p[i];
      left = next;
    }
    return out;
  }

  /* A smooth surface over the holes, for the windows that see more of the mask than they fill. */
  function smoothFill(photo, holes) {
    const { width, height } = holes, factor = Math.max(1, Math.ceil(Math.max(width, height) / 256));
    const missing = shrink(holes, factor), box = [0, 0, width / factor, height / factor];
    const known = photo.map(({ data }) => {
      const black = plane(width, height, made(data.length, (i) => (holes.data[i] ? 0 : data[i])));
      const small = shrink(black, factor), share = (i) => 1 - missing.data[i];
      return { ...small, data: small.data.map((sum, i) => (share(i) > 0 ? sum / share(i) : 0)) };
    });
    const filled = laplace(known, missing.data.map((share) => share === 1)).map(rounded);
    filled.forEach((small, c) => {
      const { data } = photo[c], surface = resize(small, box, width, height, bilinear);
      for (let i = 0; i < data.length; i++) if (holes.data[i]) data[i] = surface.data[i];
    });
  }

  // ---- windows ----

  /* How far each missing pixel is from the nearest known one; beyond the photo all counts as known. */
  function distances({ width, height, data }) {
    const down = new Float64Array(data.length), out = new Float64Array(data.length);
    for (let i = 0; i < data.length; i++) down[i] = data[i] && (i < width ? 1 : down[i - width] + 1);
    for (let i = data.length - 1; i >= 0; i--) {
      down[i] = Math.min(down[i], i < data.length - width ? down[i + width] + 1 : 1);
    }
    for (let i = 0; i < data.length; i++) {
      const x = i % width;
      let best = down[i] ** 2;
      for (let k = 1; k * k < best; k++) {
        const left = x < k ? 0 : down[i - k], right = x + k < width ? down[i + k] : 0;
        best = Math.min(best, k * k + Math.min(left, right) ** 2);
      }
      out[i] = Math.sqrt(best);
    }
    return out;
  }

  /* The connected parts of a mask: the rectangle around each, and how wide it is at its widest. */
  function parts(holes) {
    const { width, height, data } = holes, depth = distances(holes), seen = new Uint8Array(data.length), found = [];
    for (let start = 0; start < data.length; start++) {
      if (!data[start] || seen[start]) continue;
      const part = { top: height, bottom: 0, left: width, right: 0, width: 0 }, stack = [start];
      seen[start] = 1;
      while (stack.length) {
        const at = stack.pop(), x = at % width, y = Math.floor(at / width);
        part.top = Math.min(part.top, y), part.bottom = Math.max(part.bottom, y + 1);
        part.left = Math.min(part.left, x), part.right = Math.max(part.right, x + 1);
        part.width = Math.max(part.width, 2 * depth[at] - 1);
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
            if (data[v * width + u] && !seen[v * width + u]) seen[v * width + u] = 1, stack.push(v * width + u);
          }
        }
      }
      found.push({ ...part, longest: Math.max(part.bottom - part.top, part.right - part.left) });
    }
    return found;
  }

  /* Parts that fit into one square together are one part. */
  function shared(found, hole) {
    const together = found.map((part) => (part.longest > hole ? part : null));
    let rest = range(found.length).filter((i) => !together[i]).sort((a, b) => found[a].top - found[b].top);
    while (rest.length) {
      const low = found[rest[0]].top + hole, inBand = (i) => found[i].bottom <= low;
      let band = rest.filter(inBand).sort((a, b) => found[a].left - found[b].left);
      rest = rest.filter((i) => !inBand(i));
      while (band.length) {
        const far = found[band[0]].left + hole, fits = (i) => found[i].right <= far, one = band.filter(fits);
        band = band.filter((i) => !fits(i));
        const least = (name) => Math.min(...one.map((i) => found[i][name]));
        const most = (name) => Math.max(...one.map((i) => found[i][name]));
        const part = { top: least("top"), bottom: most("bottom"), left: least("left"), right: most("right") };
        const longest = Math.max(part.bottom - part.top, part.right - part.left), first = Math.min(...one);
        together[first] = { ...part, longest, width: found[first].width };
      }
    }
    return together.filter(Boolean);
  }

  function centers(low, high, square) {
    if (high - low <= square) return [half(low + high)];
    const count = Math.ceil((high - low - square) / half(square)) + 1;
    const first = low + half(square), last = high - square + half(square);
    return range(count).map((i) => round(first + ((last - first) * i) / (count - 1)));
  }

  /* Windows whose square holes cover the mask; dust shares larger ones where the generator sees the mask. */
  function cover(holes, { size, hole, fill, reach }) {
    const windows = [], found = parts(holes), wide = size - 2 * reach, small = (part) => 4 * part.longest <= hole;
    let groups = shared(found, hole), dust = [];
    if (fill === "laplace and mask") {
      const rest = shared(found.filter((part) => !small(part)), hole), fewer = shared(found.filter(small), wide);
      if (rest.length + fewer.length < groups.length) [groups, dust] = [rest, fewer];
    }
    for (const part of groups) {
      const compact = part.longest <= Math.max(hole, 2 * part.width);
      const square = Math.max(hole, compact ? part.longest : round(1.25 * part.width));
      const side = round((size * square) / hole), margin = half(side - square);
      for (const y of centers(part.top, part.bottom, square)) {
        for (const x of centers(part.left, part.right, square)) {
          const window = { top: y - half(square) - margin, left: x - half(square) - margin, side, hole: square };
          Object.assign(window, { y: window.top + margin, x: window.left + margin }); // the corner of its hole
          if (pixels(window, holes).some((i) => holes.data[i])) windows.push(window);
        }
      }
    }
    for (const part of dust) {
      const y = half(part.top + part.bottom) - half(size), x = half(part.left + part.right) - half(size);
      windows.push({ top: y, left: x, side: size, hole: wide, y: y + reach, x: x + reach });
    }
    return windows;
  }

  function holeOf(window, { width, height }) {
    return [clip(window.x, 0, width), clip(window.y, 0, height), clip(window.x + window.hole, 0, width),
      clip(window.y + window.hole, 0, height)];
  }

  function pixels(window, photo) {
    const [left, top, right, bottom] = holeOf(window, photo);
    return range((right - left) * (bottom - top)).map((i) => {
      return (top + Math.floor(i / (right - left))) * photo.width + left + (i % (right - left));
    });
  }

  /* A window of a plane as (size, size); beyond the border its last pixels go on. */
  function cut({ width, height, data }, { top, left, side }, size) {
    const part = plane(side, side), step = Math.max(1, Math.floor(side / (2 * size)));
    for (let i = 0; i < side * side; i++) {
      const y = clip(top + Math.floor(i / side), 0, height - 1), x = clip(left + (i % side), 0, width - 1);
      part.data[i] = data[y * width + x];
    }
    return resize(rounded(shrink(part, step)), [0, 0, side / step, side / step], size, size, bicubic);
  }

  const tent = (window, corner, at) => {
    return Math.max(0, 1 - Math.abs(at - corner - (window.hole - 1) / 2) / (window.hole / 2));
  };
  const weight = (window, y, x) => tent(window, window.y, y) * tent(window, window.x, x);

  /* Paint a window's hole where the mask is: over earlier windows, as the mean by their weights. */
  function paint(image, photo, window, before, holes) {
    const [left, top, right, bottom] = holeOf(window, holes), size = image[0].width, scale = size / window.side;
    const box = [left - window.left, top - window.top, right - window.left, bottom - window.top].map((v) => scale * v);
    const enlarged = image.map((p) => resize(p, box, right - left, bottom - top, bicubic));
    pixels(window, holes).forEach((at, i) => {
      if (!holes.data[at]) return;
      const y = Math.floor(at / holes.width), x = at % holes.width, own = weight(window, y, x);
      const share = own / before.reduce((sum, other) => sum + weight(other, y, x), own);
      photo.forEach((p, c) => (p.data[at] += share * (enlarged[c].data[i] - p.data[at])));
    });
  }

  // ---- the networks ----

  async function through(network, planes) {
    const { width, height } = planes[0], size = width * height, values = new Float32Array(planes.length * size);
    planes.forEach((p, c) => values.set(p.data, c * size));
    const out = await run(network, planes.length, height, width, values);
    if (!out.every(Number.isFinite)) throw new Error("a network has computed what is not a number");
    return range(3).map((c) => plane(width, height, out.subarray(c * size, (c + 1) * size)));
  }

  const scaled = (planes, factor, Kind) => planes.map(({ width, height, data }) => {
    return plane(width, height, made(data.length, (i) => factor * data[i], Kind));
  });
  const toBytes = (planes) => scaled(planes, 255, Uint8ClampedArray);
  const toFloats = (planes) => scaled(planes, 1 / 255, Float32Array);

  /* What the networks make of one window: the generator's image and the final one. */
  async function look(photo, holes, window) {
    const { size, hole, fill } = about, low = half(size - hole);
    const inside = (i) => i >= low && i < low + hole;
    let missing = made(size * size, (i) => inside(i % size) && inside(Math.floor(i / size)));
    if (fill === "laplace and mask") { // it is not blind: nothing is hidden that is known
      const seen = cut({ ...holes, data: holes.data.map((v) => 255 * v) }, window, size).data.map((v) => v > 0);
      if (!seen.every(Boolean)) missing = seen;
    }
    let given = toFloats(photo.map((p) => cut(p, window, size)));
    given.forEach((p, c) => missing.forEach((m, i) => m && (p.data[i] = about.hole_color[c])));
    if (fill !== "color") given = laplace(given, missing);
    if (fill === "laplace and mask") given.push(plane(size, size, missing));
    const inpainted = await through("generator", given);
    const both = about.networks.includes("deblur_denoise");
    return [inpainted, both ? await through("deblur_denoise", inpainted) : inpainted].map(toBytes);
  }

  /* Blur and noise taken off the known pixels, in tiles that overlap by what the network sees around a pixel. */
  async function deblurred(photo, holes, next) {
    const { width, height } = holes, whole = photo.map(copy), { reach } = about;
    for (let top = 0; top < height; top += TILE) {
      for (let left = 0; left < width; left += TILE) {
        const y = Math.max(0, top - reach), x = Math.max(0, left - reach);
        const h = Math.min(height, top + TILE + reach) - y, w = Math.min(width, left + TILE + reach) - x;
        const at = (i) => (y + Math.floor(i / w)) * width + x + (i % w);
        const part = whole.map((p) => plane(w, h, made(w * h, (i) => p.data[at(i)])));
        const clean = toBytes(await through("deblur_denoise", toFloats(part)));
        for (let v = top; v < Math.min(height, top + TILE); v++) {
          for (let u = left; u < Math.min(width, left + TILE); u++) {
            if (holes.data[v * width + u]) continue;
            photo.forEach((p, c) => (p.data[v * width + u] = clean[c].data[(v - y) * w + u - x]));
          }
        }
        await next();
      }
    }
  }

  // ---- what the page asks for ----

  const toPlanes = ({ width, height, data }) => {
    return range(3).map((c) => plane(width, height, made(width * height, (i) => data[4 * i + c])));
  };
  const toPicture = (planes) => {
    const { width, height } = planes[0], value = (i) => (i % 4 < 3 ? planes[i % 4].data[i >> 2] : 255);
    return plane(width, height, made(4 * width * height, value));
  };

  /* Fill what the mask marks, and, if asked, remove blur and noise from the rest. `tell(done, total)` is called after
     each window and tile, and what it gives is waited for. */
  async function restore({ photo, mask, deblur }, tell) {
    const restored = toPlanes(photo), holes = plane(photo.width, photo.height, mask), inpainted = restored.map(copy);
    const windows = cover(holes, about);
    const tiles = deblur ? Math.ceil(photo.width / TILE) * Math.ceil(photo.height / TILE) : 0;
    let done = 0;
    const next = () => tell(++done, windows.length + tiles);
    smoothFill(restored, holes);
    const smooth = laplace(restored, mask);
    for (const [number, window] of windows.entries()) {
      const near = (a, b, axis) => Math.abs(2 * (a[axis] - b[axis]) + a.hole - b.hole) < a.hole + b.hole;
      const before = windows.slice(0, number).filter((w) => near(w, window, "y") && near(w, window, "x"));
      const images = await look(restored, holes, window);
      [inpainted, restored].forEach((target, i) => paint(images[i], target, window, before, holes));
      await next();
    }
    if (deblur) await deblurred(restored, holes, next);
    const [fill, generator, cascade] = [smooth, inpainted, restored].map(toPicture);
    return { laplace: fill, generator, cascade, windows: windows.length };
  }

  return restore;
}
