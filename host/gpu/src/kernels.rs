//! Launching the kernels of `kernels/kernels.cu`.
//!
//! Owns the layout of their arguments. What a letterbox or a sieve is for is `facestream-infer`'s business.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, DeviceRepr, DriverError, LaunchConfig, PushKernelArg as _};
use cudarc::nvrtc::Ptx;

use crate::buffer::{Buffer, Pinned, Stream};
use crate::error::GpuError;
use crate::picture::DevicePicture;

/// Compiled from kernels.cu by kernels/build.py; the driver makes machine code of it and keeps that in its cache.
const PTX: &str = include_str!("../kernels/kernels.ptx");

/// Pictures that one launch takes.
pub const MAX_IMAGES: usize = 32;

/// Tensors that speak of the same cells.
pub const MAX_MAPS: usize = 4;

/// Where an output column or row comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// First source line.
    pub first: u32,
    /// Second source line.
    pub second: u32,
    /// Weight of the second: a fraction for columns, in 1/256 for rows.
    pub weight: f32,
}

/// YUV to RGB, as in `facestream-infer`'s letterbox.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    /// Subtracted from luma.
    pub y_offset: f32,
    /// Luma is multiplied by it.
    pub gain: f32,
    /// Red a unit of V.
    pub rv: f32,
    /// Green a unit of U.
    pub gu: f32,
    /// Green a unit of V.
    pub gv: f32,
    /// Blue a unit of U.
    pub bu: f32,
}

/// Where one picture goes.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// The picture.
    pub picture: &'a DevicePicture,
    /// Which slot of the tensor it goes to.
    pub slot: usize,
    /// [`Tap`]s of its columns, then of its rows.
    pub taps: &'a Buffer,
    /// Width and height of the scaled picture inside the input.
    pub inner: (u32, u32),
    /// Its top-left corner.
    pub offset: (u32, u32),
    /// Its colours.
    pub colours: Colours,
}

/// What is equal for all pictures of a launch.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Input width.
    pub width: i32,
    /// Input height.
    pub height: i32,
    /// Plane of red: 0 or 2.
    pub red: i32,
    /// Plane of blue: 2 or 0.
    pub blue: i32,
    /// What 0..=255 is multiplied by.
    pub scale: f32,
    /// Value around the picture, in 0..=255.
    pub fill: f32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Image {
    luma: u64,
    chroma: u64,
    out: u64,
    columns: u64,
    rows: u64,
    luma_pitch: i32,
    chroma_pitch: i32,
    inner_w: i32,
    inner_h: i32,
    left: i32,
    top: i32,
    colours: Colours,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Images([Image; MAX_IMAGES]);

/// One output tensor as the sieve reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Map {
    /// Device address of its first number.
    pub data: u64,
    /// Numbers from one picture of the batch to the next.
    pub item_stride: i64,
    /// Channels.
    pub channels: i32,
    /// Numbers from one channel to the next.
    pub channel_stride: i32,
    /// Numbers from one cell to the next.
    pub cell_stride: i32,
    /// Fills up to the alignment of the address.
    pub unused: i32,
}

/// How a cell's score is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The greatest of some channels of the first map.
    Greatest {
        /// First channel.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Square root of the product of the first two maps, each cut to [0, 1].
    Product,
    /// The same of the first map's first two channels before their sigmoid.
    ProductOfLogits,
}

/// Output tensors that speak of the same cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// At most [`MAX_MAPS`].
    pub maps: Vec<Map>,
    /// Cells of each.
    pub cells: u32,
    /// How a cell's score is made.
    pub rule: Rule,
}

