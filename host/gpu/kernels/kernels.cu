// What the GPU computes for FaceStream: pictures into model inputs, the few cells of a detector's output that count, and
// parts of pictures packed or scaled down to be read back.
//
// Plain enough to be compiled for the processor too (`host/gpu/tests/kernels.rs` does, and compares): no intrinsics, no
// shared memory, no textures. Arithmetic follows `host/infer/src/letterbox/rows.rs` operation by operation and is
// compiled without fused multiply-add, so a tensor made here equals one made there bit for bit.
//
// After a change: `python3 host/gpu/kernels/build.py` (NVRTC; needs no GPU) writes kernels.ptx, which the program embeds.

// Where an output column or row comes from: two source lines and the weight of the second.
struct Tap {
  unsigned int first, second;
  float weight;
};

// One picture: NV12 in device memory, and the slot of the input tensor that it goes to (3 planes of W * H floats).
struct Image {
  const unsigned char *luma, *chroma;
  float *out;
  const Tap *columns, *rows;  // `inner_w` and `inner_h` of them; a row's weight is in 1/256
  int luma_pitch, chroma_pitch, inner_w, inner_h, left, top;
  float y_offset, gain, rv, gu, gv, bu;
};

struct Images {
  Image at[32];
};

// What is equal for all pictures of a launch.
struct Target {
  int width, height;
  int red, blue;  // planes of red and blue: 0 and 2, or 2 and 0
  float scale, fill;
};

// One output tensor of a detector as the sieve reads it: value(item, channel, cell) at item * item_stride + ...
struct Map {
  const float *data;
  long long item_stride;
  int channels, channel_stride, cell_stride, unused;
};

// Outputs that speak of the same cells.
struct Group {
  Map at[4];
  int maps, cells;
  int rule;            // 0: greatest of `scores` channels of map 0 from `first` on; 1: sqrt(map 0 * map 1); 2: as 1, of
                       // channels 0 and 1 of map 0 before their sigmoid
  int first, scores;
  int row;             // floats of a row: 1 + all channels
};

__device__ __forceinline__ float blend(const unsigned char *a, const unsigned char *b, unsigned int at, int weight) {
  int mixed = (int)a[at] * (256 - weight) + (int)b[at] * weight;
  return (float)mixed * (1.0f / 256.0f);
}

__device__ __forceinline__ float level(float value, float scale) {
  return truncf(fminf(fmaxf(value, 0.0f), 255.0f)) * scale;
}

extern "C" __global__ void letterbox(const __grid_constant__ Images all, const Target target) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y;
  if (i >= target.width || j >= target.height) return;
  const Image &m = all.at[blockIdx.z];
  float r = target.fill * target.scale, g = r, b = r;
  int u = i - m.left, v = j - m.top;
  if (u >= 0 && v >= 0 && u < m.inner_w && v < m.inner_h) {
    Tap x = m.columns[u], y = m.rows[v];
    int weight = (int)y.weight;
    const unsigned char *l0 = m.luma + (long long)y.first * m.luma_pitch, *l1 = m.luma + (long long)y.second * m.luma_pitch;
    float ya = blend(l0, l1, x.first, weight), yb = blend(l0, l1, x.second, weight);
    float luma = ya + (yb - ya) * x.weight;
    // A chroma sample stands for its whole block of four pixels, as in OpenCV's cvtColor.
    const unsigned char *c0 = m.chroma + (long long)(y.first >> 1) * m.chroma_pitch;
    const unsigned char *c1 = m.chroma + (long long)(y.second >> 1) * m.chroma_pitch;
    unsigned int a0 = (x.first >> 1) * 2, a1 = (x.second >> 1) * 2;
    float ua = blend(c0, c1, a0, weight), ub = blend(c0, c1, a1, weight);
    float va = blend(c0, c1, a0 + 1, weight), vb = blend(c0, c1, a1 + 1, weight);
    float du = (ua + (ub - ua) * x.weight) - 128.0f, dv = (va + (vb - va) * x.weight) - 128.0f;
    float base = fmaxf(luma - m.y_offset, 0.0f) * m.gain + 0.5f;
    r = level(base + m.rv * dv, target.scale);
    g = level(base + m.gu * du + m.gv * dv, target.scale);
    b = level(base + m.bu * du, target.scale);
  }
  long long at = (long long)j * target.width + i, plane = (long long)target.width * target.height;
  m.out[at + target.red * plane] = r;
  m.out[at + plane] = g;
  m.out[at + target.blue * plane] = b;
}

