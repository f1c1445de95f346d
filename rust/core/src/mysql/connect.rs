//! Connecting: address, TLS and login. Cryptography and the login plugins come from `rustls` and `mysql_common`.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context, Response};
use mysql_common::constants::CapabilityFlags as Cap;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use serde::Deserialize;

use super::query::{Connection, server_error};
use super::wire::{Transport, Wire};
use crate::error::{Error, Kind, Result};

const MAX_PACKET: u32 = 1 << 30;
const UTF8MB4_GENERAL_CI: u8 = 45;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How much a connection is protected: the modes of `MySQL`'s own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SslMode {
    Disabled,
    #[default]
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// Where a server is and how to log in. The password never appears in `Debug`.
#[derive(Clone, Deserialize)]
pub struct Server {
    pub host: String,
    #[serde(default = "default_port")]
    pub port: u16,
    pub user: String,
    #[serde(default)]
    pub password: String,
    #[serde(default)]
    pub unix_socket: Option<String>,
    #[serde(default)]
    pub ssl_mode: SslMode,
    #[serde(default)]
    pub ssl_ca: Option<String>,
    #[serde(default)]
    pub ssl_cert: Option<String>,
    #[serde(default)]
    pub ssl_key: Option<String>,
    /// Seconds without a byte after which the server is asked whether the session still works.
    #[serde(default = "default_read_timeout")]
    pub read_timeout: u64,
}

fn default_port() -> u16 {
    3306
}

fn default_read_timeout() -> u64 {
    60
}

impl std::fmt::Debug for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.name())
    }
}

