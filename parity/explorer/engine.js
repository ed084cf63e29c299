// The engine: parity/reference once more, for one image, in the browser's float64.
//
// It reads the canonical weights file (.safetensors) with the spec in its header, and computes what
// evaluation does: no gradients, no running numbers that move. NETWORKS and ROUTINGS have the names
// of parity/spec; what is not in them, parity/explorer/page.py refuses.
//
// An array is flat, its last axis the fastest; a feature map is {height, width, channels, data}.
// Axes: I input capsules, J output capsules, K size of an input pose, D of an output pose.
// A tap(name, array) sees every tensor by the name that it has in the wings.

"use strict";

// A number of bfloat16 is the upper half of a float32.
const DTYPES = {
  F64: (bytes) => new Float64Array(bytes),
  F32: (bytes) => new Float32Array(bytes),
  BF16: (bytes) => new Float32Array(Uint32Array.from(new Uint16Array(bytes), (half) => half << 16).buffer),
};

// Bytes of a weights file -> {spec, arrays: {name: {shape, data}}}.
function readWeights(buffer) {
  // Eight bytes for the header's length, the header as JSON, then each array's bytes.
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const arrays = {};
  const { __metadata__: metadata, ...rows } = header;
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(rows)) {
    arrays[name] = { shape, data: DTYPES[dtype](buffer.slice(8 + length + from, 8 + length + to)) };
  }
  return { spec: JSON.parse(metadata.twincaps).spec, arrays };
}

// A convolution without padding, its bias added: kernel [kh, kw, in, out].
function convolve(x, kernel, bias, stride, scale = 1) {
  const [rows, columns, inputs, channels] = kernel.shape;
  const y = smaller(x, rows, columns, stride, channels);
  for (let place = 0; place < y.height * y.width; place++) {
    const out = y.data.subarray(place * channels, (place + 1) * channels);
    for (let m = 0; m < rows; m++) {
      for (let n = 0; n < columns; n++) {
        const from = pixel(x, y, place, stride, m, n) * inputs;
        for (let c = 0; c < inputs; c++) {
          const value = x.data[from + c];
          if (value === 0) continue; // black paper and what relu cut off: more than half of them
          const weights = ((m * columns + n) * inputs + c) * channels;
          for (let o = 0; o < channels; o++) out[o] += value * kernel.data[weights + o];
        }
      }
    }
    for (let o = 0; o < channels; o++) out[o] = out[o] * scale + bias.data[o];
  }
  return y;
}

// A convolution of each channel by a filter of its own: kernel [kh, kw, channels].
function depthwise(x, kernel, bias, stride) {
  const [rows, columns, channels] = kernel.shape;
  const y = smaller(x, rows, columns, stride, channels);
  for (let at = 0; at < y.data.length; at++) {
    const c = at % channels;
    let sum = bias.data[c];
    for (let m = 0; m < rows; m++) {
      for (let n = 0; n < columns; n++) {
        const value = x.data[pixel(x, y, (at - c) / channels, stride, m, n) * channels + c];
        sum += value * kernel.data[(m * columns + n) * channels + c];
      }
    }
    y.data[at] = sum;
  }
  return y;
}

function smaller(x, rows, columns, stride, channels) {
  const height = Math.floor((x.height - rows) / stride) + 1;
  const width = Math.floor((x.width - columns) / stride) + 1;
  return { height, width, channels, data: new Float64Array(height * width * channels) };
}

// The pixel of x under (m, n) of a kernel that stands at a place of y.
function pixel(x, y, place, stride, m, n) {
  return (Math.floor(place / y.width) * stride + m) * x.width + (place % y.width) * stride + n;
}

// An image at twice its size: new pixels lie a quarter of a pixel from an old one.
function doubleSize(x) {
  const [height, width, channels] = [2 * x.height, 2 * x.width, x.channels];
  const y = { height, width, channels, data: new Float64Array(height * width * channels) };
  const near = (at, size) => [at >> 1, Math.min(Math.max((at >> 1) + (at % 2 ? 1 : -1), 0), size - 1)];
  for (let at = 0; at < y.data.length; at++) {
    const [c, place] = [at % channels, Math.floor(at / channels)];
    const [down, beyond] = near(Math.floor(place / width), x.height);
    const [across, next] = near(place % width, x.width);
    const value = (row, column) => x.data[(row * x.width + column) * channels + c];
    y.data[at] = 0.75 * (0.75 * value(down, across) + 0.25 * value(beyond, across))
      + 0.25 * (0.75 * value(down, next) + 0.25 * value(beyond, next));
  }
  return y;
}

