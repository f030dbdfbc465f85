//! Optimal assignment of rows (tracks) to columns (detections) with a cost limit.
//!
//! Minimises the sum of matched costs plus `limit` for every row left alone, over sparse edges: only pairs below the
//! limit exist. This is what the papers' `lapjv` with `cost_limit` solves (they charge limit/2 to each side). Method:
//! successive shortest augmenting paths with dual variables (Jonker, Volgenant 1987; Crouse 2016), each row having a
//! private column of cost `limit` that means "unmatched". Rows and columns without a pair below the limit cost nothing.

/// A possible pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// Row, the first index.
    pub row: u32,
    /// Column, the second index.
    pub col: u32,
    /// Below the limit, finite.
    pub cost: f32,
}

const NONE: u32 = u32::MAX;

/// Solver with its scratch memory, kept between frames so that the hot path does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    first: Vec<u32>,
    col_of: Vec<u32>,
    row_of: Vec<u32>,
    u: Vec<f64>,
    v: Vec<f64>,
    shortest: Vec<f64>,
    came_from: Vec<u32>,
    done: Vec<bool>,
    touched: Vec<u32>,
    visited_rows: Vec<u32>,
    degree: Vec<u32>,
    prices_set: bool,
}

impl Assignment {
    /// Solves. `edges` are sorted by row; those at or above `limit` must not be among them. Afterwards
    /// [`Self::col_of`] and [`Self::row_of`] answer. Ties fall to the lower column, so the result is deterministic.
    pub fn solve(&mut self, rows: usize, cols: usize, edges: &[Edge], limit: f32) {
        debug_assert!(edges.windows(2).all(|w| w[0].row <= w[1].row), "edges must be sorted by row");
        debug_assert!(edges.iter().all(|e| e.cost < limit && (e.col as usize) < cols && (e.row as usize) < rows));
        self.reset(rows, cols, edges);
        let limit = f64::from(limit);
        for row in 0..rows as u32 {
            let (from, to) = self.span(row);
            if to == from + 1 && self.degree[edges[from].col as usize] == 1 {
                // A pair that competes with no other: the usual case.
                self.col_of[row as usize] = edges[from].col;
                self.row_of[edges[from].col as usize] = row;
            } else if to > from {
                if !self.prices_set {
                    self.set_prices();
                }
                self.augment(row, edges, limit);
            }
        }
    }

    /// The column of a row.
    #[must_use]
    pub fn col_of(&self, row: usize) -> Option<usize> {
        self.col_of.get(row).filter(|c| **c != NONE).map(|c| *c as usize)
    }

    /// The row of a column.
    #[must_use]
    pub fn row_of(&self, col: usize) -> Option<usize> {
        self.row_of.get(col).filter(|r| **r != NONE).map(|r| *r as usize)
    }

    fn span(&self, row: u32) -> (usize, usize) {
        (self.first[row as usize] as usize, self.first[row as usize + 1] as usize)
    }

    fn reset(&mut self, rows: usize, cols: usize, edges: &[Edge]) {
        fill(&mut self.first, rows + 1, 0);
        fill(&mut self.degree, cols, 0);
        for e in edges {
            self.first[e.row as usize + 1] += 1;
            self.degree[e.col as usize] += 1;
        }
        for i in 0..rows {
            self.first[i + 1] += self.first[i];
        }
        fill(&mut self.col_of, rows, NONE);
        fill(&mut self.row_of, cols, NONE);
        self.prices_set = false;
    }

    /// What only pairs that compete need.
    #[cold]
    fn set_prices(&mut self) {
        fill(&mut self.u, self.col_of.len(), 0.0);
        let cols = self.row_of.len();
        fill(&mut self.v, cols, 0.0);
        fill(&mut self.shortest, cols, f64::INFINITY);
        fill(&mut self.came_from, cols, NONE);
        fill(&mut self.done, cols, false);
        self.prices_set = true;
    }

