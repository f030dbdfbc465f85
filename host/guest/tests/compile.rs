//! Whose turn it is to be compiled: a bounded queue, which what is in the cache does not join.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use facestream_guest_host::{CompileConfig, CompileJob, Compiler, GuestComponent, GuestConfig, GuestEngine, LoadError};

/// A test double of the compiler: says that it was asked, waits to be told, and then gives up. It never makes code.
#[derive(Debug)]
struct Held {
    asked: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

impl Compiler for Held {
    fn compile(&self, _: &CompileJob<'_>) -> Result<Vec<u8>, LoadError> {
        self.asked.lock().unwrap().send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        Err(LoadError::Compile("the double makes no code".to_owned()))
    }
}

#[test]
fn what_was_compiled_before_waits_for_nobody_and_the_queue_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let compile = CompileConfig { max_waiting: 0, ..CompileConfig::default() };
    let config = GuestConfig { cache_dir: Some(dir.path().to_owned()), compile, ..kit::config() };
    let known = kit::tracker(&[]);
    kit::load(&GuestEngine::new(&config).unwrap(), &known);

    let ((asked, was_asked), (tell, go)) = (channel(), channel());
    let held = Held { asked: Mutex::new(asked), go: Mutex::new(go) };
    let engine = GuestEngine::with_compiler(&config, Arc::new(held)).unwrap();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| GuestComponent::load(&engine, &kit::scorer(&[])).unwrap_err());
        was_asked.recv().unwrap();
        // The compiler is taken, and stays so until it is told below.
        kit::load(&engine, &known);
        let refused = GuestComponent::load(&engine, &kit::formatter(&[])).unwrap_err();
        assert_eq!(refused, LoadError::CompileBusy { waiting: 0 });
        assert!(!slow.is_finished());
        tell.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), LoadError::Compile("the double makes no code".to_owned()));
    });
}
