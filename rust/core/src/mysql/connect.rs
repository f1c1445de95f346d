//! Connecting: address and login. The login plugins come from `mysql_common`.

use std::collections::HashMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context, Response};
use mysql_common::constants::CapabilityFlags as Cap;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use serde::Deserialize;

use super::numbers::{LOGIN_REFUSED, UNREACHABLE};
use super::query::{Connection, server_error};
use super::trust::{Way, asks_for_password, first_answer};
use super::wire::{Transport, Wire};
use crate::error::{At, Error, Kind, Result};
use crate::secret::Secret;

const MAX_PACKET: u32 = 1 << 30;
const UTF8MB4_GENERAL_CI: u8 = 45;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How much a connection is protected: the modes of `MySQL`'s own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SslMode {
    /// Never encrypted.
    Disabled,
    /// Encrypted where the server offers it, sockets excepted; to whoever answers.
    #[default]
    Preferred,
    /// Encrypted, or not at all; to whoever answers.
    Required,
    /// Encrypted to a server whose certificate an authority has signed.
    VerifyCa,
    /// The same, and the certificate has the host's name.
    VerifyIdentity,
}

/// Where a server is and how to log in. The password never appears in `Debug`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// 3306 unless it is said.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The account.
    pub user: String,
    /// The account's password.
    #[serde(default)]
    pub password: Secret,
    /// The path of a socket, in place of host and port.
    #[serde(default)]
    pub unix_socket: Option<String>,
    /// Whether it is encrypted, and to whom.
    #[serde(default)]
    pub ssl_mode: SslMode,
    /// A file with the certificates of the authorities that are trusted (PEM).
    #[serde(default)]
    pub ssl_ca: Option<String>,
    /// A file with this side's certificate (PEM).
    #[serde(default)]
    pub ssl_cert: Option<String>,
    /// A file with this side's key (PEM).
    #[serde(default)]
    pub ssl_key: Option<String>,
    /// Gives the password to a server that has not proved who it is.
    #[serde(default)]
    pub trust_server: bool,
    /// A file with the public key of the server (PEM), for a password without TLS.
    #[serde(default)]
    pub server_public_key_path: Option<String>,
    /// Lets accounts log in by `mysql_clear_password`, over an encrypted connection.
    #[serde(default)]
    pub enable_cleartext_plugin: bool,
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
        let preferred = self.ssl_mode == SslMode::Preferred;
        // An account that demands TLS refuses in the words of a wrong password, and servers count refused logins. So TLS
        // comes first, also within the machine, and what the server refused is not tried again.
        let encrypt = self.ssl_mode != SslMode::Disabled && !(preferred && self.unix_socket.is_some());
        let first = match self.connect_once(encrypt) {
            // TLS that cannot be begun with a server of this machine: nobody has logged in yet.
            Err(error) if preferred && self.is_loopback() && matches!(error.kind(), Kind::Tls { .. }) => {
                self.connect_once(false)
            }
            done => done,
        };
        first.map_err(|error| self.login_error(error))
    }

    fn login_error(&self, error: Error) -> Error {
        match error.kind() {
            Kind::Server { code, message, .. } if *code == 3159 || LOGIN_REFUSED.contains(code) => {
                Kind::Login { server: self.name(), message: message.clone() }.into()
            }
            _ => error,
        }
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    pub(super) fn failed(&self, error: &impl ToString) -> Error {
        Kind::Connect { server: self.name(), message: error.to_string() }.into()
    }

    pub(super) fn untrusted(&self, error: &impl ToString) -> Error {
        Kind::Tls { server: self.name(), message: error.to_string() }.into()
    }

    fn open(&self) -> Result<Transport> {
        #[cfg(any(test, fuzzing))]
        if let Some(dialled) = super::memory::dial(&self.host) {
            return dialled.map(Transport::Memory).map_err(|error| self.failed(&error));
        }
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
            let error = server_error(&packet);
            // A server that has no place for us is there all the same: who judges a silence must know.
            return match error.server_code() {
                Some(code) if UNREACHABLE.contains(&code) => Err(error).at(|| self.name()),
                _ => Err(self.failed(&error)),
            };
        }
        let handshake = greeted(&packet).map_err(|error| self.failed(&error))?;
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
        let mut plugin = first_answer(plugin);
        let mut login = Login { server: self, nonce, encrypted, way: None };
        let mut procedure = plugin.init().map_err(|error| self.failed(&error))?;
        let first = run(&mut procedure, &mut login, &plugin, None)?;
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
                    self.knows(&name_of(&plugin))?;
                    login.nonce = switch.plugin_data().to_vec();
                    login.way = None;
                    procedure = plugin.init().map_err(|error| self.failed(&error))?;
                    let response = run(&mut procedure, &mut login, &plugin, None)?;
                    wire.write(response.data().unwrap_or_default())?;
                }
                Some(0x01) => {
                    if let Some(answer) = run(&mut procedure, &mut login, &plugin, Some(&packet[1..]))?.data()
                    {
                        wire.write(answer)?;
                    }
                }
                _ => return Err(Kind::Protocol("an unknown packet during the login".into()).into()),
            }
        }
    }
}

