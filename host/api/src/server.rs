//! The listening socket and the connections on it.
//!
//! Owns bind, accept, the bound on connections, the time limits for headers and for answers that are not taken, and the
//! graceful stop. Must not know routes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Peer;
use crate::config::ServerConfig;
use crate::control::Control;
use crate::router::router;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else listens there.
    #[error(
        "port {} is in use on {}: another FaceStream may be running (see `ss -ltnp 'sport = :{}'`); stop it, or choose another \
         address with --listen or server.listen", .0.port(), .0.ip(), .0.port()
    )]
    InUse(SocketAddr),
    /// The address is not this machine's.
    #[error(
        "{0} is no address of this machine; set server.listen to one that is (127.0.0.1 for this machine only, 0.0.0.0 for all)"
    )]
    NotOurs(SocketAddr),
    /// Ports below 1024 need a privilege.
    #[error("no permission to listen on {0}; take a port above 1023, or give the program CAP_NET_BIND_SERVICE")]
    Denied(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket, not answering yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
}

impl Server {
    /// Takes the address. Connections wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    /// When the port is in use, the address is not this machine's, or permission lacks.
    pub async fn bind(config: &ServerConfig) -> Result<Self, ServeError> {
        let address = config.listen;
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse(address),
            io::ErrorKind::AddrNotAvailable => ServeError::NotOurs(address),
            io::ErrorKind::PermissionDenied => ServeError::Denied(address),
            _ => ServeError::Bind { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, config: config.clone() })
    }

    /// Where it listens; with port 0 asked for, the one that was given.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled; then takes no more connections, ends streams of events, lets requests
    /// under way finish for at most `grace_ms`, and returns.
    pub async fn run(self, control: Arc<dyn Control>, shutdown: CancellationToken) {
        let app = router(control, &self.config, self.address, shutdown.clone());
        let header_timeout = Duration::from_millis(self.config.header_timeout_ms);
        let connections = Arc::new(Semaphore::new(self.config.max_connections));
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            let next = async {
                // Never closed, so it always gives a permit in the end.
                let permit = connections.clone().acquire_owned().await.ok();
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (app, shutdown, cut) = (app.clone(), shutdown.clone(), cut.clone());
                    tasks.spawn(async move {
                        let _permit = permit;
                        tokio::select! {
                            () = connection(stream, peer, app, header_timeout, shutdown) => {}
                            () = cut.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    // A connection that died in the backlog, or no file descriptors left: neither ends the service.
                    tracing::warn!(%error, "A connection could not be accepted.");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        tasks.close();
        let grace = Duration::from_millis(self.config.grace_ms);
        if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
            tracing::warn!(
                connections = tasks.len(),
                "Requests were still running at the end of the grace period and were cut."
            );
            cut.cancel();
            tasks.wait().await;
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    header_timeout: Duration,
    shutdown: CancellationToken,
) {
    // Answers are small and whole: waiting to fill packets only adds delay.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set.");
    }
    // Hyper knows no limit for an answer that the client does not take, and the connection keeps others out.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(header_timeout));
    let stream = Box::pin(stream);
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        app.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(100)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "A connection ended early.");
    }
}
