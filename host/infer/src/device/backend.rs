//! One session on a GPU: letterbox, run, sieve, decode.
//!
//! Owns the buffers of one session. Pictures that already lie on the GPU never leave it; those in host memory (cameras that
//! the processor decodes) are laid into the tensor by the processor's own letterbox and copied.

use std::sync::Arc;
use std::time::Instant;

use facestream_core::{Detection, Frame};
use facestream_gpu::{Buffer, DevicePicture, Pinned};

use super::Inner;
use super::candidates::{Candidates, Output};
use super::letterbox::DeviceLetterbox;
use super::session::{DeviceSession, Mode};
use crate::backend::{Backend, in_host_memory};
use crate::config::Provider;
use crate::error::InferError;
use crate::geometry::Geometry;
use crate::letterbox::Letterbox;
use crate::nms::{Selection, select};

/// A session with its buffers.
#[derive(Debug)]
pub(crate) struct DeviceBackend {
    model: Arc<Inner>,
    session: DeviceSession,
    input: Buffer,
    outputs: Vec<Output>,
    candidates: Candidates,
    device_letterbox: DeviceLetterbox,
    letterbox: Letterbox,
    /// A slot of the input for pictures in host memory.
    staging: Vec<Pinned<f32>>,
}

impl DeviceBackend {
    pub(super) fn open(model: &Arc<Inner>) -> Result<Self, InferError> {
        let on_gpu = |e| model.on_gpu(e);
        let session = DeviceSession::open(model)?;
        let numbers = 3 * model.size.0 as usize * model.size.1 as usize;
        let input = Buffer::new(&model.gpu, model.max_batch * numbers * size_of::<f32>()).map_err(on_gpu)?;
        let mut outputs = Vec::new();
        for (index, output) in model.description.outputs.iter().enumerate() {
            let dims = model.family.extents(index, output, model.size).map_err(|reason| model.wrong(reason))?;
            let len: usize = dims.iter().product();
            let buffer = Buffer::new(&model.gpu, model.max_batch * len * size_of::<f32>()).map_err(on_gpu)?;
            outputs.push(Output { name: output.name.clone(), dims, buffer });
        }
        let candidates =
            Candidates::new(session.stream(), &*model.family, &outputs, model.max_batch).map_err(on_gpu)?;
        let letterbox = Letterbox::new(model.spec);
        Ok(Self {
            model: Arc::clone(model),
            session,
            input,
            outputs,
            candidates,
            device_letterbox: DeviceLetterbox::new(model.spec, model.size),
            letterbox,
            staging: Vec::new(),
        })
    }

    /// Runs every batch size that will be used: the first run of each costs up to seconds. Gives images a second at the
    /// largest, what admission reckons with.
    pub(super) fn warm_up(&mut self) -> Result<f32, InferError> {
        let most = self.model.max_batch;
        let one_size = self.model.info.provider == Provider::Cuda;
        let fewer = if one_size { 0 } else { most };
        for batch in [1, 2, 4, 8, 16, 24, 32].into_iter().filter(|n| *n < fewer).chain([most]) {
            self.run_alone(batch)?;
        }
        let (runs, started) = (5, Instant::now());
        for _ in 0..runs {
            self.run_alone(most)?;
        }
        Ok((runs * most) as f32 / started.elapsed().as_secs_f32().max(1e-6))
    }

    /// Runs whatever lies in the input and reads what is found, for measuring.
    ///
    /// # Errors
    /// When the run fails.
    pub(crate) fn run_alone(&mut self, batch: usize) -> Result<(), InferError> {
        let size = self.model.size;
        let whole = Geometry::new(size, size, self.model.spec.fit);
        self.finish(&vec![whole; batch]).map(drop)
    }

    /// Lays pictures into the input, in order.
    fn lay(&mut self, frames: &[Frame]) -> Result<Vec<Geometry>, InferError> {
        let size = self.model.size;
        let spec = self.model.spec;
        let mut geometries = Vec::with_capacity(frames.len());
        for frame in frames {
            let source = (frame.picture.width(), frame.picture.height());
            if source.0 == 0 || source.1 == 0 {
                return Err(InferError::Picture(format!("its size is {}x{}", source.0, source.1)));
            }
            geometries.push(Geometry::new(source, size, spec.fit));
        }
        let ordinal = self.model.gpu.ordinal();
        let mut on_device = Vec::with_capacity(frames.len());
        let mut in_host = 0;
        for (slot, (frame, geometry)) in frames.iter().zip(&geometries).enumerate() {
            let picture = frame.picture.as_any().downcast_ref::<DevicePicture>();
            match picture.filter(|p| p.gpu().ordinal() == ordinal) {
                Some(picture) => on_device.push((slot, picture, *geometry)),
                None => {
                    self.lay_from_host(frame, geometry, slot, in_host)?;
                    in_host += 1;
                }
            }
        }
        let Self { model, session, input, device_letterbox, .. } = self;
        device_letterbox.lay(session.stream(), &on_device, input).map_err(|e| model.on_gpu(e))?;
        Ok(geometries)
    }