struct Login<'a> {
    server: &'a Server,
    nonce: Vec<u8>,
    encrypted: bool,
    /// How the password itself may go, once it was asked for and allowed.
    way: Option<Way>,
}

impl Context for &Login<'_> {
    fn pass(&self) -> &[u8] {
        self.server.password.reveal().as_bytes()
    }

    fn is_ipc_transport(&self) -> bool {
        false
    }

    /// By this the plugins decide whether they give the password in clear.
    fn is_tls_transport(&self) -> bool {
        self.way == Some(Way::Clear)
    }

    fn scramble(&self) -> &[u8] {
        challenge(&self.nonce)
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        match &self.way {
            Some(Way::Sealed(key)) => key.as_deref(),
            _ => None,
        }
    }
}

/// What the server greets with. Of the length that it says of its challenge `mysql_common` takes eight, as a signed byte.
fn greeted(packet: &[u8]) -> io::Result<HandshakePacket<'_>> {
    let version = memchr::memchr(0, packet.get(1..).unwrap_or_default()).unwrap_or_default();
    match packet.get(version + 22) {
        Some(length @ 0x80..) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("a challenge of {length} bytes")))
        }
        _ => ParseBuf(packet).parse(()),
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
    login: &mut Login<'_>,
    plugin: &AuthPlugin<'_>,
    message: Option<&[u8]>,
) -> Result<Response> {
    let name = name_of(plugin);
    if login.way.is_none() && asks_for_password(&name, message) {
        login.way = Some(login.server.may_have_password(&name, login.encrypted)?);
    }
    let login = &*login;
    let key = match (&login.way, message) {
        // What is longer than a word of the plugin is the key that was asked for.
        (Some(Way::Sealed(None)), Some(key)) if key.len() > 1 => Some(login.server.checked_key(key)?),
        _ => None,
    };
    procedure
        .run(login, key.as_deref().or(message).unwrap_or_else(|| challenge(&login.nonce)))
        .map_err(|error| login.server.failed(&error))
}