// (x - mean) / sqrt(variance + epsilon) * scale + shift, by the running numbers of a batch norm, or
// by the image's own: of each channel (instance) or of all of them (layer).
function normalised({ channels, data }, { kind, epsilon }, owned) {
  const groups = kind === "layer" ? 1 : channels;
  let [mean, variance] = [owned("mean")?.data, owned("variance")?.data];
  if (kind !== "batch") {
    const share = groups / data.length;
    [mean, variance] = [new Float64Array(groups), new Float64Array(groups)];
    data.forEach((value, at) => { mean[at % groups] += value * share; });
    data.forEach((value, at) => { variance[at % groups] += (value - mean[at % groups]) ** 2 * share; });
  }
  const [scale, shift] = [owned("scale")?.data, owned("shift")?.data];
  return data.map((value, at) => {
    const y = (value - mean[at % groups]) / Math.sqrt(variance[at % groups] + epsilon);
    return y * (scale ? scale[at % channels] : 1) + (shift ? shift[at % channels] : 0);
  });
}

// The length of each vector of `size` numbers: a root of the sum of squares and epsilon.
function lengths(poses, size, epsilon = 0) {
  return Float64Array.from({ length: poses.length / size }, (_, n) => {
    let sum = epsilon;
    for (let d = n * size; d < (n + 1) * size; d++) sum += poses[d] * poses[d];
    return Math.sqrt(sum);
  });
}

// What a squash multiplies a vector of length n by.
const SQUASHES = {
  plain: (n) => n / (1 + n * n), // Sabour et al. 2017, Eq. 1
  exponential: (n) => (n === 0 ? 1 : -Math.expm1(-n) / n), // Efficient-CapsNet
};

function squash(vectors, size, kind) {
  const factors = lengths(vectors, size).map(SQUASHES[kind]);
  return vectors.map((value, at) => value * factors[Math.floor(at / size)]);
}

// Routing coefficients [I, J]: a softmax over J; leaky has one more logit, fixed at 0, left out.
function softmax(logits, J, leaky) {
  const out = new Float64Array(logits.length);
  for (let i = 0; i < logits.length; i += J) {
    const row = logits.subarray(i, i + J);
    const shift = Math.max(...row, ...(leaky ? [0] : []));
    const powers = row.map((logit) => Math.exp(logit - shift));
    const total = powers.reduce((sum, power) => sum + power, leaky ? Math.exp(-shift) : 0);
    out.set(powers.map((power) => power / total), i);
  }
  return out;
}

// Calls body(i, j, first), where the vote of i for j begins at `first` of the votes.
function eachVote({ I, J, D }, body) {
  for (let i = 0, first = 0; i < I; i++) for (let j = 0; j < J; j++, first += D) body(i, j, first);
}

// sum over I of coupling_IJ votes_IJD: [J, D].
function weigh(votes, coupling, sizes) {
  const sums = new Float64Array(sizes.J * sizes.D);
  eachVote(sizes, (i, j, first) => {
    const share = coupling[i * sizes.J + j];
    for (let d = 0; d < sizes.D; d++) sums[j * sizes.D + d] += share * votes[first + d];
  });
  return sums;
}

// <votes_IJ, poses_J> added to each logit [I, J].
function agree(logits, votes, poses, sizes) {
  const out = Float64Array.from(logits);
  eachVote(sizes, (i, j, first) => {
    for (let d = 0; d < sizes.D; d++) {
      out[i * sizes.J + j] += votes[first + d] * poses[j * sizes.D + d];
    }
  });
  return out;
}

const ROUTINGS = {
  // Procedure 1 of Sabour et al. 2017, with the bias and the leak of the authors' code.
  dynamic(votes, sizes, options, { bias }, tap) {
    let [logits, poses] = [new Float64Array(sizes.I * sizes.J), null];
    for (let t = 0; t < options.num_iters; t++) {
      if (t > 0) logits = agree(logits, votes, poses, sizes);
      tap(`routing.${t}.logits`, logits);
      const coupling = softmax(logits, sizes.J, options.leaky);
      tap(`routing.${t}.coupling`, coupling);
      const sums = weigh(votes, coupling, sizes);
      if (bias) sums.forEach((sum, at) => { sums[at] = sum + bias.data[at]; });
      tap(`routing.${t}.sum`, sums);
      poses = squash(sums, sizes.D, "plain");
      tap(`routing.${t}.poses`, poses);
    }
    return poses;
  },

  // Efficient-CapsNet: a vote's agreement with the sum of all votes; the prior is not in the softmax.
  self_attention(votes, sizes, options, { prior }, tap) {
    const all = weigh(votes, new Float64Array(sizes.I * sizes.J).fill(1), sizes);
    const scale = options.scale ?? Math.sqrt(sizes.D);
    const none = new Float64Array(sizes.I * sizes.J);
    const logits = agree(none, votes, all, sizes).map((logit) => logit / scale);
    tap("routing.0.logits", logits);
    const shares = softmax(logits, sizes.J, false);
    tap("routing.0.softmax", shares);
    const coupling = shares.map((share, at) => share + (prior ? prior.data[at] : 0));
    tap("routing.0.coupling", coupling);
    const sums = weigh(votes, coupling, sizes);
    tap("routing.0.sum", sums);
    const poses = squash(sums, sizes.D, "exponential");
    tap("routing.0.poses", poses);
    return poses;
  },
};

