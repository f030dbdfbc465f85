//! Compilation kept in bounds: whose turn it is, and a process of its own that may use so much time and memory.
//!
//! Owns the queue before the compiler, the parent's and the child's side of that process. Must not decide what is
//! compiled (`component` refuses first) nor keep the result (`cache` does).
//!
//! Why a process: Cranelift cannot be interrupted and its memory cannot be counted inside of ours, and a component of a
//! few MiB can be made that keeps it busy for minutes. A process can be ended, and the kernel counts for us.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rlimit::Resource;

use crate::config::CompileConfig;
use crate::engine::{GuestEngine, child_engine};
use crate::error::{LoadError, one_line};

/// The hidden subcommand by which a program that links this crate compiles for another of its kind. It must do nothing
/// but call [`compile_child`] with the arguments that follow.
pub const COMPILE_COMMAND: &str = "compile-guest";
/// Bytes of the child's standard error that are looked at.
const MAX_STDERR: u64 = 16 * 1024;
/// Machine code of a component has at most so many bytes …
const CODE_BYTES: u64 = 16 * 1024 * 1024;
/// … and so many more for each byte of the component. Built-in guests come to 2.9, one in Python to 1.2. What the child may
/// use while it compiles is far more than what its result may take in this process.
const CODE_BYTES_PER_BYTE: u64 = 32;
/// Exit code of a child whose compiler said no; standard error has its words.
const REFUSED: i32 = 3;

/// What is to be compiled, and for which engine.
#[derive(Clone, Copy, Debug)]
pub struct CompileJob<'a> {
    /// A component that was inspected.
    pub bytes: &'a [u8],
    /// Everything that the machine code depends on, as one word.
    pub engine: &'a str,
    /// Whether the code counts fuel.
    pub metered: bool,
}

/// Makes machine code elsewhere than on the calling thread. Code that it returns is run as it is, so an implementation
/// must have made it itself, from these bytes.
pub trait Compiler: Send + Sync + std::fmt::Debug {
    /// Serialised code of a component.
    ///
    /// # Errors
    /// `Compile`, `CompileTime`, `CompileMemory`.
    fn compile(&self, job: &CompileJob<'_>) -> Result<Vec<u8>, LoadError>;
}

/// Runs this very program again for each component, as `<program> compile-guest …`.
#[derive(Clone, Debug)]
pub struct ChildCompiler {
    limits: CompileConfig,
}

impl ChildCompiler {
    /// The running program must answer to [`COMPILE_COMMAND`].
    #[must_use]
    pub fn new(limits: &CompileConfig) -> Self {
        Self { limits: limits.clone() }
    }

    fn spawn(&self, job: &CompileJob<'_>) -> io::Result<Child> {
        // By this name also when the file was replaced by a newer one meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .args([COMPILE_COMMAND, job.engine, if job.metered { "metered" } else { "plain" }])
            .args([self.limits.max_memory_bytes.to_string(), self.cpu_seconds().to_string()])
            // It needs nothing of ours; credentials in our environment are not its business.
            .env_clear()
            .env("RAYON_NUM_THREADS", self.limits.threads.to_string())
            // Each thread's arena reserves 64 MiB of address space, which is what is counted.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        command.spawn()
    }

    /// Processor time after which the kernel ends it, should this process not live to do so.
    fn cpu_seconds(&self) -> u64 {
        (u64::from(self.limits.timeout_ms) / 1000 + 1) * u64::from(self.limits.threads)
    }

    fn verdict(&self, status: ExitStatus, stderr: &str) -> LoadError {
        let out_of_memory = ["memory allocation of", "Cannot allocate memory", "os error 12", "failed to allocate"];
        let (memory, time) = (
            LoadError::CompileMemory { limit_bytes: self.limits.max_memory_bytes },
            LoadError::CompileTime { limit_ms: self.limits.timeout_ms },
        );
        match (status.code(), status.signal()) {
            (_, Some(libc::SIGXCPU)) => time,
            // Not by us: the kernel was short of memory.
            (_, Some(libc::SIGKILL)) => memory,
            _ if out_of_memory.iter().any(|words| stderr.contains(words)) => memory,
            (Some(REFUSED), _) => LoadError::Compile(one_line(stderr.trim(), 1024)),
            _ => LoadError::Compile(one_line(&format!("the compiler ended with {status}: {}", stderr.trim()), 1024)),
        }
    }
}

impl Compiler for ChildCompiler {
    fn compile(&self, job: &CompileJob<'_>) -> Result<Vec<u8>, LoadError> {
        let broken = |e: io::Error| LoadError::Compiler(e.to_string());
        let mut child = self.spawn(job).map_err(broken)?;
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(LoadError::Compiler("it has no pipes".to_owned()));
        };
        let limit = most_code(job.bytes.len()).min(self.limits.max_memory_bytes);
        std::thread::scope(|scope| {
            // A child that ends early leaves a broken pipe: its exit says more.
            scope.spawn(move || drop(stdin.write_all(job.bytes)));
            let words = scope.spawn(move || {
                let mut text = Vec::new();
                drop(stderr.by_ref().take(MAX_STDERR).read_to_end(&mut text));
                drop(io::copy(&mut stderr, &mut io::sink()));
                String::from_utf8_lossy(&text).into_owned()
            });
            let (done, finished) = sync_channel(1);
            scope.spawn(move || {
                // The receiver is there until the scope ends. With its pipe closed a child that writes on is ended.
                drop(done.send(read_code(stdout, limit)));
            });
            let code = finished.recv_timeout(Duration::from_millis(self.limits.timeout_ms.into()));
            if matches!(code, Err(RecvTimeoutError::Timeout) | Ok(Ok(None))) {
                // Already gone is fine.
                drop(child.kill());
            }
            let status = child.wait().map_err(broken)?;
            let words = words.join().unwrap_or_default();
            match code {
                Err(_) => Err(LoadError::CompileTime { limit_ms: self.limits.timeout_ms }),
                Ok(Ok(None)) => Err(LoadError::CodeSize { limit_bytes: limit }),
                Ok(_) if !status.success() => Err(self.verdict(status, &words)),
                Ok(Ok(Some(code))) => Ok(code),
                Ok(Err(e)) => Err(broken(e)),
            }
        })
    }
}