fn name_of(plugin: &AuthPlugin<'_>) -> String {
    String::from_utf8_lossy(plugin.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::mysql::memory::{Event, Memory, VERSION, error, greeting, listen, ok};

    type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

    /// A server that greets with this plugin and gives its answers in turn, whatever is said.
    fn answering(plugin: &'static str, answers: Vec<Vec<Event>>) -> (Server, Heard) {
        let heard = Heard::default();
        let told = heard.clone();
        let server = listen(move |number| {
            let (told, mut answers) = (told.clone(), answers.clone().into_iter());
            Ok(Memory::new(vec![greeting(number, plugin)], move |packet| {
                told.lock().expect("no test panicked").push(packet.to_vec());
                answers.next().unwrap_or_default()
            }))
        });
        (server, heard)
    }

    fn with_password(server: Server) -> Server {
        Server { password: serde_json::from_str("\"s3cret\"").expect("a secret"), ..server }
    }

    fn refused(server: &Server) -> Error {
        server.connect().err().expect("no connection")
    }

    fn switch(plugin: &str) -> Event {
        Event::Packet([b"\xfe", plugin.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat())
    }

    fn holds(packet: &[u8], word: &[u8]) -> bool {
        packet.windows(word.len()).any(|part| part == word)
    }

    #[test]
    fn whoever_is_let_in_has_the_session_that_the_server_says() {
        let (server, heard) = answering("caching_sha2_password", vec![vec![ok(0, 0)]]);
        let connection = server.connect().expect("let in");
        assert_eq!((connection.id, connection.version.as_str()), (1, "9.7.4"));
        assert!(!connection.is_mariadb());
        let heard = heard.lock().expect("no test panicked");
        assert!(holds(&heard[0], b"u\0") && holds(&heard[0], b"datajoint-migrate"));
        assert_eq!(server.name(), format!("u@{}:3306", server.host));
    }

    #[test]
    fn a_login_proves_the_password_and_does_not_give_it() {
        for plugin in ["caching_sha2_password", "mysql_native_password"] {
            let (server, heard) = answering(plugin, vec![vec![ok(0, 0)]]);
            with_password(server).connect().expect("let in");
            let heard = heard.lock().expect("no test panicked");
            assert!(!holds(&heard[0], b"s3cret") && holds(&heard[0], plugin.as_bytes()));
        }
        // Switched to another, it proves it to the new challenge.
        let switched = vec![vec![switch("mysql_native_password")], vec![ok(0, 0)]];
        let (server, heard) = answering("caching_sha2_password", switched);
        with_password(server).connect().expect("let in");
        let heard = heard.lock().expect("no test panicked");
        let proof = mysql_common::auth::plugins::mysql_native_password::scramble_native(
            b"abcdefghijklmnopqrst",
            b"s3cret",
        );
        assert_eq!(Some(heard[1].as_slice()), proof.as_ref().map(<[u8; 20]>::as_slice));
    }

    #[test]
    fn a_server_that_has_proved_nothing_does_not_get_the_password_itself() {
        for asks in [switch("mysql_clear_password"), switch("sha256_password"), Event::Packet(vec![1, 4])] {
            let (server, heard) = answering("caching_sha2_password", vec![vec![asks], vec![ok(0, 0)]]);
            let error = refused(&with_password(server));
            assert!(!matches!(error.kind(), Kind::Lost { .. } | Kind::Internal(_)), "{error}");
            let heard = heard.lock().expect("no test panicked");
            assert_eq!(heard.len(), 1, "nothing is said after that");
            assert!(!holds(&heard[0], b"s3cret"));
        }
    }

    #[test]
    fn a_refusal_says_who_was_refused_and_is_not_tried_again() {
        let denied = vec![vec![error(1045, "Access denied")]];
        let (server, heard) = answering("caching_sha2_password", denied);
        let error = refused(&server);
        assert!(matches!(error.kind(), Kind::Login { .. }), "{error}");
        assert!(error.to_string().contains(&server.name()) && !error.is_transient());
        assert_eq!(heard.lock().expect("no test panicked").len(), 1);
        let (server, _) =
            answering("caching_sha2_password", vec![vec![switch("authentication_of_tomorrow")]]);
        assert!(refused(&server).to_string().contains("authentication_of_tomorrow"));
    }

    #[test]
    fn a_server_without_a_place_is_told_from_one_that_cannot_be_reached() {
        let full = listen(|_| Ok(Memory::new(vec![error(1040, "Too many connections")], |_| Vec::new())));
        let error = refused(&full);
        assert_eq!((error.code(), error.server_code(), error.is_transient()), ("DJM-1101", Some(1040), true));
        assert!(error.to_string().contains(&full.name()), "{error}");
        let gone = listen(|_| Err(io::ErrorKind::ConnectionRefused.into()));
        let error = refused(&gone);
        assert_eq!((error.code(), error.server_code(), error.is_transient()), ("DJM-1101", None, true));
    }

    #[test]
    fn who_asks_for_tls_does_not_log_in_without_it() {
        for ssl_mode in [SslMode::Required, SslMode::VerifyCa, SslMode::VerifyIdentity] {
            let (server, heard) = answering("caching_sha2_password", vec![vec![ok(0, 0)]]);
            let error = refused(&Server { ssl_mode, ..with_password(server) });
            assert!(matches!(error.kind(), Kind::Tls { .. }), "{error}");
            assert!(heard.lock().expect("no test panicked").is_empty());
        }
        let (server, _) = answering("caching_sha2_password", vec![vec![ok(0, 0)]]);
        Server { ssl_mode: SslMode::Preferred, ..server }.connect().expect("the server offers none");
    }

    #[test]
    fn a_greeting_or_a_login_that_is_cut_short_or_makes_no_sense_is_an_error() {
        let Event::Packet(whole) = greeting(1, "caching_sha2_password") else { unreachable!() };
        for kept in [0, 1, 5, 12, 30] {
            let packet = Event::Packet(whole[..kept].to_vec());
            let server = listen(move |_| Ok(Memory::new(vec![packet.clone()], |_| Vec::new())));
            let error = refused(&server);
            assert!(matches!(error.kind(), Kind::Connect { .. }), "{kept}: {error}");
        }
        // A challenge of so many bytes that the length of its rest cannot be counted.
        for length in [0x80, 0x87, 0xff] {
            let mut packet = whole.clone();
            packet[VERSION.len() + 22] = length;
            let packet = Event::Packet(packet);
            let server = listen(move |_| Ok(Memory::new(vec![packet.clone()], |_| Vec::new())));
            assert!(refused(&server).to_string().contains("a challenge of"), "{length}");
        }
        for answer in [vec![Event::End], vec![Event::Packet(vec![0x77])], vec![Event::Packet(Vec::new())]] {
            let (server, _) = answering("caching_sha2_password", vec![answer]);
            let error = refused(&server);
            assert!(matches!(error.kind(), Kind::Lost { .. } | Kind::Protocol(_)), "{error}");
        }
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        let (server, _) = answering("caching_sha2_password", Vec::new());
        assert!(!format!("{:?}", with_password(server)).contains("s3cret"));
    }
}
