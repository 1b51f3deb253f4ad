/* The worker, so that the page never freezes: it unpacks ONNX Runtime Web and the networks and restores photos, one
   task after the other. Its text, with those of restore.js and degrade.js, is made into an address of its own, since a
   page that was opened as a file may start no worker from another. */
function cascadeWorker(restoration, degrade) {
  "use strict";
  // Pages of 64 kB that the networks may ask for: 512 MB. ONNX Runtime's own limit, 4 GiB, is refused by phones.
  const MEMORY = 8192;
  let restored, latest = 0, queue = Promise.resolve();

  function bytes(text) {
    const letters = atob(text), out = new Uint8Array(letters.length);
    for (let i = 0; i < out.length; i++) out[i] = letters.charCodeAt(i);
    return out;
  }

  async function unpack({ parts, files }) {
    const stream = new DecompressionStream("gzip"), writer = stream.writable.getWriter(), unpacked = {};
    parts.forEach((part) => writer.write(bytes(part))); // not by a Blob's stream, which WebKit refuses to a file
    writer.close();
    const all = await new Response(stream.readable).arrayBuffer();
    let start = 0;
    for (const [name, length] of files) unpacked[name] = all.slice(start, (start += length));
    return unpacked;
  }

  async function load(given) {
    const files = await unpack(given), text = (name) => new TextDecoder().decode(files[name]);
    const about = JSON.parse(text("about.json"));
    WebAssembly.Memory = class extends WebAssembly.Memory {
      constructor(asked) {
        super({ ...asked, maximum: Math.min(asked.maximum, MEMORY) });
      }
    };
    // Not by addresses of blobs, which WebKit refuses to the worker of a page that was opened as a file.
    const ort = new Function(`${text("ort.wasm.min.js")}\nreturn ort;`)();
    const wasmPaths = { mjs: `data:text/javascript,${encodeURIComponent(text("ort-wasm-simd-threaded.mjs"))}` };
    const wasmBinary = files["ort-wasm-simd-threaded.wasm"];
    Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary, wasmPaths });

    const networks = {};
    for (const name of about.networks) {
      networks[name] = await ort.InferenceSession.create(new Uint8Array(files[`${name}.onnx`]));
    }
    restored = restoration(about, async (name, channels, height, width, values) => {
      const images = new ort.Tensor("float32", values, [1, channels, height, width]);
      const made = await networks[name].run({ images });
      return made[networks[name].outputNames[0]].getData();
    });
    return { about, examples: about.examples.map((example) => ({ ...example, bytes: files[example.file] })) };
  }

  async function restore(given, tell) {
    const input = degrade(given);
    return { input, ...(await restored({ ...given, photo: input }, tell)) };
  }

  const tasks = { load, restore, degrade: async (given) => ({ input: degrade(given) }) };

  /* A task that a newer one has made needless ends before it begins, or after a window or tile. */
  self.onmessage = ({ data: { id, task, ...given } }) => {
    latest = id;
    const breathe = async () => {
      await new Promise((go) => setTimeout(go));
      if (id !== latest) throw new Error("superseded");
    };
    const tell = (done, total) => (self.postMessage({ id, done, total }), breathe());
    queue = queue
      .then(breathe)
      .then(() => tasks[task](given, tell))
      .then((result) => self.postMessage({ id, result }), (error) => self.postMessage({ id, error: String(error) }));
  };
}
