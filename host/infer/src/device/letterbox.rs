//! The letterbox on a GPU: many pictures, one launch.
//!
//! Owns the tables of where pixels come from, which are the processor's own (`letterbox.rs`), so that both write the same
//! tensor bit for bit.

use std::sync::Arc;

use facestream_gpu::{Buffer, DevicePicture, GpuError, Placement, Stream, Target};

use crate::family::{Channels, InputSpec};
use crate::geometry::Geometry;
use crate::letterbox;

/// Tables of sources of different sizes that are kept, some 12 KB each.
const MAX_TABLES: usize = 64;

/// Lays pictures in device memory into an input tensor.
#[derive(Debug)]
pub struct DeviceLetterbox {
    spec: InputSpec,
    size: (u32, u32),
    tables: Vec<(Geometry, Arc<Buffer>)>,
}

impl DeviceLetterbox {
    /// For a family's input of this width and height.
    #[must_use]
    pub fn new(spec: InputSpec, size: (u32, u32)) -> Self {
        Self { spec, size, tables: Vec::new() }
    }

    /// Numbers of one slot of the tensor.
    #[must_use]
    pub fn slot(&self) -> usize {
        3 * self.size.0 as usize * self.size.1 as usize
    }

    /// Puts one launch behind the stream's other work: each picture goes into its slot as its geometry says. Pictures and
    /// tensor must live until the stream was waited for.
    ///
    /// # Errors
    /// More than [`facestream_gpu::MAX_IMAGES`] pictures, a tensor that is too small, or what the GPU says.
    pub fn lay(
        &mut self,
        stream: &Stream,
        pictures: &[(usize, &DevicePicture, Geometry)],
        tensor: &Buffer,
    ) -> Result<(), GpuError> {
        let tables = pictures.iter().map(|(_, _, g)| self.table(stream, g)).collect::<Result<Vec<_>, _>>()?;
        let placements: Vec<_> = pictures
            .iter()
            .zip(&tables)
            .map(|((slot, picture, geometry), table)| {
                let colour = picture.colour();
                let bt709 = colour.matrix == facestream_core::frame::ColorMatrix::Bt709;
                Placement {
                    picture,
                    slot: *slot,
                    taps: table,
                    inner: geometry.inner,
                    offset: geometry.offset,
                    colours: letterbox::colours(colour.full_range, bt709),
                }
            })
            .collect();
        let (red, blue) = if self.spec.channels == Channels::Rgb { (0, 2) } else { (2, 0) };
        let target = Target {
            width: self.size.0 as i32,
            height: self.size.1 as i32,
            red,
            blue,
            scale: self.spec.scale,
            fill: f32::from(self.spec.fill),
        };
        stream.letterbox(&placements, &target, tensor)
    }

    /// The taps of a geometry, in device memory.
    fn table(&mut self, stream: &Stream, geometry: &Geometry) -> Result<Arc<Buffer>, GpuError> {
        if let Some((_, table)) = self.tables.iter().find(|(g, _)| g == geometry) {
            return Ok(Arc::clone(table));
        }
        let taps = letterbox::taps_of(geometry);
        let table = Arc::new(Buffer::new(stream.gpu(), size_of_val(taps.as_slice()))?);
        stream.upload(&taps, &table, 0)?;
        stream.synchronize()?;
        if self.tables.len() == MAX_TABLES {
            self.tables.remove(0);
        }
        self.tables.push((*geometry, Arc::clone(&table)));
        Ok(table)
    }
}