__device__ __forceinline__ float value(const Map &m, int item, int channel, int cell) {
  return m.data[item * m.item_stride + (long long)channel * m.channel_stride + (long long)cell * m.cell_stride];
}

// Keeps the cells whose score reaches the threshold: a row each (cell, then every channel of every map), in no order;
// `counts[item]` tells how many there were, which may be more than `cap`, what `rows` has room for.
extern "C" __global__ void sieve(const __grid_constant__ Group group, float threshold, int cap, unsigned int *counts, float *rows) {
  int cell = blockIdx.x * blockDim.x + threadIdx.x, item = blockIdx.y;
  if (cell >= group.cells) return;
  const Map &m = group.at[0];
  float score;
  if (group.rule == 0) {
    score = value(m, item, group.first, cell);
    for (int c = 1; c < group.scores; c++) score = fmaxf(score, value(m, item, group.first + c, cell));
  } else {
    float a, b;
    if (group.rule == 1) {
      a = fminf(fmaxf(value(m, item, 0, cell), 0.0f), 1.0f);
      b = fminf(fmaxf(value(group.at[1], item, 0, cell), 0.0f), 1.0f);
    } else {
      a = 1.0f / (1.0f + expf(-value(m, item, 0, cell)));
      b = 1.0f / (1.0f + expf(-value(m, item, 1, cell)));
    }
    score = sqrtf(a * b);
  }
  if (!(score >= threshold)) return;
  unsigned int slot = atomicAdd(counts + item, 1u);
  if (slot >= (unsigned int)cap) return;
  float *row = rows + ((long long)item * cap + slot) * group.row;
  *row++ = (float)cell;  // exact below 2^24 cells
  for (int k = 0; k < group.maps; k++)
    for (int c = 0; c < group.at[k].channels; c++) *row++ = value(group.at[k], item, c, cell);
}

// A rectangle of bytes to be copied, and where it goes: rows one after another.
struct Block {
  const unsigned char *from;
  int pitch, width, rows, to;
};

struct Blocks {
  Block at[64];
};

// Packs rectangles into one piece of memory, host memory that the GPU can write included: one launch and one wait for all
// faces of a frame.
extern "C" __global__ void pack(const __grid_constant__ Blocks all, unsigned char *out) {
  const Block &b = all.at[blockIdx.y];
  int row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= b.rows) return;
  const unsigned char *from = b.from + (long long)row * b.pitch;
  unsigned char *to = out + b.to + (long long)row * b.width;
  for (int x = threadIdx.x; x < b.width; x += blockDim.x) to[x] = from[x];
}

// Where the samples of one axis come from: for each that comes out a row of numbers, the first sample, how many count, and
// their weights in 1 / 2^precision.
struct Axis {
  const int *table;
  int row, precision;
};

// A plane of samples `step` bytes apart, or as many planes as that, which come apart.
struct Scaling {
  const unsigned char *from;
  unsigned char *to;
  Axis columns, rows;
  int pitch, step, width, height;  // size of what comes out
};

__device__ __forceinline__ int rounded(int sum, int precision) {
  int value = sum >> precision;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

// Scales as the processor does (`host/pixels/src/taps.rs`), to the same bytes: the samples of a column summed and rounded to
// a byte first, these then. Sums of a column are made again for every sample that needs them: whoever launches this bounds how
// many. Writes host memory, too.
extern "C" __global__ void scale(const __grid_constant__ Scaling s) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y, channel = blockIdx.z;
  if (i >= s.width || j >= s.height) return;
  const int *across = s.columns.table + i * s.columns.row, *down = s.rows.table + j * s.rows.row;
  const unsigned char *corner = s.from + (long long)down[0] * s.pitch + (long long)across[0] * s.step + channel;
  int sum = (1 << s.columns.precision) >> 1;
  for (int x = 0; x < across[1]; x++) {
    int column = (1 << s.rows.precision) >> 1;
    const unsigned char *at = corner + (long long)x * s.step;
    for (int y = 0; y < down[1]; y++) column += (int)at[(long long)y * s.pitch] * down[2 + y];
    sum += rounded(column, s.rows.precision) * across[2 + x];
  }
  s.to[((long long)channel * s.height + j) * s.width + i] = (unsigned char)rounded(sum, s.columns.precision);
}
