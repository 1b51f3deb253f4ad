/* What cascade_core.degradations does to a photo, in the page: motion blur, Gaussian blur and noise. A picture is
   {width, height, data} with four bytes for each pixel. One function, because a worker is made from its text. */
function cascadeDegradation() {
  "use strict";
  const STEPS = 256; // on a camera's path
  const range = (count) => Array.from({ length: count }, (_, i) => i);

  /* Normal numbers, the same for the same seed: mulberry32, and the transform of Box and Muller. */
  function normals(state) {
    const uniform = () => {
      let t = (state = (state + 0x6d2b79f5) | 0);
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  /* The path of motion_kernels over `length` px: the velocity is a constant and a random walk, the mean is zero. */
  function path(length, normal) {
    const term = (t, k) => (k ? (Math.SQRT2 * Math.sin(Math.PI * k * t)) / (Math.PI * k * k) : t);
    const [x, y] = range(2).map(() => {
      const draw = range(8).map(normal);
      const line = range(STEPS).map((i) => draw.reduce((sum, v, k) => sum + v * term((i + 0.5) / STEPS, k), 0));
      const mean = line.reduce((a, b) => a + b) / STEPS;
      return line.map((v) => v - mean);
    });
    const scale = length / 2 / Math.max(...x.map((v, i) => Math.hypot(v, y[i])));
    return x.map((v, i) => [scale * v, scale * y[i]]);
  }

  /* A kernel as a list of [x, y, weight]: each point of a path is shared among the four pixels around it. */
  function motionKernel(length, normal) {
    const kernel = new Map();
    for (const [x, y] of path(length, normal)) {
      for (const k of range(4)) {
        const u = Math.floor(x) + (k & 1), v = Math.floor(y) + (k >> 1), before = kernel.get(`${u} ${v}`)?.[2] ?? 0;
        kernel.set(`${u} ${v}`, [u, v, before + ((1 - Math.abs(x - u)) * (1 - Math.abs(y - v))) / STEPS]);
      }
    }
    return [...kernel.values()];
  }

  function gaussianKernel(std) {
    const reach = Math.ceil(3 * std);
    const weights = range(2 * reach + 1).map((i) => Math.exp(-0.5 * ((i - reach) / std) ** 2));
    const sum = weights.reduce((a, b) => a + b);
    return weights.map((weight, i) => [i - reach, 0, weight / sum]);
  }

  /* Beyond its border the picture is mirrored, and the border is not repeated. */
  function blurred({ width, height, data }, kernel) {
    const out = new Float32Array(data.length), mirror = (at, size) => Math.abs(at < size ? at : 2 * size - 2 - at);
    for (const [u, v, weight] of kernel) {
      const columns = range(width).map((x) => 4 * mirror(x + u, width));
      for (let y = 0; y < height; y++) {
        const to = 4 * y * width, from = 4 * mirror(y + v, height) * width;
        for (let x = 0; x < width; x++) {
          for (let c = 0; c < 4; c++) out[to + 4 * x + c] += weight * data[from + columns[x] + c];
        }
      }
    }
    return { width, height, data: out };
  }

  /* A motion over `motion` px, a Gaussian blur of `blur` px, then noise of `sigma` gray levels, all of one seed. */
  return function degrade({ photo, motion, blur, sigma, seed }) {
    let picture = photo;
    if (motion) picture = blurred(picture, motionKernel(motion, normals(~seed)));
    if (blur) {
      const row = gaussianKernel(blur), column = row.map(([u, v, weight]) => [v, u, weight]);
      picture = blurred(blurred(picture, row), column);
    }
    const { width, height } = photo, data = new Uint8ClampedArray(picture.data), normal = normals(seed);
    for (let i = 0; sigma && i < data.length; i++) if (i % 4 < 3) data[i] = picture.data[i] + sigma * normal();
    return { width, height, data };
  };
}
