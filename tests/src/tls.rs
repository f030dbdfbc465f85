//! TLS before a server on loopback: an authority made on the spot, and a door that takes TLS off.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A port that speaks TLS as `localhost` and passes everything on to a plain one. Ends when it is dropped.
#[derive(Debug)]
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate of its authority, PEM.
    pub ca: PathBuf,
    _runtime: Runtime,
}

impl Door {
    /// Opens one before `behind`; files go into `dir`.
    ///
    /// # Panics
    /// When no certificate can be made, or loopback has no port.
    #[must_use]
    pub fn open(behind: SocketAddr, dir: &Path) -> Self {
        let broken = |what: &str, e: &dyn std::fmt::Display| -> ! { panic!("{what}: {e}") };
        let key = || KeyPair::generate().unwrap_or_else(|e| broken("a key", &e));
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, key()).unwrap_or_else(|e| broken("an authority", &e));
        let own = key();
        let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap_or_else(|e| broken("a name", &e));
        let certificate = names.signed_by(&own, &authority).unwrap_or_else(|e| broken("a certificate", &e));
        let ca = dir.join("authority.pem");
        std::fs::write(&ca, authority.pem()).unwrap_or_else(|e| broken("authority.pem", &e));

        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap_or_else(|e| broken("a key", &e));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|c| c.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
            .unwrap_or_else(|e| broken("TLS", &e));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap_or_else(|e| broken("a runtime", &e));
        let listener =
            runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap_or_else(|e| broken("a port on loopback", &e));
        let address = listener.local_addr().unwrap_or_else(|e| broken("a bound port", &e));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate hangs up here, as it should.
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let Ok(mut inside) = TcpStream::connect(behind).await else { return };
                    drop(copy_bidirectional(&mut outside, &mut inside).await);
                });
            }
        });
        Self { address, ca, _runtime: runtime }
    }

    /// `localhost:PORT`, the name in its certificate.
    #[must_use]
    pub fn name(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}
