//! What serving costs: N cameras to N clients that read and throw away, in a process of their own.
//!
//! ```text
//! cargo run --release -p facestream-sim --example load -- CLIP [CAMERAS [SECONDS [tcp|udp]]]
//! ```
//!
//! Prints the server's processor time as a share of one core, how many pictures were due and sent, and its memory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use facestream_sim::{Clip, SimConfig, Simulator};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "--clients") {
        return clients(&args[1..]);
    }
    let Some(clip) = args.first() else { return Err("usage: load CLIP [CAMERAS [SECONDS [tcp|udp]]]".into()) };
    let cameras: usize = args.get(1).map_or(Ok(150), |n| n.parse())?;
    let seconds: u64 = args.get(2).map_or(Ok(20), |n| n.parse())?;
    let transport = args.get(3).map_or("tcp", String::as_str);
    let clip = Arc::new(Clip::load(Path::new(clip))?);
    // One thread: the claim is about one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(clip, cameras, seconds, transport))
}

async fn serve(clip: Arc<Clip>, cameras: usize, seconds: u64, transport: &str) -> Result<()> {
    let rate = clip.frame_rate();
    let simulator = Simulator::start(SimConfig { cameras, ..SimConfig::default() }, vec![Arc::clone(&clip)]).await?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--clients", transport])
        .args(simulator.urls())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let control = simulator.control();
    for camera in 0..cameras {
        let playing = control.wait_for(camera, Duration::from_secs(60), |stats| stats.playing > 0).await;
        playing.ok_or("a client did not begin to play")?;
    }
    let total = || -> Result<(u64, u64, u64, u64)> {
        let mut sum = (0, 0, 0, 0);
        for camera in 0..cameras {
            let stats = control.stats(camera)?;
            sum.0 += stats.units_sent;
            sum.1 += stats.units_dropped;
            sum.2 += stats.packets_sent;
            sum.3 += stats.bytes_sent;
        }
        Ok(sum)
    };
    let (cpu, before, start) = (cpu_seconds()?, total()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (cpu, after, elapsed) = (cpu_seconds()? - cpu, total()?, start.elapsed().as_secs_f64());
    drop(child.stdin.take());
    let mut report = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut report)?;
    }
    child.wait()?;
    println!(
        "{cameras} cameras over {transport}, {elapsed:.1} s: {:.1} % of one core; {} pictures sent of {:.0} due, {} dropped; \
         {:.0} packets/s, {:.1} Mbit/s; {:.1} MiB resident; clients read {} MiB",
        100.0 * cpu / elapsed,
        after.0 - before.0,
        rate * elapsed * cameras as f64,
        after.1 - before.1,
        (after.2 - before.2) as f64 / elapsed,
        (after.3 - before.3) as f64 * 8e-6 / elapsed,
        facestream_test_support::resident_bytes() as f64 / f64::from(1 << 20),
        report.trim(),
    );
    simulator.shutdown().await;
    Ok(())
}

/// Processor time of this process, user and system, from `/proc/self/stat` (100 ticks a second on Linux).
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |i: usize| -> Result<f64> { Ok(fields.get(i).ok_or("no such field")?.parse::<f64>()?) };
    // Fields 14 and 15, counted from the one after the name, which is field 3.
    Ok((tick(11)? + tick(12)?) / 100.0)
}

/// Plays all URLs until standard input ends; prints the MiB read.
fn clients(args: &[String]) -> Result<()> {
    let udp = args.first().is_some_and(|transport| transport == "udp");
    let mut readers = Vec::new();
    for url in &args[1..] {
        readers.push(play(url, udp)?);
    }
    let total = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (mut stream, socket) in readers {
            let total = &total;
            scope.spawn(move || {
                let mut sink = vec![0u8; 256 * 1024];
                loop {
                    let read = match &socket {
                        Some(socket) => socket.recv(&mut sink),
                        None => stream.read(&mut sink),
                    };
                    match read {
                        Ok(n) if n > 0 => total.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed),
                        _ => return,
                    };
                }
            });
        }
        let mut line = String::new();
        // The end of standard input is the end of the measurement.
        drop(std::io::stdin().read_line(&mut line));
        println!("{}", total.load(std::sync::atomic::Ordering::Relaxed) >> 20);
        std::process::exit(0);
    })
}

fn play(url: &str, udp: bool) -> Result<(TcpStream, Option<UdpSocket>)> {
    let host = url.trim_start_matches("rtsp://").split('/').next().unwrap_or_default();
    let mut stream = TcpStream::connect(host)?;
    let socket = if udp { Some(UdpSocket::bind("127.0.0.1:0")?) } else { None };
    let transport = match &socket {
        Some(socket) => {
            let port = socket.local_addr()?.port();
            format!("RTP/AVP;unicast;client_port={port}-{}", port.wrapping_add(1).max(1))
        }
        None => "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned(),
    };
    let setup = ask(&mut stream, &format!("SETUP {url} RTSP/1.0\r\nCSeq: 1\r\nTransport: {transport}\r\n\r\n"))?;
    let session = setup.lines().find_map(|line| line.strip_prefix("Session: ")).ok_or("no session")?;
    let session = session.split(';').next().unwrap_or_default();
    write!(stream, "PLAY {url} RTSP/1.0\r\nCSeq: 2\r\nSession: {session}\r\n\r\n")?;
    Ok((stream, socket))
}

fn ask(stream: &mut TcpStream, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    while !answer.ends_with("\r\n\r\n") {
        if reader.read_line(&mut answer)? == 0 {
            return Err("the server closed the connection".into());
        }
    }
    Ok(answer)
}
