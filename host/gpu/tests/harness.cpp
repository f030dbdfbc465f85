// kernels.cu on the processor: what CUDA has and C++ has not, a grid as loops, and the checks of both kernels against
// plain models of what they should compute. `kernels.rs` compiles and runs it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#define __device__ static
#define __global__
#define __forceinline__ inline
#define __grid_constant__
struct Dim { unsigned x, y, z; };
static Dim blockIdx, blockDim, threadIdx;
static unsigned atomicAdd(unsigned *at, unsigned n) { unsigned old = *at; *at += n; return old; }
#include "kernels.cu"

static unsigned seed = 12345;
static unsigned next() { seed = seed * 1664525u + 1013904223u; return seed >> 8; }
static float unit() { return (next() & 0xffff) / 65535.0f; }

template <class F> static void grid(Dim blocks, Dim threads, F run) {
  blockDim = threads;
  for (blockIdx.z = 0; blockIdx.z < blocks.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < blocks.y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < blocks.x; blockIdx.x++)
        for (threadIdx.y = 0; threadIdx.y < threads.y; threadIdx.y++)
          for (threadIdx.x = 0; threadIdx.x < threads.x; threadIdx.x++) run();
}

// Bilinear, centres aligned, edges repeated, a chroma sample for its whole block, in doubles.
static double model(const std::vector<unsigned char> &plane, int pitch, int w, int h, double x, double y, int shift, int step, int channel) {
  double fx = std::min(std::max(x, 0.0), w - 1.0), fy = std::min(std::max(y, 0.0), h - 1.0);
  int x0 = (int)fx, y0 = (int)fy, x1 = std::min(x0 + 1, w - 1), y1 = std::min(y0 + 1, h - 1);
  double ax = fx - x0, ay = std::round((fy - y0) * 256) / 256;
  auto at = [&](int cx, int cy) { return (double)plane[(cy >> shift) * pitch + (cx >> shift) * step + channel]; };
  double top = at(x0, y0) * (1 - ax) + at(x1, y0) * ax, low = at(x0, y1) * (1 - ax) + at(x1, y1) * ax;
  return top * (1 - ay) + low * ay;
}

static int letterbox_case(int w, int h, int W, int H, int iw, int ih, int left, int top, bool bgr, float scale, float fill) {
  int pitch = (w + 1) / 2 * 2 + 6;
  std::vector<unsigned char> luma(pitch * h), chroma(pitch * ((h + 1) / 2));
  for (auto &v : luma) v = next();
  for (auto &v : chroma) v = next();
  std::vector<Tap> taps;
  for (int axis = 0; axis < 2; axis++) {
    int source = axis ? h : w, inner = axis ? ih : iw;
    for (int d = 0; d < inner; d++) {
      double at = (d + 0.5) * source / inner - 0.5, first = std::floor(at);
      unsigned a = first < 0 ? 0 : std::min((int)first, source - 1), b = std::min((int)a + 1, source - 1);
      float weight = first < 0 || a == b ? 0.0f : (float)(at - first);
      if (first < 0) b = 0;
      if (axis) { weight = std::round(weight * 256.0f); if (weight == 256.0f) { a = b; weight = 0; } }
      taps.push_back({a, b, weight});
    }
  }
  const float KR = 0.2126, KB = 0.0722, KG = 1 - KR - KB, Y = 255.0 / 219.0, C = 255.0 / 224.0;
  std::vector<float> out(3 * W * H, -1.0f);
  Images images;
  Target target = {W, H, bgr ? 2 : 0, bgr ? 0 : 2, scale, fill};
  images.at[0] = {luma.data(), chroma.data(), out.data(), taps.data(), taps.data() + iw, pitch, pitch, iw, ih, left, top,
                  16.0f, Y, 2 * (1 - KR) * C, -2 * (1 - KB) * KB / KG * C, -2 * (1 - KR) * KR / KG * C, 2 * (1 - KB) * C};
  grid({(unsigned)(W + 31) / 32, (unsigned)(H + 7) / 8, 1}, {32, 8, 1}, [&] { letterbox(images, target); });
  double worst = 0;
  for (int j = 0; j < H; j++)
    for (int i = 0; i < W; i++) {
      double rgb[3] = {fill, fill, fill};
      int u = i - left, v = j - top;
      if (u >= 0 && v >= 0 && u < iw && v < ih) {
        double x = (u + 0.5) * w / iw - 0.5, y = (v + 0.5) * h / ih - 0.5;
        double l = model(luma, pitch, w, h, x, y, 0, 1, 0);
        double cu = model(chroma, pitch, w, h, x, y, 1, 2, 0) - 128, cv = model(chroma, pitch, w, h, x, y, 1, 2, 1) - 128;
        double base = std::max(l - 16, 0.0) * Y;
        double raw[3] = {base + 2 * (1 - KR) * C * cv, base - 2 * (1 - KB) * KB / KG * C * cu - 2 * (1 - KR) * KR / KG * C * cv,
                         base + 2 * (1 - KB) * C * cu};
        for (int c = 0; c < 3; c++) rgb[c] = std::round(std::min(std::max(raw[c], 0.0), 255.0));
      }
      for (int c = 0; c < 3; c++) {
        int plane = bgr ? 2 - c : c;
        worst = std::max(worst, std::fabs(out[(size_t)plane * W * H + j * W + i] / scale - rgb[c]));
      }
    }
  std::printf("letterbox %dx%d in %dx%d: worst %.3f levels\n", w, h, W, H, worst);
  // A value on the border of two levels may fall to either side.
  return worst <= 1.01 ? 0 : 1;
}

