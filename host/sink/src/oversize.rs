//! Messages that are too large: their pictures go to files, the message refers to them.
//!
//! Owns `images/<camera>/` of the data folder. A field `image_base64` anywhere in a JSON payload is replaced by
//! `image_ref`, the file's path relative to the data folder (`images/cam-1/cam-1_0_17_5_improved_0-1f3a90bc.jpg`), and
//! the message gets the header `image-ref: true`. The quality of pictures is the formatter's business, before this.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use facestream_core::{Clock, Message};
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
/// While the space is used up the folder is read again so often at most: there may be very many files in it.
const MEASURE_EVERY: Duration = Duration::from_secs(30);

/// Moves pictures of too large messages to files.
#[derive(Debug)]
pub(crate) struct Oversize {
    fs: Arc<dyn FileSystem>,
    clock: Arc<dyn Clock>,
    data: PathBuf,
    max_message_bytes: usize,
    max_image_bytes: u64,
    space: Mutex<Space>,
}

/// What pictures take on the disk, in bytes.
#[derive(Debug)]
struct Space {
    stored: u64,
    /// Set aside for those that are being written.
    writing: u64,
    /// Monotonic time (ns) when the folder was read again.
    measured_ns: Option<u64>,
}

/// A message made to fit, and the files that were written for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fitted {
    pub(crate) message: Message,
    files: Vec<Stored>,
}

#[derive(Debug, PartialEq, Eq)]
struct Stored {
    path: PathBuf,
    bytes: u64,
    /// Size of the file that was there before: the same input gives the same names, run after run.
    replaced: Option<u64>,
}

impl Oversize {
    /// Counts what is there already.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        data: &Path,
        max_message_bytes: usize,
        max_image_bytes: u64,
    ) -> io::Result<Self> {
        let space = Space { stored: measure(&*fs, data)?, writing: 0, measured_ns: None };
        Ok(Self { fs, clock, data: data.to_owned(), max_message_bytes, max_image_bytes, space: Mutex::new(space) })
    }

    /// One that refers to files in place of a message that is too large; `None`: the message fits as it is. Whoever does
    /// not take it in the end calls [`Oversize::take_back`].
    pub(crate) fn fit(&self, message: &Message) -> Result<Option<Fitted>, RefuseReason> {
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
        self.reserve(bytes)?;
        let mut fitted = Fitted { message: small, files: Vec::new() };
        let stored = images.iter().try_for_each(|image| self.store(image).map(|file| fitted.files.push(file)));
        let replaced: u64 = fitted.files.iter().filter_map(|file| file.replaced).sum();
        let mut space = self.space();
        space.writing -= bytes;
        space.stored =
            (space.stored + fitted.files.iter().map(|file| file.bytes).sum::<u64>()).saturating_sub(replaced);
        drop(space);
        if let Err(error) = stored {
            tracing::warn!(camera = %message.camera, id = %message.id, %error, "A picture could not be written.");
            self.take_back(&fitted);
            return Err(RefuseReason::ImageNotStored);
        }
        Ok(Some(fitted))
    }

    /// Deletes what was written for a message that is not taken after all.
    pub(crate) fn take_back(&self, fitted: &Fitted) {
        // One that was there before belongs to a message of that id that was taken.
        for file in fitted.files.iter().filter(|file| file.replaced.is_none()) {
            match self.fs.remove(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %file.path.display(), %error, "A picture that nothing refers to stays.");
                }
                _ => {
                    let mut space = self.space();
                    space.stored = space.stored.saturating_sub(file.bytes);
                }
            }
        }
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets space aside for pictures to be written.
    fn reserve(&self, bytes: u64) -> Result<(), RefuseReason> {
        let mut space = self.space();
        let full = |space: &Space| space.stored + space.writing + bytes > self.max_image_bytes;
        let now_ns = self.clock.monotonic_ns();
        let measured = space.measured_ns.map(|at| Duration::from_nanos(now_ns.saturating_sub(at)));
        if full(&space) && measured.is_none_or(|ago| ago >= MEASURE_EVERY) {
            // Those whom messages refer to delete pictures; nobody tells.
            space.measured_ns = Some(now_ns);
            match measure(&*self.fs, &self.data) {
                Ok(stored) => space.stored = stored,
                Err(error) => tracing::warn!(%error, "The pictures of too large messages cannot be counted."),
            }
        }
        if full(&space) {
            let (held, max) = (space.stored + space.writing, self.max_image_bytes);
            tracing::warn!(held, max, "The space for pictures of too large messages is used up.");
            return Err(RefuseReason::ImageNotStored);
        }
        space.writing += bytes;
        Ok(())
    }

    fn store(&self, image: &Image) -> io::Result<Stored> {
        let path = self.data.join(&image.reference);
        if let Some(dir) = path.parent() {
            self.fs.create_dir_all(dir)?;
        }
        let replaced = match self.fs.open(&path, false).and_then(|file| file.size()) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        write_whole(&*self.fs, &path, &image.bytes)?;
        Ok(Stored { path, bytes: image.bytes.len() as u64, replaced })
    }
}