    fn lay_from_host(
        &mut self,
        frame: &Frame,
        geometry: &Geometry,
        slot: usize,
        staged: usize,
    ) -> Result<(), InferError> {
        let copy = in_host_memory(&frame.picture)?;
        let planes = copy.planes().ok_or_else(|| InferError::Picture("its pixels cannot be read".to_owned()))?;
        let numbers = 3 * self.model.size.0 as usize * self.model.size.1 as usize;
        // One for each such picture of a batch: copies are under way until the run is over.
        while self.staging.len() <= staged {
            self.staging.push(Pinned::new(&self.model.gpu, numbers).map_err(|e| self.model.on_gpu(e))?);
        }
        let memory = &mut self.staging[staged];
        self.letterbox.write(&planes, geometry, memory.slice_mut())?;
        let at = slot * numbers * size_of::<f32>();
        self.session.stream().upload(memory.slice(), &self.input, at).map_err(|e| self.model.on_gpu(e))
    }

    /// Runs what lies in the input and reads what was found.
    fn finish(&mut self, geometries: &[Geometry]) -> Result<Vec<Vec<Detection>>, InferError> {
        let Self { model, session, input, outputs, candidates, .. } = self;
        let batch = geometries.len();
        // A model with a fixed batch runs all of it; what lies in the other slots is not read. ONNX Runtime's CUDA kernels
        // are set up anew whenever the batch size changes, seconds each time (measured: cameras got nowhere, also with powers
        // of two), so there is one size.
        let mode = session.mode(batch, model.max_batch);
        let run = match model.info.provider {
            _ if mode == Mode::Full => model.max_batch,
            Provider::Cuda => model.spec.fixed_batch.unwrap_or(model.max_batch),
            _ => model.spec.fixed_batch.unwrap_or(batch),
        };
        let (width, height) = (i64::from(model.size.0), i64::from(model.size.1));
        let name = model.description.inputs.first().map_or("", |i| i.name.as_str());
        session.bind(mode, true, name, input, &[run as i64, 3, height, width]).map_err(|e| model.wrong(e))?;
        for output in &*outputs {
            let shape: Vec<i64> = [run as i64].into_iter().chain(output.dims.iter().map(|&n| n as i64)).collect();
            session.bind(mode, false, &output.name, &output.buffer, &shape).map_err(|e| model.wrong(e))?;
        }
        session.run(mode).map_err(|e| model.failed(&e))?;
        let threshold = model.config.score_threshold;
        let stream = session.stream();
        candidates.start(stream, batch, threshold).map_err(|e| model.on_gpu(e))?;
        let selection = Selection::of(model.family.thinning(), &model.config);
        let mut found: Vec<Result<Vec<Detection>, String>> = Vec::with_capacity(batch);
        candidates
            .read(stream, outputs, batch, |item, views| {
                let boxes = model.family.decode(views, 0, model.size, threshold);
                found.push(boxes.map(|boxes| select(boxes, &selection, &geometries[item])));
            })
            .map_err(|e| model.on_gpu(e))?;
        found.into_iter().map(|f| f.map_err(|reason| model.wrong(reason))).collect()
    }
}

impl Backend for DeviceBackend {
    fn infer(&mut self, frames: &[Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        let mut out = Vec::with_capacity(frames.len());
        for frames in frames.chunks(self.model.max_batch) {
            let found = self.lay(frames).and_then(|geometries| self.finish(&geometries));
            if found.is_err() {
                // The pictures go when this returns, and nothing may still be reading them.
                self.session.stream().synchronize().map_err(|e| self.model.on_gpu(e))?;
            }
            let found = found?;
            for (frame, found) in frames.iter().zip(&found) {
                if let Some(picture) = frame.picture.as_any().downcast_ref::<DevicePicture>() {
                    picture.expect(found.iter().map(|d| d.bbox));
                }
            }
            out.extend(found);
        }
        Ok(out)
    }
}

impl Drop for DeviceBackend {
    fn drop(&mut self) {
        // Nothing may still be reading what goes now.
        drop(self.session.stream().synchronize());
    }
}