static int sieve_case(int rule, bool last) {
  const int items = 3, cells = 500, cap = 64;
  int channels[4] = {rule == 0 ? 7 : rule == 1 ? 1 : 16, 1, 4, 10}, maps = rule == 1 ? 4 : 1;
  std::vector<std::vector<float>> data(maps);
  Group group;
  std::memset(&group, 0, sizeof group);
  group.maps = maps; group.cells = cells; group.rule = rule; group.first = 4; group.scores = 3; group.row = 1;
  for (int k = 0; k < maps; k++) {
    data[k].resize(items * cells * channels[k]);
    for (auto &v : data[k]) v = rule == 2 ? unit() * 8 - 4 : unit();
    group.at[k] = {data[k].data(), (long long)cells * channels[k], channels[k], last ? 1 : cells, last ? channels[k] : 1, 0};
    group.row += channels[k];
  }
  data[0][0] = NAN;
  auto at = [&](int k, int item, int channel, int cell) {
    return data[k][(size_t)item * cells * channels[k] + (last ? cell * channels[k] + channel : channel * cells + cell)];
  };
  const float threshold = 0.9f;
  std::vector<unsigned> counts(items, 0);
  std::vector<float> rows((size_t)items * cap * group.row, -7.0f);
  grid({(cells + 255) / 256, items, 1}, {256, 1, 1}, [&] { sieve(group, threshold, cap, counts.data(), rows.data()); });
  for (int item = 0; item < items; item++) {
    unsigned expected = 0;
    for (int cell = 0; cell < cells; cell++) {
      double s;
      if (rule == 0) {
        s = at(0, item, 4, cell);
        for (int c = 5; c < 7; c++) s = std::max(s, (double)at(0, item, c, cell));
      } else if (rule == 1) {
        s = std::sqrt((double)at(0, item, 0, cell) * at(1, item, 0, cell));
      } else {
        s = std::sqrt(1 / (1 + std::exp(-(double)at(0, item, 0, cell))) / (1 + std::exp(-(double)at(0, item, 1, cell))));
      }
      if (!(s >= threshold)) continue;
      if (expected < cap) {
        const float *row = &rows[((size_t)item * cap + expected) * group.row];
        if (row[0] != cell) { std::printf("sieve rule %d: cell %d, expected %d\n", rule, (int)row[0], cell); return 1; }
        row++;
        for (int k = 0; k < maps; k++)
          for (int c = 0; c < channels[k]; c++, row++) {
            float v = at(k, item, c, cell);
            if (std::memcmp(row, &v, 4)) { std::printf("sieve rule %d: a wrong number\n", rule); return 1; }
          }
      }
      expected++;
    }
    if (counts[item] != expected) { std::printf("sieve rule %d: %u cells, expected %u\n", rule, counts[item], expected); return 1; }
  }
  std::printf("sieve rule %d: %u %u %u cells\n", rule, counts[0], counts[1], counts[2]);
  return 0;
}