// Each network's way from an image to the map that its first capsules are cut from.
const NETWORKS = {
  sabour2017: {
    squash: "plain",
    primary({ spec, arrays }, x, tap) {
      spec.stem.forEach(({ stride }, n) => {
        x = convolve(x, arrays[`stem.${n}.kernel`], arrays[`stem.${n}.bias`], stride);
        x.data = x.data.map(leaky(0));
        tap(`stem.${n}`, x.data);
      });
      const { stride, scale } = spec.primary;
      return convolve(x, arrays["primary.kernel"], arrays["primary.bias"], stride, scale);
    },
  },

  efficient: {
    squash: "exponential",
    primary({ spec, arrays }, x, tap) {
      const { mean, deviation, own, joint } = spec.pixels;
      const of = (numbers, at) => numbers[at % x.channels % numbers.length];
      x.data = x.data.map((value, at) => (value - of(mean, at)) / of(deviation, at));
      const kind = joint ? "layer" : "instance";
      if (own) x.data = normalised(x, { ...spec.norm, kind }, () => undefined);
      tap("pixels", x.data);
      spec.stem.forEach(({ stride }, n) => {
        x = convolve(x, arrays[`stem.${n}.kernel`], arrays[`stem.${n}.bias`], stride);
        tap(`stem.${n}.conv`, x.data);
        // The authors normalise what relu has left.
        for (const what of spec.norm.first ? ["norm", "activation"] : ["activation", "norm"]) {
          x.data = what === "norm"
            ? normalised(x, spec.norm, (part) => arrays[`stem.${n}.norm.${part}`])
            : x.data.map(leaky(spec.slope));
          tap(`stem.${n}.${what}`, x.data);
        }
      });
      return depthwise(x, arrays["primary.kernel"], arrays["primary.bias"], spec.primary.stride);
    },
  },
};

// An image (flat [H, W, C] in 0 to 1) -> the class capsules, flat [J, D].
function encode(network, image, tap = () => {}) {
  const { spec, arrays } = network;
  const [height, width, channels] = spec.image;
  const kind = NETWORKS[spec.network ?? "sabour2017"];
  // 1. From pixels to first capsules, in (height, width, type) order: channel = type * K + component.
  const first = kind.primary(network, { height, width, channels, data: Float64Array.from(image) }, tap);
  tap("primary.conv", first.data);
  const poses = squash(first.data, spec.primary.size, kind.squash);
  tap("primary.poses", poses);
  // 2. Each first capsule's vote for each class: votes_IJD = sum over K of poses_IK kernel_IJKD.
  const { shape: [I, J, K, D], data: kernel } = arrays["digit.kernel"];
  const votes = new Float64Array(I * J * D);
  eachVote({ I, J, D }, (i, j, at) => {
    for (let k = 0; k < K; k++) {
      for (let d = 0; d < D; d++) votes[at + d] += poses[i * K + k] * kernel[at * K + k * D + d];
    }
  });
  tap("votes", votes);
  // 3. Routing, with what it owns.
  const owned = { bias: arrays["digit.bias"], prior: arrays["digit.prior"] };
  return ROUTINGS[spec.routing.name](votes, { I, J, D }, spec.routing, owned, tap);
}

// What the decoder draws of one class capsule: flat [H, W, C] in 0 to 1.
function decode({ spec, arrays }, poses, label) {
  const layer = (n) => [arrays[`decoder.${n}.kernel`], arrays[`decoder.${n}.bias`]];
  // 1. Every other capsule is 0.
  let x = poses.map((value, at) => (Math.floor(at / spec.pose) === label ? value : 0));
  // 2. Dense layers: a vector is a map of one place, under a kernel of 1 x 1.
  const dense = spec.decoder.length + (spec.upsampling ? 0 : 1);
  for (let n = 0; n < dense; n++) {
    const [{ shape, data }, bias] = layer(n);
    const place = { height: 1, width: 1, channels: x.length, data: x };
    x = convolve(place, { shape: [1, 1, ...shape], data }, bias, 1).data;
    if (n < dense - 1) x = x.map(leaky(0));
  }
  // 3. Efficient-CapsNet for smallNORB: the last of them is a square, doubled and convolved.
  if (spec.upsampling) {
    const { channels, slope } = spec.upsampling;
    const side = Math.sqrt(x.length);
    let map = { height: side, width: side, channels: 1, data: x };
    channels.forEach((_, n) => {
      map = convolve(doubleSize(map), ...layer(dense + n), 1);
      map.data = map.data.map(leaky(slope));
    });
    x = convolve(map, ...layer(dense + channels.length), 1).data;
  }
  return x.map((value) => 1 / (1 + Math.exp(-value)));
}

function leaky(slope) {
  return (value) => (value > 0 ? value : slope * value);
}
