//! Messages that are too large: their pictures go to files, the message refers to them.
//!
//! Owns `images/<camera>/` of the data folder. A field `image_base64` anywhere in a JSON payload is replaced by
//! `image_ref`, the file's path relative to the data folder (`images/cam-1/cam-1_0_17_5_improved_0-1f3a90bc.jpg`), and
//! the message gets the header `image-ref: true`. The quality of pictures is the formatter's business, before this.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use facestream_core::Message;
use serde_json::{Map, Value};

use crate::check::all_headers;
use crate::fs::{FileSystem, write_whole};
use crate::status::RefuseReason;

/// The field that formatters put pictures into, and the one that takes its place.
const FIELD: &str = "image_base64";
const REFERENCE: &str = "image_ref";
/// Kafka's record and batch framing, generously (at most 21 bytes a record and 61 a batch, KIP-98, and varints).
const FRAMING: usize = 256;
const FRAMING_PER_HEADER: usize = 10;

/// Moves pictures of too large messages to files.
#[derive(Debug)]
pub(crate) struct Oversize {
    fs: Arc<dyn FileSystem>,
    data: PathBuf,
    max_message_bytes: usize,
    max_image_bytes: u64,
    image_bytes: AtomicU64,
}

impl Oversize {
    /// Counts what is there already.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        data: &Path,
        max_message_bytes: usize,
        max_image_bytes: u64,
    ) -> io::Result<Self> {
        let images = data.join("images");
        let mut held = 0;
        for camera in fs.dirs(&images)? {
            held += fs.list(&images.join(camera))?.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
        Ok(Self { fs, data: data.to_owned(), max_message_bytes, max_image_bytes, image_bytes: AtomicU64::new(held) })
    }

    /// A message that fits: the same one, or one that refers to files. `true`: it was changed.
    pub(crate) fn fit(&self, message: &Message) -> Result<Option<Message>, RefuseReason> {
        if sent_size(message) <= self.max_message_bytes {
            return Ok(None);
        }
        let mut payload: Value = serde_json::from_slice(&message.payload).map_err(|_| RefuseReason::TooLarge)?;
        let mut images = Vec::new();
        take_images(&mut payload, message, &mut images);
        let small = serde_json::to_vec(&payload).map_err(|_| RefuseReason::TooLarge)?;
        let mut headers = message.headers.clone();
        headers.retain(|(name, _)| name != "image-ref");
        headers.push(("image-ref".to_owned(), "true".to_owned()));
        let small = Message { payload: Bytes::from(small), headers, ..message.clone() };
        // Checked before anything is written: no files for messages that are refused all the same.
        if images.is_empty() || sent_size(&small) > self.max_message_bytes {
            return Err(RefuseReason::TooLarge);
        }
        let bytes: u64 = images.iter().map(|i| i.bytes.len() as u64).sum();
        let held = self.image_bytes.fetch_add(bytes, Ordering::Relaxed);
        let stored = if held + bytes > self.max_image_bytes {
            tracing::warn!(
                held,
                max = self.max_image_bytes,
                "The space for pictures of too large messages is used up."
            );
            Err(RefuseReason::ImageNotStored)
        } else {
            images.iter().try_for_each(|image| self.store(image)).map_err(|error| {
                tracing::warn!(camera = %message.camera, id = %message.id, %error, "A picture could not be written.");
                RefuseReason::ImageNotStored
            })
        };
        if let Err(reason) = stored {
            self.image_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(reason);
        }
        Ok(Some(small))
    }

    fn store(&self, image: &Image) -> io::Result<()> {
        let path = self.data.join(&image.reference);
        if let Some(dir) = path.parent() {
            self.fs.create_dir_all(dir)?;
        }
        write_whole(&*self.fs, &path, &image.bytes)
    }
}

/// What a message takes on the wire before compression, at most.
pub(crate) fn sent_size(message: &Message) -> usize {
    let headers: usize = all_headers(message).map(|(n, v)| n.len() + v.len() + FRAMING_PER_HEADER).sum();
    message.key.len() + message.payload.len() + headers + FRAMING
}

#[derive(Debug)]
struct Image {
    /// Relative to the data folder.
    reference: String,
    bytes: Vec<u8>,
}

