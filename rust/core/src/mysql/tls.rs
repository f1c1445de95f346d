//! TLS: whom a connection is encrypted to, and what proves who that is. Cryptography comes from `rustls`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

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

/// More servers than one process meets; so many keep their tickets.
const SERVERS: usize = 64;
/// What the connections of this process to one server share: whom they trust, and the tickets that spare the next one the
/// proof of who answers. Only who has proved it before can redeem a ticket.
static SHARED: LazyLock<Mutex<HashMap<Trusting, Arc<ClientConfig>>>> = LazyLock::new(Mutex::default);

/// To whom, and what is asked and shown there; files by what they say now, for they may be exchanged.
#[derive(PartialEq, Eq, Hash)]
struct Trusting {
    host: String,
    port: u16,
    mode: SslMode,
    authorities: Option<Pem>,
    shown: Option<(Pem, Pem)>,
}

/// A file's path and what it says.
#[derive(PartialEq, Eq, Hash)]
struct Pem(String, Vec<u8>);

impl Pem {
    fn read(path: &str) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| file_error(path, &error))?;
        Ok(Self(path.to_owned(), text))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_slice_iter(&self.1)
            .collect::<Result<_, _>>()
            .map_err(|error| file_error(&self.0, &error))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.1).map_err(|error| file_error(&self.0, &error))
    }
}

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
        let config = self.shared_config()?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.untrusted(&error))?;
        let session = ClientConnection::new(config, name).map_err(|error| self.untrusted(&error))?;
        let mut tls = StreamOwned::new(session, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(|error| self.handshake_error(error))?;
        }
        Ok(Transport::Tls(Box::new(tls)))
    }

    fn shared_config(&self) -> Result<Arc<ClientConfig>> {
        let verified = matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyIdentity);
        let shown = self.ssl_cert.as_deref().zip(self.ssl_key.as_deref());
        let trusting = Trusting {
            host: self.host.clone(),
            port: self.port,
            mode: self.ssl_mode,
            authorities: self.ssl_ca.as_deref().filter(|_| verified).map(Pem::read).transpose()?,
            shown: shown
                .map(|(cert, key)| Ok::<_, Error>((Pem::read(cert)?, Pem::read(key)?)))
                .transpose()?,
        };
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = shared.get(&trusting) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.tls_config(&trusting)?);
        if shared.len() >= SERVERS {
            shared.clear();
        }
        shared.insert(trusting, config.clone());
        Ok(config)
    }

    fn tls_config(&self, trusting: &Trusting) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.untrusted(&error))?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.ssl_mode {
            SslMode::VerifyCa | SslMode::VerifyIdentity => {
                let roots = Arc::new(roots(trusting.authorities.as_ref())?);
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
        match &trusting.shown {
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificate.certificates()?, key.key()?)
                .map_err(|error| self.untrusted(&error)),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn roots(authorities: Option<&Pem>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(authorities) = authorities {
        for certificate in authorities.certificates()? {
            roots.add(certificate).map_err(|error| file_error(&authorities.0, &error))?;
        }
    } else {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One unreadable certificate of the system must not keep the others from being used.
            let _ = roots.add(certificate);
        }
    }
    Ok(roots)
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
