//! Which of the boxes on one side overlap which on the other.
//!
//! Owns that question alone. Nearly all pairs of a frame are apart, and four comparisons say so; sixteen pairs at once
//! also pay a wasm engine's check of the deadline, which every turn of a loop has, once for sixteen. Vectors are written
//! out (crate `wide`: SSE2, NEON and wasm's SIMD alike) because the compiler, left alone, mixed them with single
//! numbers: a fifth of the component's time. Must not know tracks, detections or costs.

use facestream_guest::Rect;
use wide::f32x4;

/// Boxes that are compared with another at once.
const LANES: usize = 4 * VECTORS;

const VECTORS: usize = 4;

/// Corners of four boxes, coordinate by coordinate.
#[derive(Clone, Copy, Debug)]
struct Four {
    x1: f32x4,
    y1: f32x4,
    x2: f32x4,
    y2: f32x4,
}

/// Corners of [`LANES`] boxes.
#[derive(Clone, Debug)]
struct Block([Four; VECTORS]);

/// One box against which blocks are held.
struct Probe(Four);

/// A row and a column whose boxes overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) row: u32,
    pub(crate) col: u32,
}

/// Boxes on both sides and the pairs that overlap, with their memory, which is kept between frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlaps {
    pub(crate) rows: Vec<Rect>,
    pub(crate) cols: Vec<Rect>,
    pub(crate) pairs: Vec<Pair>,
    blocks: Vec<Block>,
}

impl Overlaps {
    /// Takes the boxes and finds the pairs, row by row.
    pub(crate) fn find(&mut self, rows: impl Iterator<Item = Rect>, cols: impl Iterator<Item = Rect>) {
        self.rows.clear();
        self.rows.extend(rows);
        self.cols.clear();
        self.cols.extend(cols);
        self.search();
    }

    // Not inlined, as steps of the engine: a wasm engine's compiler keeps few values of one large function in registers.
    #[inline(never)]
    fn search(&mut self) {
        let Self { rows, cols, pairs, blocks } = self;
        blocks.clear();
        blocks.extend(cols.chunks(LANES).map(Block::of));
        pairs.clear();
        for (row, bbox) in (0_u32..).zip(&*rows) {
            let probe = Probe::of(bbox);
            for (first, block) in (0_u32..).step_by(LANES).zip(&*blocks) {
                let mut bits = block.meeting(&probe);
                while bits != 0 {
                    pairs.push(Pair { row, col: first + bits.trailing_zeros() });
                    bits &= bits - 1;
                }
            }
        }
    }
}

impl Block {
    /// Of at most [`LANES`] boxes; the rest is filled with what meets nothing.
    #[inline(always)]
    fn of(boxes: &[Rect]) -> Self {
        let (low, high) = ([f32::NEG_INFINITY; LANES], [f32::INFINITY; LANES]);
        let [mut x1, mut y1, mut x2, mut y2] = [high, high, low, low];
        for (i, b) in boxes.iter().enumerate().take(LANES) {
            [x1[i], y1[i], x2[i], y2[i]] = b.corners();
        }
        let four = |of: &[f32; LANES], n: usize| f32x4::from([of[4 * n], of[4 * n + 1], of[4 * n + 2], of[4 * n + 3]]);
        Self(std::array::from_fn(|n| Four { x1: four(&x1, n), y1: four(&y1, n), x2: four(&x2, n), y2: four(&y2, n) }))
    }

    /// A bit for each box that overlaps this one; touching is not overlapping.
    #[inline]
    fn meeting(&self, probe: &Probe) -> u32 {
        let Probe(p) = probe;
        let mut meeting = 0;
        for (n, b) in self.0.iter().enumerate() {
            let meets = p.x1.simd_lt(b.x2) & b.x1.simd_lt(p.x2) & p.y1.simd_lt(b.y2) & b.y1.simd_lt(p.y2);
            meeting |= meets.to_bitmask() << (4 * n);
        }
        meeting
    }
}

impl Probe {
    #[inline]
    fn of(bbox: &Rect) -> Self {
        let [x1, y1, x2, y2] = bbox.corners().map(f32x4::splat);
        Self(Four { x1, y1, x2, y2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn says_what_single_comparisons_say(
            sides in proptest::collection::vec((any::<bool>(), 0u8..20, 0u8..20, 0u8..9, 0u8..9), 0..80),
        ) {
            let rect = |&(_, x, y, w, h): &(bool, u8, u8, u8, u8)| {
                Rect { x: x.into(), y: y.into(), width: w.into(), height: h.into() }
            };
            let (rows, cols): (Vec<_>, Vec<_>) = sides.iter().partition(|b| b.0);
            let [rows, cols] = [rows, cols].map(|side| side.into_iter().map(rect).collect::<Vec<Rect>>());
            let mut expected = Vec::new();
            for (row, a) in (0..).zip(&rows) {
                let [x1, y1, x2, y2] = a.corners();
                for (col, b) in (0..).zip(&cols) {
                    let [a1, b1, a2, b2] = b.corners();
                    if x1 < a2 && a1 < x2 && y1 < b2 && b1 < y2 {
                        expected.push(Pair { row, col });
                    }
                }
            }
            let mut overlaps = Overlaps::default();
            // Twice: what was there before must not show.
            for _ in 0..2 {
                overlaps.find(rows.iter().copied(), cols.iter().copied());
                prop_assert_eq!(&overlaps.pairs, &expected);
            }
        }
    }
}