impl Group {
    /// Numbers of a row that the sieve writes: the cell, then every channel of every map.
    #[must_use]
    pub fn row(&self) -> usize {
        1 + self.maps.iter().map(|m| m.channels.max(0) as usize).sum::<usize>()
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawGroup {
    at: [Map; MAX_MAPS],
    maps: i32,
    cells: i32,
    rule: i32,
    first: i32,
    scores: i32,
    row: i32,
}

/// Sizes of the kernels' arguments (an image, all images, the target, a group, blocks, a scaling), for the test that compares
/// them with kernels.cu.
#[doc(hidden)]
pub const ARGUMENT_SIZES: [usize; 6] = [
    size_of::<Image>(),
    size_of::<Images>(),
    size_of::<Target>(),
    size_of::<RawGroup>(),
    size_of::<RawBlocks>(),
    size_of::<RawScaling>(),
];

// SAFETY: plain numbers and device addresses in the layout of kernels.cu (a test compares the sizes).
unsafe impl DeviceRepr for Images {}
// SAFETY: as above.
unsafe impl DeviceRepr for Target {}
// SAFETY: as above.
unsafe impl DeviceRepr for RawGroup {}

/// The kernels, loaded.
#[derive(Debug)]
pub(crate) struct Kernels {
    letterbox: CudaFunction,
    sieve: CudaFunction,
    pack: CudaFunction,
    scale: CudaFunction,
}

impl Kernels {
    pub(crate) fn load(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        debug_assert!(CString::new(PTX).is_ok(), "PTX is text");
        let module = context.load_module(Ptx::from_src(PTX))?;
        let of = |name: &str| module.load_function(name);
        Ok(Self { letterbox: of("letterbox")?, sieve: of("sieve")?, pack: of("pack")?, scale: of("scale")? })
    }
}

/// Rectangles that one launch packs.
pub(crate) const MAX_BLOCKS: usize = 64;

/// A rectangle of bytes in device memory, and where it goes in the packed piece.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawBlock {
    pub(crate) from: u64,
    pub(crate) pitch: i32,
    pub(crate) width: i32,
    pub(crate) rows: i32,
    pub(crate) to: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawBlocks([RawBlock; MAX_BLOCKS]);

// SAFETY: as above.
unsafe impl DeviceRepr for RawBlocks {}

/// Where the samples of one axis come from: a table in device memory ([`facestream_pixels::Taps`]).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAxis {
    pub(crate) table: u64,
    pub(crate) row: i32,
    pub(crate) precision: i32,
}

/// A plane to be scaled, or planes whose samples take turns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawScaling {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) columns: RawAxis,
    pub(crate) rows: RawAxis,
    pub(crate) pitch: i32,
    pub(crate) step: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
}

// SAFETY: as above.
unsafe impl DeviceRepr for RawScaling {}

impl Stream {
    /// Packs at most [`MAX_BLOCKS`] rectangles; complete once the stream was waited for.
    ///
    /// # Safety
    /// Each rectangle lies in memory that lives until then, and `out` (device memory, or host memory from the driver) has
    /// room for all of them at their places.
    pub(crate) unsafe fn pack(&self, blocks: &[RawBlock], out: u64) -> Result<(), GpuError> {
        let Some(first) = blocks.first() else { return Ok(()) };
        let mut all = RawBlocks([*first; MAX_BLOCKS]);
        let count = blocks.len().min(MAX_BLOCKS);
        all.0[..count].copy_from_slice(&blocks[..count]);
        let rows = blocks.iter().map(|b| b.rows.max(1) as u32).max().unwrap_or(1);
        let config =
            LaunchConfig { grid_dim: (rows.div_ceil(8), count as u32, 1), block_dim: (32, 8, 1), shared_mem_bytes: 0 };
        self.gpu.bind()?;
        // SAFETY: the arguments have the kernel's layout; the rest is the caller's promise.
        unsafe { self.raw.launch_builder(&self.gpu.kernels.pack).arg(&all).arg(&out).launch(config) }
            .map(drop)
            .map_err(|e| self.gpu.failed("packing parts of pictures", e))
    }

    /// Scales a plane; complete once the stream was waited for.
    ///
    /// # Safety
    /// The tables lie in device memory and name samples of `from` only; these, the tables and `to` (device memory, or host
    /// memory from the driver, with room for `step` planes of that size) live until then.
    pub(crate) unsafe fn scale(&self, plane: &RawScaling) -> Result<(), GpuError> {
        let (width, height) = (plane.width.max(1) as u32, plane.height.max(1) as u32);
        let config = LaunchConfig {
            grid_dim: (width.div_ceil(32), height.div_ceil(8), plane.step.max(1) as u32),
            block_dim: (32, 8, 1),
            shared_mem_bytes: 0,
        };
        self.gpu.bind()?;
        // SAFETY: the argument has the kernel's layout; the rest is the caller's promise.
        unsafe { self.raw.launch_builder(&self.gpu.kernels.scale).arg(plane).launch(config) }
            .map(drop)
            .map_err(|e| self.gpu.failed("scaling a part of a picture", e))
    }

