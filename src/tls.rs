//! Certificates for HTTPS and RTMPS, swapped without a restart.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use crate::config::TlsFiles;

/// The newest good certificate; handshakes under way keep the one they began with.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    pub(crate) fn load(files: TlsFiles) -> anyhow::Result<Arc<Self>> {
        let current = RwLock::new(read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// Reads the files again; on an error the certificate in use stays.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let fresh = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// A server's side of TLS 1.2 and 1.3 under this certificate, offering `protocols` by ALPN.
    pub(crate) fn server(
        self: &Arc<Self>,
        protocols: &[&[u8]],
    ) -> anyhow::Result<Arc<ServerConfig>> {
        // Named, not the process-wide default: another crate may install a second provider.
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn read(files: &TlsFiles) -> anyhow::Result<Arc<CertifiedKey>> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading the certificate chain {cert}"))?;
    anyhow::ensure!(!chain.is_empty(), "{cert} holds no certificate in PEM form");
    let private = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("reading the private key {key}"))?;
    let certified = CertifiedKey::from_der(chain, private, &crypto::ring::default_provider())
        .with_context(|| format!("{key} is not the private key of {cert}"))?;
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &std::path::Path) -> TlsFiles {
        TlsFiles {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }
    }

    fn write(files: &TlsFiles) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_broken_one_leaves_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        write(&files);
        let certificate = Certificate::load(files.clone()).unwrap();
        let served = || certificate.current.read().unwrap().cert[0].clone();
        let first = served();
        write(&files);
        certificate.reload().unwrap();
        let second = served();
        assert_ne!(first, second);
        std::fs::write(&files.cert, "not a certificate").unwrap();
        assert!(certificate.reload().is_err());
        assert_eq!(served(), second);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        write(&files);
        let key = std::fs::read(&files.key).unwrap();
        write(&files);
        std::fs::write(&files.key, key).unwrap();
        let error = Certificate::load(files).unwrap_err();
        assert!(
            format!("{error:#}").contains("is not the private key"),
            "{error:#}"
        );
    }
}