    /// One shortest augmenting path from a free row to a free column or to some row's private one.
    fn augment(&mut self, start: u32, edges: &[Edge], limit: f64) {
        self.touched.clear();
        self.visited_rows.clear();
        let mut row = start;
        let mut reached = 0.0;
        let (mut leave_cost, mut leave_row) = (f64::INFINITY, start);
        let sink = loop {
            self.visited_rows.push(row);
            let base = reached - self.u[row as usize];
            if base + limit < leave_cost {
                (leave_cost, leave_row) = (base + limit, row);
            }
            let (from, to) = self.span(row);
            for e in &edges[from..to] {
                let col = e.col as usize;
                if self.done[col] {
                    continue;
                }
                let cost = base + f64::from(e.cost) - self.v[col];
                if cost < self.shortest[col] {
                    if self.shortest[col] == f64::INFINITY {
                        self.touched.push(e.col);
                    }
                    self.shortest[col] = cost;
                    self.came_from[col] = row;
                }
            }
            let mut best = NONE;
            let mut best_cost = leave_cost;
            for &col in &self.touched {
                let cost = self.shortest[col as usize];
                if !self.done[col as usize] && (cost < best_cost || (cost == best_cost && col < best)) {
                    (best, best_cost) = (col, cost);
                }
            }
            reached = best_cost;
            if best == NONE {
                break NONE;
            }
            if self.row_of[best as usize] == NONE {
                break best;
            }
            self.done[best as usize] = true;
            row = self.row_of[best as usize];
        };
        for &r in &self.visited_rows {
            let by = if r == start { reached } else { reached - self.shortest[self.col_of[r as usize] as usize] };
            self.u[r as usize] += by;
        }
        for &c in &self.touched {
            let c = c as usize;
            if self.done[c] {
                self.v[c] -= reached - self.shortest[c];
            }
        }
        // Walk back: each row on the path takes the next column, the last one leaves its own.
        let mut col = sink;
        let mut row = leave_row;
        if sink == NONE {
            col = std::mem::replace(&mut self.col_of[row as usize], NONE);
        }
        while col != NONE {
            row = self.came_from[col as usize];
            self.row_of[col as usize] = row;
            let previous = std::mem::replace(&mut self.col_of[row as usize], col);
            if row == start {
                break;
            }
            col = previous;
        }
        for &c in &self.touched {
            self.shortest[c as usize] = f64::INFINITY;
            self.done[c as usize] = false;
        }
    }
}

fn fill<T: Clone>(v: &mut Vec<T>, n: usize, value: T) {
    v.clear();
    v.resize(n, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(costs: &[Vec<f32>], pick: &[Option<usize>], limit: f32) -> f64 {
        pick.iter().enumerate().map(|(r, c)| f64::from(c.map_or(limit, |c| costs[r][c]))).sum()
    }

    fn brute(costs: &[Vec<f32>], limit: f32, row: usize, used: &mut Vec<bool>) -> f64 {
        if row == costs.len() {
            return 0.0;
        }
        let mut best = f64::from(limit) + brute(costs, limit, row + 1, used);
        for c in 0..used.len() {
            if !used[c] && costs[row][c] < limit {
                used[c] = true;
                best = best.min(f64::from(costs[row][c]) + brute(costs, limit, row + 1, used));
                used[c] = false;
            }
        }
        best
    }

    fn run(costs: &[Vec<f32>], cols: usize, limit: f32) -> Vec<Option<usize>> {
        let mut edges = Vec::new();
        for (r, row) in costs.iter().enumerate() {
            for (c, &cost) in row.iter().enumerate() {
                if cost < limit {
                    edges.push(Edge { row: r as u32, col: c as u32, cost });
                }
            }
        }
        let mut solver = Assignment::default();
        solver.solve(costs.len(), cols, &edges, limit);
        let pick: Vec<_> = (0..costs.len()).map(|r| solver.col_of(r)).collect();
        for (r, c) in pick.iter().enumerate() {
            if let Some(c) = c {
                assert_eq!(solver.row_of(*c), Some(r), "both directions agree");
            }
        }
        assert_eq!((0..cols).filter(|c| solver.row_of(*c).is_some()).count(), pick.iter().flatten().count());
        pick
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn equals_brute_force(
            (rows, cols) in (0usize..6, 0usize..6),
            seed in proptest::collection::vec(0u8..20, 36),
            limit in 1u8..20,
        ) {
            let costs: Vec<Vec<f32>> =
                (0..rows).map(|r| (0..cols).map(|c| f32::from(seed[r * 6 + c]) / 16.0).collect()).collect();
            let limit = f32::from(limit) / 16.0;
            let pick = run(&costs, cols, limit);
            prop_assert_eq!(total(&costs, &pick, limit), brute(&costs, limit, 0, &mut vec![false; cols]));
        }
    }

    #[test]
    fn greedy_would_be_wrong() {
        let costs = vec![vec![0.1, 0.2], vec![0.15, 0.7]];
        assert_eq!(run(&costs, 2, 0.8), vec![Some(1), Some(0)]);
    }

    #[test]
    fn five_hundred_that_all_compete() {
        let n = 500;
        let costs: Vec<Vec<f32>> =
            (0..n).map(|r| (0..n).map(|c| ((r * 7919 + c * 104_729) % 1009) as f32 / 2018.0).collect()).collect();
        let pick = run(&costs, n, 0.8);
        assert_eq!(pick.iter().flatten().count(), n);
    }
}