    /// Writes pictures into their slots of an input tensor, in one launch. The pictures and their taps must live until the stream was waited for.
    ///
    /// # Errors
    /// More pictures than [`MAX_IMAGES`], a tensor or tables too small, or what the driver says.
    pub fn letterbox(&self, pictures: &[Placement<'_>], target: &Target, tensor: &Buffer) -> Result<(), GpuError> {
        let Some(first) = pictures.first() else { return Ok(()) };
        let slot = 3 * target.width as usize * target.height as usize * size_of::<f32>();
        if pictures.len() > MAX_IMAGES {
            let reason = format!("{} pictures in one launch, at most {MAX_IMAGES}", pictures.len());
            return Err(GpuError::Call { gpu: self.gpu.ordinal(), what: "the letterbox", reason });
        }
        let image = |p: &Placement<'_>| {
            let layout = p.picture.layout();
            Image {
                luma: layout.luma,
                chroma: layout.chroma,
                out: tensor.address + (slot * p.slot) as u64,
                columns: p.taps.address,
                rows: p.taps.address + u64::from(p.inner.0) * size_of::<Tap>() as u64,
                luma_pitch: layout.luma_pitch as i32,
                chroma_pitch: layout.chroma_pitch as i32,
                inner_w: p.inner.0 as i32,
                inner_h: p.inner.1 as i32,
                left: p.offset.0 as i32,
                top: p.offset.1 as i32,
                colours: p.colours,
            }
        };
        let mut images = Images([image(first); MAX_IMAGES]);
        for (k, p) in pictures.iter().enumerate() {
            p.taps.check(0, (p.inner.0 as usize + p.inner.1 as usize) * size_of::<Tap>())?;
            tensor.check(slot * p.slot, slot)?;
            images.0[k] = image(p);
        }
        let config = LaunchConfig {
            grid_dim: ((target.width as u32).div_ceil(32), (target.height as u32).div_ceil(8), pictures.len() as u32),
            block_dim: (32, 8, 1),
            shared_mem_bytes: 0,
        };
        self.gpu.bind()?;
        // SAFETY: the arguments have the kernel's layout; it reads inside the pictures and their tables (`facestream-infer`
        // makes taps of the picture's own size), and writes inside the tensor's slots, checked above.
        unsafe { self.raw.launch_builder(&self.gpu.kernels.letterbox).arg(&images).arg(target).launch(config) }
            .map(drop)
            .map_err(|e| self.gpu.failed("the letterbox", e))
    }

    /// Finds the cells of `items` pictures whose score reaches `threshold`: `counts` gets a number a picture, `rows` at
    /// most `cap` rows a picture, in no order. See [`Group::row`]. The GPU writes the rows into host memory itself, so they
    /// are there once the stream was waited for, which they must live until.
    ///
    /// # Errors
    /// More maps than [`MAX_MAPS`], buffers too small, or what the driver says.
    pub fn sieve(
        &self,
        group: &Group,
        items: usize,
        threshold: f32,
        cap: usize,
        counts: (&Buffer, usize),
        rows: &Pinned<f32>,
    ) -> Result<(), GpuError> {
        if group.maps.is_empty() || group.maps.len() > MAX_MAPS {
            let reason = format!("{} maps, 1 to {MAX_MAPS} are possible", group.maps.len());
            return Err(GpuError::Call { gpu: self.gpu.ordinal(), what: "the sieve", reason });
        }
        counts.0.check(counts.1, items * size_of::<u32>())?;
        if rows.slice().len() < items * cap * group.row() {
            let reason = format!("{} numbers are too few for {items} times {cap} rows", rows.slice().len());
            return Err(GpuError::Call { gpu: self.gpu.ordinal(), what: "the sieve", reason });
        }
        let mut at = [Map::default(); MAX_MAPS];
        at[..group.maps.len()].copy_from_slice(&group.maps);
        let (rule, first, scores) = match group.rule {
            Rule::Greatest { first, count } => (0, first as i32, count as i32),
            Rule::Product => (1, 0, 0),
            Rule::ProductOfLogits => (2, 0, 0),
        };
        let raw = RawGroup {
            at,
            maps: group.maps.len() as i32,
            cells: group.cells as i32,
            rule,
            first,
            scores,
            row: group.row() as i32,
        };
        let (cap, counts, rows) = (cap as i32, counts.0.address + counts.1 as u64, rows.address());
        let config = LaunchConfig {
            grid_dim: (group.cells.div_ceil(256).max(1), items as u32, 1),
            block_dim: (256, 1, 1),
            shared_mem_bytes: 0,
        };
        self.gpu.bind()?;
        let mut launch = self.raw.launch_builder(&self.gpu.kernels.sieve);
        launch.arg(&raw).arg(&threshold).arg(&cap).arg(&counts).arg(&rows);
        // SAFETY: the arguments have the kernel's layout; it writes inside `counts` and `rows` (checked) and reads inside
        // the maps, whose extents are those of the tensors that the caller holds.
        unsafe { launch.launch(config) }.map(drop).map_err(|e| self.gpu.failed("the sieve", e))
    }
}
