//! Pixels of a crop that a recorder was told to keep: shared while in memory, written as raw planes.
//!
//! Owns the form in a file and the checks on reading it back. Where nothing is kept it is empty and costs nothing.

use std::sync::Arc;

use facestream_core::Picture;
use facestream_core::frame::ColorMatrix;
use facestream_pixels::HostPicture;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Pixels, or none. Two are equal whatever they hold: a picture is no part of a guest's answer.
#[derive(Clone, Debug, Default)]
pub struct Kept(Option<Arc<dyn Picture>>);

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// I420 in a file: planes Y, U, V one after the other, rows without padding.
#[derive(Serialize, Deserialize)]
struct Raw {
    width: u32,
    height: u32,
    full_range: bool,
    bt709: bool,
    data: Vec<u8>,
}

impl Kept {
    pub(crate) fn of(picture: &Arc<dyn Picture>, keep: bool) -> Self {
        Self(keep.then(|| Arc::clone(picture)))
    }

    /// The picture.
    #[must_use]
    pub fn picture(&self) -> Option<&Arc<dyn Picture>> {
        self.0.as_ref()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |p| p.bytes())
    }

    fn raw(&self) -> Option<Raw> {
        let picture = self.0.as_ref()?;
        // A crop lies in host memory; one that cannot be read is left out, as if it had not been kept.
        let copy = HostPicture::from_planes(picture.planes()?).ok()?;
        let planes = copy.view();
        let mut data = Vec::with_capacity(planes.y.len() + planes.u.len() + planes.v.len());
        for plane in [planes.y, planes.u, planes.v] {
            data.extend_from_slice(plane);
        }
        let (full_range, bt709) = (planes.full_range, planes.matrix == ColorMatrix::Bt709);
        Some(Raw { width: planes.width, height: planes.height, full_range, bt709, data })
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.raw().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Some(raw) = Option::<Raw>::deserialize(d)? else { return Ok(Self(None)) };
        let matrix = if raw.bt709 { ColorMatrix::Bt709 } else { ColorMatrix::Bt601 };
        // Sizes whose product no buffer could have are refused before they are multiplied.
        if raw.width > 65_536 || raw.height > 65_536 {
            return Err(D::Error::custom(format!("a kept picture of {}x{}", raw.width, raw.height)));
        }
        let picture = HostPicture::new(raw.width, raw.height, raw.data, raw.full_range, matrix)
            .map_err(|e| D::Error::custom(e.to_string()))?;
        Ok(Self(Some(Arc::new(picture))))
    }
}
