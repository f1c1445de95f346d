//! What nobody is shown.

use std::fmt;

use serde::Deserialize;

/// A word that no error, log or debug output may show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The word itself, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("…")
    }
}

impl From<String> for Secret {
    fn from(word: String) -> Self {
        Self(word)
    }
}

/// A text without what its URLs say besides the place: users, passwords and queries, which may be signatures.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("://") {
        let (before, url) = rest.split_at(begin + 3);
        let end = url.find(|c: char| c.is_whitespace() || "\"'<>()".contains(c)).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        let (place, query) = url.split_once('?').map_or((url, false), |(place, _)| (place, true));
        let host_end = place.find('/').unwrap_or(place.len());
        let host = place[..host_end].rfind('@').map_or(0, |at| at + 1);
        said.push_str(before);
        said.push_str(&place[host..]);
        if query {
            said.push_str("?…");
        }
        rest = after;
    }
    said.push_str(rest);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_and_query() {
        let text =
            "error sending request for url (https://me:hush@lab.blob/b/x?sv=1&sig=hush): no, see http://h/a";
        let said = without_secrets(text);
        assert_eq!(said, "error sending request for url (https://lab.blob/b/x?…): no, see http://h/a");
        assert_eq!(without_secrets("a: b@c?d"), "a: b@c?d");
    }
}
