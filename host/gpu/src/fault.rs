//! A fault on purpose: tests see what a lost GPU does.
//!
//! Owns one kernel that writes where nothing is. Must not be called by anything but a test: the process cannot use the
//! GPU afterwards.

use cudarc::driver::LaunchConfig;
use cudarc::nvrtc::Ptx;

use crate::Gpu;
use crate::error::GpuError;

const PTX: &str = "\
.version 7.0
.target sm_50
.address_size 64
.visible .entry lose() {
.reg .b64 %rd<2>;
.reg .b32 %r<2>;
mov.u64 %rd1, 64;
mov.u32 %r1, 1;
st.global.u32 [%rd1], %r1;
ret;
}
";

impl Gpu {
    /// Makes this process lose the GPU, as a fault of the card would.
    ///
    /// # Errors
    /// When it answers all the same, or the driver refuses.
    #[doc(hidden)]
    pub fn lose_for_test(&self) -> Result<(), GpuError> {
        let failed = |what| move |e| self.failed(what, e);
        let module = self.context.load_module(Ptx::from_src(PTX)).map_err(failed("loading a kernel"))?;
        let kernel = module.load_function("lose").map_err(failed("finding a kernel"))?;
        let stream = self.context.new_stream().map_err(failed("making a stream"))?;
        let one = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the kernel takes no argument; that it faults is what it is for.
        unsafe { stream.launch_builder(&kernel).launch(one) }.map_err(failed("launching a kernel"))?;
        // Not noted: that it is lost is for those to notice who use it.
        match self.context.synchronize().map_err(|e| GpuError::of(self.ordinal(), "asking it to answer", e)) {
            Err(error) if error.is_lost() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let (gpu, reason) = (self.ordinal(), "it answers all the same".to_owned());
                Err(GpuError::Call { gpu, what: "losing it", reason })
            }
        }
    }
}
