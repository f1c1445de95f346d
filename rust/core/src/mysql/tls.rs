//! TLS: whom a connection is encrypted to, and what proves who that is. Cryptography comes from `rustls`.

use std::io::{self, BufReader};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::connect::{Server, SslMode};
use super::wire::Transport;
use crate::error::{Error, Kind, Result};

impl Server {
    /// What TLS itself refuses comes as an error of the protocol; any other is a line that was lost while it was begun.
    fn handshake_error(&self, error: io::Error) -> Error {
        if let Some(inner) = error.get_ref()
            && inner.is::<rustls::Error>()
        {
            return self.untrusted(&error);
        }
        self.failed(&error)
    }

    pub(super) fn encrypt(&self, transport: Transport) -> Result<Transport> {
        let Transport::Tcp(stream) = transport else {
            return Err(self.untrusted(&"only TCP connections are encrypted"));
        };
        let config = self.tls_config()?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.untrusted(&error))?;
        let session =
            ClientConnection::new(Arc::new(config), name).map_err(|error| self.untrusted(&error))?;
        let mut tls = StreamOwned::new(session, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(|error| self.handshake_error(error))?;
        }
        Ok(Transport::Tls(Box::new(tls)))
    }

    fn tls_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.untrusted(&error))?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.ssl_mode {
            SslMode::VerifyCa | SslMode::VerifyIdentity => {
                let roots = Arc::new(self.roots()?);
                let issuer = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| self.untrusted(&error))?;
                if self.ssl_mode == SslMode::VerifyIdentity {
                    issuer
                } else {
                    Arc::new(AnyName { issuer: Some(issuer), provider })
                }
            }
            _ => Arc::new(AnyName { issuer: None, provider }),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        match (&self.ssl_cert, &self.ssl_key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| self.untrusted(&error))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ssl_ca {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| file_error(path, &error))?;
            }
        } else {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // One unreadable certificate of the system must not keep the others from being used.
                let _ = roots.add(certificate);
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let file = std::fs::File::open(path).map_err(|error| file_error(path, &error))?;
    CertificateDer::pem_reader_iter(BufReader::new(file))
        .collect::<Result<_, _>>()
        .map_err(|error| file_error(path, &error))
}

fn file_error(path: &str, error: &impl ToString) -> Error {
    Kind::File { path: path.to_owned(), message: error.to_string() }.into()
}

/// Checks less than all of a certificate: its issuer but not its name (`verify_ca`), or nothing (`preferred` and `required`
/// protect against listeners, not against impostors).
#[derive(Debug)]
struct AnyName {
    issuer: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