/// Bytes of all pictures.
fn measure(fs: &dyn FileSystem, data: &Path) -> io::Result<u64> {
    let images = data.join("images");
    let mut held = 0;
    for camera in fs.dirs(&images)? {
        held += match fs.list(&images.join(camera)) {
            Ok(files) => files.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            // Deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(held)
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
    use facestream_core::SimulatedClock;

    use super::*;
    use crate::tests::mem_fs::MemFs;
    use crate::tests::message;

    fn oversize(fs: &MemFs, max: usize, images: u64) -> Oversize {
        timed(fs, Arc::new(SimulatedClock::at(0)), max, images)
    }

    fn timed(fs: &MemFs, clock: Arc<SimulatedClock>, max: usize, images: u64) -> Oversize {
        Oversize::new(Arc::new(fs.clone()), clock, Path::new("/data"), max, images).unwrap()
    }

    fn held(sink: &Oversize) -> (u64, u64) {
        let space = sink.space();
        (space.stored, space.writing)
    }

    /// A message that is too large for its picture of so many bytes.
    fn with_picture(n: u64, bytes: usize) -> Message {
        let payload = serde_json::json!({"image_base64": STANDARD.encode(vec![1; bytes])});
        Message { payload: payload.to_string().into(), ..message(n, 0) }
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
        let small = sink.fit(&m).unwrap().unwrap().message;
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
    fn what_is_taken_back_leaves_neither_file_nor_bytes() {
        let fs = MemFs::default();
        let sink = oversize(&fs, 2000, 4000);
        for n in 0..3 {
            let fitted = sink.fit(&with_picture(n, 3000)).unwrap().unwrap();
            assert_eq!(fs.paths().len(), 1);
            sink.take_back(&fitted);
            assert_eq!(fs.paths(), Vec::<PathBuf>::new());
        }
        assert_eq!(held(&sink), (0, 0));
        // Taken once: the same message, refused when it comes again, does not take the picture of the first one along.
        assert!(sink.fit(&with_picture(7, 1900)).is_ok());
        let again = sink.fit(&with_picture(7, 1900)).unwrap().unwrap();
        sink.take_back(&again);
        assert_eq!((fs.paths().len(), held(&sink)), (1, (1900, 0)));
    }

    #[test]
    fn a_picture_that_cannot_be_written_takes_those_before_it_along() {
        let fs = MemFs::default();
        let sink = oversize(&fs, 2000, 1 << 20);
        let two = [1, 2].map(|n| serde_json::json!({"image_base64": STANDARD.encode([n; 3000])}));
        let m = with_payload(&serde_json::json!(two));
        fs.set_space(Some(4000));
        assert_eq!(sink.fit(&m), Err(RefuseReason::ImageNotStored));
        assert_eq!((fs.paths(), held(&sink)), (Vec::new(), (0, 0)));
    }

    #[test]
    fn pictures_that_somebody_deleted_make_room_and_the_folder_is_not_read_all_the_time() {
        let fs = MemFs::default();
        let clock = Arc::new(SimulatedClock::at(0));
        let sink = timed(&fs, Arc::clone(&clock), 2000, 4000);
        let delete = || fs.paths().iter().for_each(|path| fs.delete(path));
        assert!(sink.fit(&with_picture(1, 3000)).is_ok());
        delete();
        assert!(sink.fit(&with_picture(2, 3000)).is_ok(), "found to be gone");
        delete();
        assert_eq!(sink.fit(&with_picture(3, 3000)), Err(RefuseReason::ImageNotStored), "looked just now");
        clock.advance(MEASURE_EVERY);
        assert!(sink.fit(&with_picture(4, 3000)).is_ok());
        clock.advance(MEASURE_EVERY);
        assert_eq!(sink.fit(&with_picture(5, 3000)), Err(RefuseReason::ImageNotStored), "really used up");
    }

    #[test]
    fn ids_cannot_leave_the_folder() {
        let mut m = message(1, 0);
        m.id.0 = "../../etc/passwd".into();
        let name = file_name(&m, 0, &[0xff, 0xd8]);
        assert!(name.starts_with("images/cam-1/.._.._etc_passwd-") && name.matches('/').count() == 2, "{name}");
    }
}