static int pack_case() {
  const int pitch = 300, rows = 200;
  std::vector<unsigned char> picture(pitch * rows), out(40000, 7);
  for (auto &v : picture) v = next();
  Blocks all;
  all.at[0] = {picture.data() + 5 * pitch + 10, pitch, 33, 40, 100};
  all.at[1] = {picture.data(), pitch, 150, 200, 100 + 33 * 40};
  grid({25, 2, 1}, {32, 8, 1}, [&] { pack(all, out.data()); });
  for (int i = 0; i < 40000; i++) {
    unsigned char expected = 7;
    int a = i - 100, b = a - 33 * 40;
    if (a >= 0 && b < 0) expected = picture[(5 + a / 33) * pitch + 10 + a % 33];
    if (b >= 0 && b < 150 * 200) expected = picture[b / 150 * pitch + b % 150];
    if (out[i] != expected) { std::printf("pack: byte %d is %d instead of %d\n", i, out[i], expected); return 1; }
  }
  return 0;
}

// A picture of one level stays it, whatever the weights; two levels side by side meet half-way; columns that are not scaled are
// copied; channels come apart. That the numbers are the processor's is `host/pixels/src/taps.rs`' test.
static int scale_case() {
  const int pitch = 80, w = 40, h = 30;
  std::vector<unsigned char> picture(pitch * h), out(2 * 20 * 10, 7);
  for (int y = 0; y < h; y++)
    for (int x = 0; x < w; x++) picture[y * pitch + 2 * x] = x < 20 ? 10 : 250, picture[y * pitch + 2 * x + 1] = 3 * y;
  std::vector<int> columns, rows;
  for (int i = 0; i < 20; i++) columns.insert(columns.end(), {2 * i, 2, 8, 8, 0});
  for (int j = 0; j < 10; j++) rows.insert(rows.end(), {3 * j, 3, -1, 6, -1, 0});
  Scaling s = {picture.data(), out.data(), {columns.data(), 5, 4}, {rows.data(), 6, 2}, pitch, 2, 20, 10};
  grid({1, 2, 2}, {32, 8, 1}, [&] { scale(s); });
  for (int j = 0; j < 10; j++)
    for (int i = 0; i < 20; i++) {
      int level = i < 10 ? 10 : 250, ramp = 3 * (3 * j + 1);
      if (out[j * 20 + i] != level || out[200 + j * 20 + i] != ramp) {
        std::printf("scale: %d and %d at %d, %d\n", out[j * 20 + i], out[200 + j * 20 + i], i, j);
        return 1;
      }
    }
  // Not beyond a byte, and rounded: 255 * 10 / 8 and 10 * -2 / 8.
  std::vector<int> more = {0, 1, 10, 19, 1, -2, 39, 1, 4}, same = {0, 1, 1};
  Scaling t = {picture.data(), out.data(), {more.data(), 3, 3}, {same.data(), 3, 0}, pitch, 2, 3, 1};
  picture[0] = 255;
  grid({1, 1, 1}, {32, 8, 1}, [&] { scale(t); });
  if (out[0] != 255 || out[1] != 0 || out[2] != 125) { std::printf("scale: %d %d %d\n", out[0], out[1], out[2]); return 1; }
  return 0;
}

int main() {
  std::printf("sizes %zu %zu %zu %zu %zu %zu\n", sizeof(Image), sizeof(Images), sizeof(Target), sizeof(Group), sizeof(Blocks), sizeof(Scaling));
  int bad = 0;
  bad += letterbox_case(1920, 1080, 640, 640, 640, 360, 0, 140, false, 1 / 255.0f, 114);
  bad += letterbox_case(1280, 720, 640, 384, 640, 360, 0, 0, true, 1, 0);
  bad += letterbox_case(1366, 768, 640, 384, 640, 384, 0, 0, false, 1, 0);
  bad += letterbox_case(37, 21, 64, 64, 64, 36, 0, 14, false, 1, 114);
  bad += letterbox_case(352, 288, 640, 544, 640, 544, 0, 0, false, 1, 0);
  bad += sieve_case(0, false);
  bad += sieve_case(1, true);
  bad += sieve_case(2, false);
  bad += sieve_case(0, true);
  bad += pack_case();
  bad += scale_case();
  return bad;
}
