//! What a statement in the log may have done, as far as its words tell. Whatever is not known to be harmless is not.

use std::collections::HashSet;

/// What a statement that is logged as text may have changed.
pub enum Effect {
    None,
    /// Tables or schemas among these words.
    Named(Words),
    /// Rows of any table; why that is not known.
    Anything(&'static str),
}

/// The words of a statement in lower case, names without their quotes.
pub struct Words {
    first: String,
    all: HashSet<String>,
    /// It is about schemas as a whole.
    pub is_of_schemas: bool,
}

impl Words {
    pub fn has(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    pub fn first(&self) -> &str {
        &self.first
    }
}

/// What definitions are made of, other than tables, indexes and schemas: none of them has rows.
const WITHOUT_ROWS: &[&str] = &[
    "view",
    "trigger",
    "procedure",
    "function",
    "event",
    "user",
    "role",
    "server",
    "tablespace",
    "package",
    "sequence",
    "resource",
    "undo",
    "logfile",
    "instance",
    "library",
];

pub fn effect(text: &[u8]) -> Effect {
    let mut tokens = Tokens { text };
    let Some(first) = tokens.next().map(|token| token.word) else { return Effect::None };
    match first.as_str() {
        "begin" | "start" | "commit" | "rollback" | "savepoint" | "release" | "flush" | "grant"
        | "revoke" | "analyze" | "optimize" | "install" | "uninstall" => Effect::None,
        "set" if tokens.next().is_none_or(|token| token.word != "statement") => Effect::None,
        // What was prepared may have been logged before the position from which is read.
        "xa" if tokens.next().is_some_and(|token| token.word != "commit") => Effect::None,
        "xa" => Effect::Anything("xa"),
        "create" | "alter" | "drop" | "truncate" | "rename" | "repair" => {
            let all: Vec<_> = tokens.collect();
            if first == "alter" && only_numbers(&all) {
                return Effect::None;
            }
            let bare = |token: &&Token| !token.quoted;
            let about = all.iter().filter(bare).map(|token| token.word.as_str()).find(|word| {
                matches!(*word, "table" | "tables" | "index" | "database" | "schema")
                    || WITHOUT_ROWS.contains(word)
            });
            if first != "truncate" && about.is_some_and(|about| WITHOUT_ROWS.contains(&about)) {
                return Effect::None;
            }
            let is_of_schemas = matches!(about, Some("database" | "schema"));
            Effect::Named(Words {
                first,
                is_of_schemas,
                all: all.into_iter().map(|token| token.word).collect(),
            })
        }
        _ => Effect::Anything("statement"),
    }
}

/// `ALTER TABLE schema.table AUTO_INCREMENT = 7`: where numbering goes on is no row's.
fn only_numbers(words: &[Token]) -> bool {
    let is = |token: &Token, word: &str| !token.quoted && token.word == word;
    match words {
        [table, .., said, number] => {
            words.len() <= 5
                && is(table, "table")
                && is(said, "auto_increment")
                && number.word.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

struct Token {
    word: String,
    quoted: bool,
}

/// Words and quoted names, without comments, strings and marks.
struct Tokens<'a> {
    text: &'a [u8],
}

impl Tokens<'_> {
    fn skip_to(&mut self, end: &[u8]) {
        let found = self.text.windows(end.len()).position(|window| window == end);
        self.text = found.map_or(&[], |at| &self.text[at + end.len()..]);
    }

    /// What stands between two of these marks; a doubled one is one of the name's own.
    fn quoted(&mut self, mark: u8, escapes: bool) -> String {
        let mut out = Vec::new();
        let mut at = 1;
        while let Some(&byte) = self.text.get(at) {
            if escapes && byte == b'\\' {
                at += 1;
            } else if byte == mark {
                if self.text.get(at + 1) != Some(&mark) {
                    at += 1;
                    break;
                }
                at += 1;
            }
            out.extend(self.text.get(at));
            at += 1;
        }
        self.text = self.text.get(at..).unwrap_or_default();
        String::from_utf8_lossy(&out).to_lowercase()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            match self.text {
                [] => return None,
                // A comment that is executed is text like any other.
                [b'/', b'*', b'!', rest @ ..] | [b'/', b'*', b'M' | b'm', b'!', rest @ ..] => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    self.text = &rest[digits..];
                }
                [b'*', b'/', rest @ ..] => self.text = rest,
                [b'/', b'*', ..] => {
                    self.text = &self.text[2..];
                    self.skip_to(b"*/");
                }
                [b'#', ..] => self.skip_to(b"\n"),
                [b'-', b'-', space, ..] if space.is_ascii_whitespace() => self.skip_to(b"\n"),
                [b'\'', ..] => drop(self.quoted(b'\'', true)),
                [b'`', ..] => return Some(Token { word: self.quoted(b'`', false), quoted: true }),
                // A name or a string, as the session pleased; a string that is no name does no harm.
                [b'"', ..] => return Some(Token { word: self.quoted(b'"', false), quoted: true }),
                [byte, ..]
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80 =>
                {
                    let is_word = |byte: &u8| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80
                    };
                    let end = self.text.iter().position(|byte| !is_word(byte)).unwrap_or(self.text.len());
                    let word = String::from_utf8_lossy(&self.text[..end]).to_lowercase();
                    self.text = &self.text[end..];
                    return Some(Token { word, quoted: false });
                }
                [_, rest @ ..] => self.text = rest,
            }
        }
    }
}