impl Server {
    /// `user@host:port`, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.unix_socket {
            Some(path) => format!("{}@{path}", self.user),
            None => format!("{}@{}:{}", self.user, self.host, self.port),
        }
    }

    /// How long a connection may be silent before the server is asked why.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.read_timeout.max(1))
    }

    /// Connects and logs in.
    pub fn connect(&self) -> Result<Connection> {
        let mut connection = self.connect_briefly()?;
        connection.judge_silence()?;
        Ok(connection)
    }

    /// A connection for one short question: any silence ends it.
    pub(super) fn connect_briefly(&self) -> Result<Connection> {
        if self.ssl_mode == SslMode::Preferred && (self.unix_socket.is_some() || self.is_loopback()) {
            // What never leaves the machine gains nothing from encryption, but an account may demand it.
            match self.connect_once(false) {
                Err(error) if matches!(error.server_code(), Some(1045 | 3159)) => {}
                done => return done.map_err(|error| self.login_error(error)),
            }
            if self.unix_socket.is_some() {
                return self.connect_once(false).map_err(|error| self.login_error(error));
            }
        }
        self.connect_once(self.ssl_mode != SslMode::Disabled).map_err(|error| self.login_error(error))
    }

    fn login_error(&self, error: Error) -> Error {
        match error.kind() {
            Kind::Server { code: 1045 | 1698 | 3159 | 1862 | 4151, message, .. } => {
                Kind::Login { server: self.name(), message: message.clone() }.into()
            }
            _ => error,
        }
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    fn failed(&self, error: &impl ToString) -> Error {
        Kind::Connect { server: self.name(), message: error.to_string() }.into()
    }

    fn untrusted(&self, error: &impl ToString) -> Error {
        Kind::Tls { server: self.name(), message: error.to_string() }.into()
    }

    fn open(&self) -> Result<Transport> {
        if let Some(path) = &self.unix_socket {
            return UnixStream::connect(path).map(Transport::Unix).map_err(|error| self.failed(&error));
        }
        let addresses =
            (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| self.failed(&error))?;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(|error| self.failed(&error))?;
                    return Ok(Transport::Tcp(stream));
                }
                Err(error) => failure = error,
            }
        }
        Err(self.failed(&failure))
    }

    fn connect_once(&self, encrypt: bool) -> Result<Connection> {
        let mut wire = Wire::new(self.open()?, self.name());
        wire.set_patience(CONNECT_TIMEOUT.min(self.patience()))?;
        wire.begin();
        let packet = wire.read()?.to_vec();
        if packet.first() == Some(&0xff) {
            return Err(self.failed(&server_error(&packet)));
        }
        let handshake: HandshakePacket<'_> =
            ParseBuf(&packet).parse(()).map_err(|error| self.failed(&error))?;
        let mut capabilities = Cap::CLIENT_PROTOCOL_41
            | Cap::CLIENT_LONG_PASSWORD
            | Cap::CLIENT_LONG_FLAG
            | Cap::CLIENT_TRANSACTIONS
            | Cap::CLIENT_SECURE_CONNECTION
            | Cap::CLIENT_PLUGIN_AUTH
            | Cap::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
            | Cap::CLIENT_LOCAL_FILES
            | Cap::CLIENT_CONNECT_ATTRS
            | Cap::CLIENT_DEPRECATE_EOF;
        capabilities &= handshake.capabilities();
        let mut encrypted = false;
        if encrypt {
            if handshake.capabilities().contains(Cap::CLIENT_SSL) {
                capabilities |= Cap::CLIENT_SSL;
                let mut request = Vec::new();
                SslRequest::new(capabilities, MAX_PACKET, UTF8MB4_GENERAL_CI).serialize(&mut request);
                wire.write(&request)?;
                wire.wrap(|transport| self.encrypt(transport))?;
                encrypted = true;
            } else if self.ssl_mode != SslMode::Preferred {
                return Err(self.untrusted(&"the server offers no TLS, but ssl_mode asks for it"));
            }
        }
        let nonce = handshake.nonce();
        let plugin = handshake.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword).into_owned();
        self.log_in(&mut wire, plugin, nonce, capabilities, encrypted)?;
        let version = handshake.server_version_str().into_owned();
        Ok(Connection::new(wire, self.clone(), version, handshake.connection_id(), capabilities))
    }

    fn log_in(
        &self,
        wire: &mut Wire,
        plugin: AuthPlugin<'static>,
        nonce: Vec<u8>,
        capabilities: Cap,
        encrypted: bool,
    ) -> Result<()> {
        let mut plugin = plugin;
        let mut login = Login { server: self, nonce, encrypted };
        let mut procedure = plugin.init().map_err(|error| self.failed(&error))?;
        let first = run(&mut procedure, &login, None)?;
        let attributes = HashMap::from([("program_name".to_owned(), "datajoint-migrate".to_owned())]);
        let response = HandshakeResponse::new(
            Some(first.data().unwrap_or_default().to_vec()),
            (8, 0, 0),
            Some(self.user.clone().into_bytes()),
            None::<Vec<u8>>,
            Some(plugin.clone()),
            capabilities,
            capabilities.contains(Cap::CLIENT_CONNECT_ATTRS).then_some(attributes),
            MAX_PACKET,
        );
        let mut packet = Vec::new();
        response.serialize(&mut packet);
        wire.write(&packet)?;
        loop {
            let packet = wire.read()?.to_vec();
            match packet.first() {
                Some(0x00) => return Ok(()),
                Some(0xff) => return Err(server_error(&packet)),
                Some(0xfe) => {
                    let switch: AuthSwitchRequest<'_> =
                        ParseBuf(&packet).parse(()).map_err(|error| self.failed(&error))?;
                    plugin = switch.auth_plugin().into_owned();
                    if matches!(plugin, AuthPlugin::MysqlClearPassword) && !encrypted {
                        return Err(self.failed(
                            &"the server asks for the password in clear over an unencrypted connection",
                        ));
                    }
                    login.nonce = switch.plugin_data().to_vec();
                    procedure = plugin.init().map_err(|error| self.failed(&error))?;
                    let response = run(&mut procedure, &login, None)?;
                    wire.write(response.data().unwrap_or_default())?;
                }
                Some(0x01) => {
                    if let Some(answer) = run(&mut procedure, &login, Some(&packet[1..]))?.data() {
                        wire.write(answer)?;
                    }
                }
                _ => return Err(Kind::Protocol("an unknown packet during the login".into()).into()),
            }
        }
    }

    fn encrypt(&self, transport: Transport) -> Result<Transport> {
        let Transport::Tcp(stream) = transport else {
            return Err(self.untrusted(&"only TCP connections are encrypted"));
        };
        let config = self.tls_config()?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.untrusted(&error))?;
        let session =
            ClientConnection::new(Arc::new(config), name).map_err(|error| self.untrusted(&error))?;
        let mut tls = StreamOwned::new(session, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(|error| self.untrusted(&error))?;
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
                let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider)
                    .build()
                    .map_err(|error| self.untrusted(&error))?;
                if self.ssl_mode == SslMode::VerifyIdentity { inner } else { Arc::new(AnyName(inner)) }
            }
            _ => Arc::new(AnyCertificate(provider)),
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

struct Login<'a> {
    server: &'a Server,
    nonce: Vec<u8>,
    encrypted: bool,
}

impl Context for &Login<'_> {
    fn pass(&self) -> &[u8] {
        self.server.password.as_bytes()
    }

    fn is_ipc_transport(&self) -> bool {
        self.server.unix_socket.is_some()
    }

    fn is_tls_transport(&self) -> bool {
        self.encrypted
    }

    fn scramble(&self) -> &[u8] {
        challenge(&self.nonce)
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

/// The nonce without the NUL byte that ends it on the wire.
fn challenge(nonce: &[u8]) -> &[u8] {
    match nonce {
        [nonce @ .., 0] if nonce.len() == 20 => nonce,
        nonce => nonce,
    }
}

fn run(
    procedure: &mut impl ChallengeResponsePlugin,
    login: &Login<'_>,
    message: Option<&[u8]>,
) -> Result<Response> {
    procedure
        .run(login, message.unwrap_or_else(|| challenge(&login.nonce)))
        .map_err(|error| login.server.failed(&error))
}

/// Encrypts to whoever answers: `preferred` and `required` protect against listeners, not against impostors.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the certificate's issuer but not its name (`verify_ca`).
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
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
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
