//! From a model's outputs in device memory to what its family decodes.
//!
//! Owns which numbers travel: the cells whose score reaches the threshold, as rows, or everything where a family has no
//! cells or there are more than [`CAP`]. The family then reads tensors as on the processor: rows are written into tensors
//! that are otherwise absent cells, and taken out again.

use facestream_gpu::{Buffer, GpuError, Group, Map, Pinned, Stream};

use crate::family::{Cells, Family, TensorView};

/// Rows a picture and group that have room. More candidates than that in one picture are rare (a threshold near zero);
/// their tensors travel whole.
pub(super) const CAP: usize = 512;

/// Scores are compared on the device in other arithmetic; the family decides what is near the threshold.
const SLACK: f32 = 1e-3;

/// An output of the model.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: String,
    /// Extents of one picture.
    pub(super) dims: Vec<usize>,
    pub(super) buffer: Buffer,
}

impl Output {
    /// Numbers of one picture.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Where the cells of one group are collected.
#[derive(Debug)]
struct Sieve {
    cells: Cells,
    group: Group,
    rows: Pinned<f32>,
    /// Offset of its counts, in bytes.
    counts_at: usize,
}

/// Reads outputs back.
#[derive(Debug)]
pub(super) struct Candidates {
    sieves: Vec<Sieve>,
    counts: Buffer,
    counts_host: Pinned<u32>,
    /// One picture's outputs, of absent cells between two uses.
    dense: Vec<Vec<f32>>,
    shapes: Vec<Vec<i64>>,
    max_batch: usize,
}

impl Candidates {
    pub(super) fn new(
        stream: &Stream,
        family: &dyn Family,
        outputs: &[Output],
        max_batch: usize,
    ) -> Result<Self, GpuError> {
        let gpu = stream.gpu();
        let dims: Vec<Vec<usize>> = outputs.iter().map(|o| o.dims.clone()).collect();
        let all = family.cells(&dims).and_then(|cells| groups(&cells, outputs).map(|g| (cells, g)));
        let (cells, groups) = all.unwrap_or_default();
        let counts_at = |n: usize| n * max_batch * size_of::<u32>();
        let mut sieves = Vec::with_capacity(cells.len());
        for (n, (cells, group)) in cells.into_iter().zip(groups).enumerate() {
            let rows = Pinned::new(gpu, max_batch * CAP * group.row())?;
            sieves.push(Sieve { cells, group, rows, counts_at: counts_at(n) });
        }
        let absent = |output: usize| {
            let of = sieves.iter().find(|s| s.cells.outputs.contains(&output));
            of.map_or(0.0, |s| s.cells.absent)
        };
        let dense = outputs.iter().enumerate().map(|(n, o)| vec![absent(n); o.len()]).collect();
        let shapes =
            outputs.iter().map(|o| [1].into_iter().chain(o.dims.iter().map(|&n| n as i64)).collect()).collect();
        Ok(Self {
            counts: Buffer::new(gpu, counts_at(sieves.len()).max(1))?,
            counts_host: Pinned::new(gpu, (sieves.len() * max_batch).max(1))?,
            sieves,
            dense,
            shapes,
            max_batch,
        })
    }

    /// Puts the search for candidates behind the run; [`Candidates::read`] waits for it.
    pub(super) fn start(&self, stream: &Stream, items: usize, threshold: f32) -> Result<(), GpuError> {
        if self.sieves.is_empty() {
            return Ok(());
        }
        stream.zero(&self.counts, self.sieves.len() * self.max_batch * size_of::<u32>())?;
        for sieve in &self.sieves {
            let counts = (&self.counts, sieve.counts_at);
            stream.sieve(&sieve.group, items, (threshold - SLACK).max(0.0), CAP, counts, &sieve.rows)?;
        }
        Ok(())
    }

    /// Calls `each` with the outputs of every picture in turn.
    ///
    /// # Errors
    /// What the GPU says.
    pub(super) fn read(
        &mut self,
        stream: &Stream,
        outputs: &[Output],
        items: usize,
        mut each: impl FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), GpuError> {
        if !self.sieves.is_empty() {
            stream.download(&self.counts, 0, self.counts_host.slice_mut())?;
        }
        stream.synchronize()?;
        for item in 0..items {
            let fits = |n: usize| self.count(n, item) <= CAP;
            if !self.sieves.is_empty() && (0..self.sieves.len()).all(fits) {
                self.with_rows(item, |views| each(item, views));
            } else {
                self.read_whole(stream, outputs, item, &mut each)?;
            }
        }
        Ok(())
    }

