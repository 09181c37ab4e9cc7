//! The certificate of the listener, read again on reload. A broken new certificate leaves the old one in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("`{path}`: {what} cannot be read: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// Why not.
        source: rustls_pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("`{0}` holds no certificate: put the chain there as PEM, the server's own first")]
    Empty(PathBuf),
    /// Certificate and key do not go together, or are of an unsupported kind.
    #[error("`{certificate}` and `{key}` cannot be used together: {source}")]
    Unusable {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// A server certificate that can be exchanged while connections run.
pub struct ReloadableTls {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerConfig>,
}

impl ReloadableTls {
    /// Reads the PEM chain and its key.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(read(&certificate, &key)?);
        Ok(Self { certificate, key, current })
    }

    /// Reads both files again; connections from now on use them. On an error the old certificate stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(read(&self.certificate, &self.key)?));
        Ok(())
    }

    /// What the next handshake uses.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let unreadable = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::Unreadable { path, what, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(certificate, "the certificate chain"))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key, "the private key"))?;
    let unusable =
        |source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