/// Bytes that the machine code of a component of this size may have.
fn most_code(component_bytes: usize) -> u64 {
    CODE_BYTES.saturating_add(CODE_BYTES_PER_BYTE.saturating_mul(component_bytes as u64))
}

/// What comes out of the child, if it is not more than `limit`.
fn read_code(from: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut code = Vec::new();
    // One more, to see that there is more.
    from.take(limit.saturating_add(1)).read_to_end(&mut code)?;
    Ok((code.len() as u64 <= limit).then_some(code))
}

/// The child's side: takes its limits from the arguments, a component from standard input, and writes the code to
/// standard output. Gives the exit code.
#[must_use]
pub fn compile_child(arguments: &[String]) -> u8 {
    match child(arguments) {
        Ok(()) => 0,
        Err(words) => {
            eprintln!("{words}");
            u8::try_from(REFUSED).unwrap_or(1)
        }
    }
}

fn child(arguments: &[String]) -> Result<(), String> {
    let [wanted, metered, memory, cpu] = arguments else {
        return Err("this command is the host's own: it compiles what the host sends it".to_owned());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
    let (memory, cpu) = (number(memory)?, number(cpu)?);
    limit(memory, cpu).map_err(|e| format!("limits cannot be set: {e}"))?;
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let (engine, is) = child_engine(metered == "metered").map_err(|e| format!("{e:#}"))?;
    if is != *wanted {
        return Err(format!("this program compiles for {is}, not for {wanted}"));
    }
    let code = engine.precompile_component(&bytes).map_err(|e| format!("{e:#}"))?;
    io::stdout().lock().write_all(&code).map_err(|e| e.to_string())
}

/// Limits that this process keeps from now on; no dump of its memory, and others go first.
#[allow(unsafe_code)]
fn limit(memory: u64, cpu: u64) -> io::Result<()> {
    Resource::AS.set(memory, memory)?;
    Resource::CPU.set(cpu, cpu)?;
    Resource::CORE.set(0, 0)?;
    // No file may be written, whatever happens; pipes are none.
    Resource::FSIZE.set(0, 0)?;
    // SAFETY: setpriority of this process has no preconditions. Not being nice is no reason to fail.
    let _nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    Ok(())
}

/// One compilation at a time: a burst of uploads must not take every core from the cameras.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    waiting: u32,
}

/// The right to compile, until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for the turn, unless too many do already.
    pub(crate) fn take(&self, max_waiting: u32) -> Result<Turn<'_>, LoadError> {
        // A panic while compiling leaves nothing half done behind the lock: two numbers, each changed at once.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.taken {
            if state.waiting >= max_waiting {
                return Err(LoadError::CompileBusy { waiting: state.waiting });
            }
            state.waiting += 1;
            state = self.freed.wait_while(state, |s| s.taken).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.taken = true;
        Ok(Turn(self))
    }

    /// How many wait now.
    #[cfg(test)]
    fn waiting(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).taken = false;
        self.0.freed.notify_one();
    }
}

impl GuestEngine {
    /// Serialised code from the compiler that it was made with; `None` when it compiles on the calling thread.
    pub(crate) fn compile_elsewhere(&self, bytes: &[u8]) -> Option<Result<Vec<u8>, LoadError>> {
        let job = CompileJob { bytes, engine: self.compatibility(), metered: self.is_metered() };
        self.compiler().map(|compiler| compiler.compile(&job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_without_end_is_read_no_further_than_it_may_go() {
        let whole = read_code(&[7; 100][..], 100).unwrap();
        assert_eq!(whole.unwrap(), [7; 100]);
        assert_eq!(read_code(&[7; 101][..], 100).unwrap(), None);
        let mut read = 0_u64;
        // A pipe that never ends, and counts what is taken from it.
        let endless = std::iter::from_fn(|| Some(1));
        struct Counted<'a, I>(I, &'a mut u64);
        impl<I: Iterator<Item = u8>> Read for Counted<'_, I> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                into.iter_mut().zip(&mut self.0).for_each(|(to, byte)| *to = byte);
                *self.1 += into.len() as u64;
                Ok(into.len())
            }
        }
        assert_eq!(read_code(Counted(endless, &mut read), 1 << 20).unwrap(), None);
        assert_eq!(read, (1 << 20) + 1);
        assert_eq!(most_code(0), CODE_BYTES);
        assert!(most_code(64 << 20) < 4 << 30, "the largest component that is taken by default");
        assert_eq!(most_code(usize::MAX), u64::MAX);
    }

    #[test]
    fn turns_are_taken_one_by_one_and_no_more_wait_than_may() {
        let turns = Turns::default();
        let first = turns.take(1).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| drop(turns.take(1).unwrap()));
            while turns.waiting() == 0 {
                std::thread::yield_now();
            }
            assert_eq!(turns.take(1).unwrap_err(), LoadError::CompileBusy { waiting: 1 });
            assert!(!second.is_finished(), "it waits for the first");
            drop(first);
            second.join().unwrap();
        });
        assert_eq!(turns.waiting(), 0);
        assert!(turns.take(0).is_ok(), "free again");
    }
}