    /// Cells of a group that one picture has.
    fn count(&self, group: usize, item: usize) -> usize {
        self.counts_host.slice()[group * self.max_batch + item] as usize
    }

    /// One picture's outputs as they are.
    fn read_whole(
        &self,
        stream: &Stream,
        outputs: &[Output],
        item: usize,
        each: &mut impl FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), GpuError> {
        let mut whole = Vec::with_capacity(outputs.len());
        for output in outputs {
            let mut data = vec![0f32; output.len()];
            stream.download(&output.buffer, item * output.len() * size_of::<f32>(), &mut data)?;
            whole.push(data);
        }
        stream.synchronize()?;
        let views: Vec<_> = whole.iter().zip(&self.shapes).map(|(data, shape)| TensorView { shape, data }).collect();
        each(item, &views);
        Ok(())
    }

    /// Writes a picture's rows into the tensors, shows them, and takes them out again.
    fn with_rows(&mut self, item: usize, show: impl FnOnce(&[TensorView<'_>])) {
        self.put_rows(item, |_| None);
        let views: Vec<_> =
            self.dense.iter().zip(&self.shapes).map(|(data, shape)| TensorView { shape, data }).collect();
        show(&views);
        self.put_rows(item, |cells| Some(cells.absent));
    }

    /// Every row of a picture to its place, or something else instead of its numbers.
    fn put_rows(&mut self, item: usize, instead: impl Fn(&Cells) -> Option<f32>) {
        for (n, sieve) in self.sieves.iter().enumerate() {
            let count = self.counts_host.slice()[n * self.max_batch + item] as usize;
            let row = sieve.group.row();
            let rows = &sieve.rows.slice()[item * CAP * row..][..count * row];
            for row in rows.chunks_exact(row) {
                scatter(&sieve.cells, &sieve.group, row, &mut self.dense, instead(&sieve.cells));
            }
        }
    }
}

/// Where each group's outputs lie in device memory; `None` when their extents do not fit together.
fn groups(cells: &[Cells], outputs: &[Output]) -> Option<Vec<Group>> {
    cells.iter().map(|cells| group(cells, outputs)).collect()
}

fn group(cells: &Cells, outputs: &[Output]) -> Option<Group> {
    let mut count = None;
    let mut maps = Vec::with_capacity(cells.outputs.len());
    for &index in &cells.outputs {
        let output = outputs.get(index)?;
        let channels = if cells.channels_last { *output.dims.last()? } else { *output.dims.first()? };
        let here = output.len().checked_div(channels)?;
        if *count.get_or_insert(here) != here {
            return None;
        }
        let (channel_stride, cell_stride) = if cells.channels_last { (1, channels) } else { (here, 1) };
        maps.push(Map {
            data: output.buffer.address(),
            item_stride: i64::try_from(output.len()).ok()?,
            channels: i32::try_from(channels).ok()?,
            channel_stride: i32::try_from(channel_stride).ok()?,
            cell_stride: i32::try_from(cell_stride).ok()?,
            unused: 0,
        });
    }
    let fits = !maps.is_empty() && maps.len() <= facestream_gpu::MAX_MAPS;
    // Cells travel as floats, exact below 2^24.
    let count = u32::try_from(count?).ok().filter(|n| *n < 1 << 24)?;
    fits.then_some(Group { maps, cells: count, rule: cells.rule })
}

/// Writes one row's numbers, or `instead`, where they belong.
fn scatter(cells: &Cells, group: &Group, row: &[f32], dense: &mut [Vec<f32>], instead: Option<f32>) {
    let (cell, mut values) = (row[0] as usize, &row[1..]);
    for (&output, map) in cells.outputs.iter().zip(&group.maps) {
        let channels = map.channels as usize;
        for (channel, value) in values[..channels].iter().enumerate() {
            let at = channel * map.channel_stride as usize + cell * map.cell_stride as usize;
            if let Some(place) = dense[output].get_mut(at) {
                *place = instead.unwrap_or(*value);
            }
        }
        values = &values[channels..];
    }
}