/// Takes pictures out of a value and leaves references. What is no base64 stays where it is.
fn take_images(value: &mut Value, message: &Message, images: &mut Vec<Image>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| take_images(item, message, images)),
        Value::Object(map) => {
            let decoded = map.get(FIELD).and_then(Value::as_str).and_then(decode);
            for (_, item) in map.iter_mut() {
                take_images(item, message, images);
            }
            if let Some(bytes) = decoded {
                let reference = file_name(message, images.len(), &bytes);
                // The reference stands where the picture stood.
                *map = std::mem::take(map)
                    .into_iter()
                    .map(|(key, item)| match key.as_str() {
                        FIELD => (REFERENCE.to_owned(), Value::String(reference.clone())),
                        _ => (key, item),
                    })
                    .collect::<Map<_, _>>();
                images.push(Image { reference, bytes });
            }
        }
        _ => {}
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    // Some formatters write whole data URLs.
    let text = text.strip_prefix("data:").map_or(text, |rest| rest.split_once(";base64,").map_or("", |(_, data)| data));
    STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())
}

fn file_name(message: &Message, index: usize, bytes: &[u8]) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let name: String = message.id.0.bytes().take(160).map(|b| if safe(b) { b as char } else { '_' }).collect();
    // Two ids may become the same name: the sum tells them apart, and keeps a name from starting a path of its own.
    let sum = crc32fast::hash(message.id.0.as_bytes());
    let number = if index == 0 { String::new() } else { format!("-{index}") };
    let extension = match bytes {
        [0xff, 0xd8, ..] => "jpg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', ..] => "webp",
        _ => "bin",
    };
    format!("images/{}/{name}-{sum:08x}{number}.{extension}", message.camera)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::mem_fs::MemFs;
    use crate::tests::message;

    fn oversize(fs: &MemFs, max: usize, images: u64) -> Oversize {
        Oversize::new(Arc::new(fs.clone()), Path::new("/data"), max, images).unwrap()
    }

    fn with_payload(payload: &Value) -> Message {
        Message { payload: payload.to_string().into(), ..message(1, 0) }
    }

    #[test]
    fn small_messages_pass_and_pictures_of_large_ones_go_to_files() {
        let fs = MemFs::default();
        let sink = oversize(&fs, 2000, 1 << 20);
        assert_eq!(sink.fit(&message(1, 100)), Ok(None));
        let jpeg = [&[0xff, 0xd8][..], &[7; 5000]].concat();
        let text = STANDARD.encode(&jpeg);
        let m =
            with_payload(&serde_json::json!({"a": 1, "image_base64": text, "z": [{"image_base64": "iVBORw0KGgo="}]}));
        let small = sink.fit(&m).unwrap().unwrap();
        let payload: Value = serde_json::from_slice(&small.payload).unwrap();
        assert_eq!(payload.as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "image_ref", "z"], "order is kept");
        let reference = payload["image_ref"].as_str().unwrap();
        assert!(reference.starts_with("images/cam-1/cam-1_0_1_") && reference.ends_with(".jpg"), "{reference}");
        assert_eq!(fs.read(&Path::new("/data").join(reference)).unwrap(), jpeg);
        let second = payload["z"][0]["image_ref"].as_str().unwrap();
        assert!(second.ends_with(".png") && second != reference);
        assert!(small.headers.contains(&("image-ref".into(), "true".into())));
        assert!(sent_size(&small) <= 2000);
    }

    #[test]
    fn what_cannot_be_made_small_is_refused_and_leaves_no_file() {
        let fs = MemFs::default();
        let sink = oversize(&fs, 2000, 1 << 20);
        let big = "x".repeat(3000);
        let picture = STANDARD.encode([1; 3000]);
        for payload in [
            serde_json::json!({"text": big}),
            serde_json::json!({"image_base64": "not base64!", "text": big}),
            serde_json::json!({"image_base64": picture, "text": big}),
        ] {
            assert_eq!(sink.fit(&with_payload(&payload)), Err(RefuseReason::TooLarge));
        }
        assert_eq!(sink.fit(&message(1, 5000)), Err(RefuseReason::TooLarge), "no JSON");
        assert_eq!(fs.paths(), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_space_for_pictures_is_bounded_and_a_full_disk_is_told() {
        let fs = MemFs::default();
        let sink = oversize(&fs, 2000, 4000);
        let m = with_payload(&serde_json::json!({"image_base64": STANDARD.encode([1; 3000])}));
        assert!(sink.fit(&m).is_ok());
        assert_eq!(sink.fit(&m), Err(RefuseReason::ImageNotStored));
        let sink = oversize(&fs, 2000, 1 << 20);
        fs.set_space(Some(10));
        assert_eq!(sink.fit(&m), Err(RefuseReason::ImageNotStored));
        fs.set_space(None);
        assert!(sink.fit(&m).is_ok());
    }

    #[test]
    fn ids_cannot_leave_the_folder() {
        let mut m = message(1, 0);
        m.id.0 = "../../etc/passwd".into();
        let name = file_name(&m, 0, &[0xff, 0xd8]);
        assert!(name.starts_with("images/cam-1/.._.._etc_passwd-") && name.matches('/').count() == 2, "{name}");
    }
}
