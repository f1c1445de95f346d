//! Whom the password itself is given to: the rule of both languages.
//!
//! Scrambles of a password are proofs, not the password. Three plugins want the word itself: in clear, or encrypted
//! with a public key that the other side may have made a moment ago. It goes only to a server that has proved who it
//! is, or to one that the user has said is to be trusted.

use mysql_common::packets::AuthPlugin;

use super::connect::{Server, SslMode};
use super::public_key;
use crate::error::{Error, Kind, Result};

/// `caching_sha2_password` says by this that a scramble was not enough.
const FULL_AUTHENTICATION: [u8; 1] = [4];

/// How the password may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// As it is: nobody but the server reads it.
    Clear,
    /// Encrypted with this key, or, without one, with the one that the server sends.
    Sealed(Option<Vec<u8>>),
}

const CLEAR: &str = "mysql_clear_password";
/// Plugins that can be answered without the password itself, and those that ask for it.
const PLUGINS: [&str; 5] =
    ["mysql_native_password", "caching_sha2_password", "client_ed25519", "sha256_password", CLEAR];

const ALLOW_CLEAR: &str =
    "if that is how this account logs in (LDAP, PAM), say enable_cleartext_plugin = true";
const ENCRYPT: &str = "encrypt the connection (ssl_mode, with ssl_ca: the authority of the server's certificate), or \
     give server_public_key_path (a copy of the server's public_key.pem), or, if whoever answers there is to have the \
     password, say trust_server = true (in a URL ?trust-server=true)";
const VERIFY: &str = "give ssl_ca, the authority of the server's certificate (ca.pem in MySQL's own data folder), or, \
     if whoever answers there is to have the password, say trust_server = true (in a URL ?trust-server=true)";

/// True if this step of this plugin gives the password itself.
#[must_use]
pub fn asks_for_password(plugin: &str, message: Option<&[u8]>) -> bool {
    match plugin {
        "caching_sha2_password" => message == Some(&FULL_AUTHENTICATION),
        "sha256_password" | CLEAR => true,
        _ => false,
    }
}

/// What the greeting is answered with: a plugin that proves, whatever it names, as the server switches where it must.
pub(super) fn first_answer(named: AuthPlugin<'static>) -> AuthPlugin<'static> {
    match named {
        AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password => named,
        _ => AuthPlugin::CachingSha2Password,
    }
}

impl Server {
    fn verifies(&self) -> bool {
        matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyIdentity)
    }

    /// Refuses plugins that are not known here, or prove too little.
    pub fn knows(&self, plugin: &str) -> Result<()> {
        if PLUGINS.contains(&plugin) {
            return Ok(());
        }
        // The scramble of the old plugin gives the password away to whoever has chosen the challenge.
        let plugin = if plugin.is_empty() { "mysql_old_password" } else { plugin };
        let message = format!("the server asks for a login by {plugin:?}, which is not supported");
        Err(Kind::Connect { server: self.name(), message }.into())
    }

    /// How the password itself may go to this server over such a connection, if it may.
    pub fn may_have_password(&self, plugin: &str, encrypted: bool) -> Result<Way> {
        if self.password.reveal().is_empty() {
            return Ok(Way::Clear);
        }
        let private = self.unix_socket.is_some() || encrypted;
        if plugin == CLEAR && !(self.enable_cleartext_plugin && private) {
            let message = format!(
                "the server asks for the password in clear ({CLEAR}){}",
                if private { "" } else { " over an unencrypted connection" }
            );
            return Err(self.unproved(message, if private { ALLOW_CLEAR } else { ENCRYPT }));
        }
        // On this machine MySQL's own clients are content with TLS, whoever shows a certificate; so may we be.
        let trusted = self.verifies() || self.is_loopback() || self.trust_server;
        if self.unix_socket.is_some() || (encrypted && trusted) {
            return Ok(Way::Clear);
        }
        if encrypted {
            let message =
                format!("the server asks for the password in clear ({plugin}), and has not proved who it is");
            return Err(self.unproved(message, VERIFY));
        }
        match &self.server_public_key_path {
            Some(path) => {
                let failed = |message| Error::from(Kind::File { path: path.clone(), message });
                let key = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
                let octets = self.password.reveal().len() + 1;
                public_key::checked(&key, octets).map(|key| Way::Sealed(Some(key))).map_err(failed)
            }
            None if self.trust_server => Ok(Way::Sealed(None)),
            None => {
                let message = format!(
                    "the server asks for the password in clear, or under a key of its own ({plugin}), over an \
                     unencrypted connection, and has not proved who it is"
                );
                Err(self.unproved(message, ENCRYPT))
            }
        }
    }

    /// What is sent to a server that asks for the password itself; nothing if its public key has to be asked for first.
    pub fn password_for(
        &self,
        plugin: &str,
        encrypted: bool,
        nonce: &[u8],
        key: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        let named = match self.may_have_password(plugin, encrypted)? {
            Way::Clear => return Ok(Some(self.password.reveal().bytes().chain([0]).collect())),
            Way::Sealed(named) => named,
        };
        named.as_deref().or(key).map(|key| self.sealed(nonce, key)).transpose()
    }

    fn unproved(&self, message: String, hint: &'static str) -> Error {
        Kind::Unproved { server: self.name(), message, hint }.into()
    }

    /// The password, encrypted with a public key (PEM) for the server that sent this nonce.
    fn sealed(&self, nonce: &[u8], key: &[u8]) -> Result<Vec<u8>> {
        let word = self.password.reveal().bytes().chain([0]);
        let word: Vec<u8> = word.zip(nonce.iter().cycle()).map(|(byte, with)| byte ^ with).collect();
        public_key::encrypt(&word, key).map_err(|error| self.bad_key(&error))
    }

    /// The key that a server has sent, if the password can be encrypted with it.
    pub(super) fn checked_key(&self, key: &[u8]) -> Result<Vec<u8>> {
        public_key::checked(key, self.password.reveal().len() + 1).map_err(|error| self.bad_key(&error))
    }

    fn bad_key(&self, error: &str) -> Error {
        self.failed(&format!("the server's public key: {error}"))
    }
}
