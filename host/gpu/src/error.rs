//! What can go wrong with a GPU, in words that name the cause and the remedy.

use cudarc::driver::DriverError;

/// Why a GPU cannot be used, or stopped being usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// No `libcuda` on this machine.
    #[error("no NVIDIA driver: libcuda.so.1 cannot be loaded; install the driver, or set `device = \"cpu\"`")]
    NoDriver,
    /// The driver is there and refuses to start.
    #[error("the NVIDIA driver does not start: {0}; see `nvidia-smi`")]
    Init(String),
    /// The driver is older than what the kernels were compiled for.
    #[error("the NVIDIA driver supports CUDA {found}, FaceStream needs {needed} or newer; update the driver")]
    OldDriver {
        /// CUDA version of the driver.
        found: String,
        /// The least that is needed.
        needed: String,
    },
    /// There are fewer GPUs than that.
    #[error("cuda:{asked} does not exist: this machine has {found} GPU(s), numbered from 0")]
    NoSuchGpu {
        /// Asked for.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// The GPU's memory is used up.
    #[error("cuda:{gpu} is out of memory: {wanted} bytes wanted; run fewer cameras on it, or a smaller model")]
    OutOfMemory {
        /// Which GPU.
        gpu: usize,
        /// Bytes that were asked for.
        wanted: usize,
    },
    /// The GPU fell off the bus, or its context was destroyed by an earlier fault. Only a new process can use it again.
    #[error(
        "cuda:{gpu} is lost ({reason}); restart FaceStream, and look at `dmesg` for Xid messages when it happens again"
    )]
    Lost {
        /// Which GPU.
        gpu: usize,
        /// The driver's words.
        reason: String,
    },
    /// Anything else that the driver refuses.
    #[error("cuda:{gpu}: {what} failed: {reason}")]
    Call {
        /// Which GPU.
        gpu: usize,
        /// What was tried.
        what: &'static str,
        /// The driver's words.
        reason: String,
    },
}

impl GpuError {
    /// Sorts a driver's error by what can be done about it.
    pub(crate) fn of(gpu: usize, what: &'static str, error: DriverError) -> Self {
        use cudarc::driver::sys::CUresult as C;
        let reason = words(error);
        match error.0 {
            C::CUDA_ERROR_OUT_OF_MEMORY => Self::OutOfMemory { gpu, wanted: 0 },
            // Errors after which the context answers nothing any more ("sticky", CUDA driver API).
            C::CUDA_ERROR_ILLEGAL_ADDRESS
            | C::CUDA_ERROR_LAUNCH_FAILED
            | C::CUDA_ERROR_HARDWARE_STACK_ERROR
            | C::CUDA_ERROR_ECC_UNCORRECTABLE
            | C::CUDA_ERROR_ASSERT
            | C::CUDA_ERROR_LAUNCH_TIMEOUT
            | C::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | C::CUDA_ERROR_MISALIGNED_ADDRESS
            | C::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | C::CUDA_ERROR_INVALID_PC
            | C::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | C::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | C::CUDA_ERROR_DEVICE_UNAVAILABLE => Self::Lost { gpu, reason },
            _ => Self::Call { gpu, what, reason },
        }
    }

    /// Which GPU it is about, where it is about one.
    #[must_use]
    pub fn gpu(&self) -> Option<usize> {
        match self {
            Self::OutOfMemory { gpu, .. } | Self::Lost { gpu, .. } | Self::Call { gpu, .. } => Some(*gpu),
            Self::NoDriver | Self::Init(_) | Self::OldDriver { .. } | Self::NoSuchGpu { .. } => None,
        }
    }

    /// Whether the GPU will not answer this process any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// The driver's own text of an error.
pub(crate) fn words(error: DriverError) -> String {
    let name = error.error_name().map(|n| n.to_string_lossy().into_owned());
    let text = error.error_string().map(|n| n.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name}, {text}"),
        _ => format!("CUDA error {}", error.0 as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_driver_or_the_gpu_is_told_what_to_do() {
        // On a machine with a GPU the last one of 4,096 is missing all the same.
        let error = crate::Gpu::open(4_095).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(
                error,
                GpuError::NoDriver | GpuError::NoSuchGpu { .. } | GpuError::Init(_) | GpuError::OldDriver { .. }
            ),
            "{text}"
        );
        assert!(text.contains("driver") || text.contains("numbered from 0"), "{text}");
        assert!(!error.is_lost());
    }
}
