//! A server that says whatever a stranger has made up, for the fuzzer and for tests: what it says is read or refused.

use super::connect::Server;
use super::decode::Audience;
use super::memory::{Event, Memory, forget, listen};
use super::query::Connection;
use super::scan::{scan, schema_of};
use crate::batch::digest::{Digest, Meaning};
use crate::error::Result;

/// In place of a length: the server waits for the client's next packet.
const WAITS: u16 = 0xffff;
/// Of the first byte: the server may have the password.
const TRUSTED: u8 = 0x80;
const BATCH_BYTES: usize = 1000;
const COM_STMT_CLOSE: u8 = 0x19;

/// Connects to a server that says `input`, and asks it what the first byte says. Then come packets, each with two bytes of
/// length before it; the last thing that the server does is to hang up.
pub fn converse(input: &[u8]) -> Result<()> {
    let Some((&how, said)) = input.split_first() else { return Ok(()) };
    let mut answers = Some(answers(said));
    let server = listen(move |_| {
        let mut answers = answers.take().unwrap_or_default().into_iter();
        let greeting = answers.next().unwrap_or_else(|| vec![Event::End]);
        Ok(Memory::new(greeting, move |packet| match packet {
            // Nothing is answered to this one.
            [COM_STMT_CLOSE, id @ ..] if id.len() == 4 => Vec::new(),
            _ => answers.next().unwrap_or_else(|| vec![Event::End]),
        }))
    });
    let server = Server {
        password: String::from("s3cret").into(),
        trust_server: how & TRUSTED != 0,
        enable_cleartext_plugin: true,
        ..server
    };
    let done = server.connect().and_then(|mut connection| ask(&mut connection, how & !TRUSTED));
    forget(&server);
    done
}

/// What the server says at a time, up to the client's next packet.
fn answers(mut said: &[u8]) -> Vec<Vec<Event>> {
    let mut answers = vec![Vec::new()];
    while let Some((&length, rest)) = said.split_first_chunk::<2>() {
        let length = u16::from_le_bytes(length);
        if length == WAITS {
            answers.push(Vec::new());
            said = rest;
            continue;
        }
        let (packet, rest) = rest.split_at(rest.len().min(usize::from(length)));
        answers.last_mut().into_iter().for_each(|answer| answer.push(Event::Packet(packet.to_vec())));
        said = rest;
    }
    answers.last_mut().into_iter().for_each(|answer| answer.push(Event::End));
    answers
}

fn ask(connection: &mut Connection, how: u8) -> Result<()> {
    match how {
        0 => connection.execute("it").map(drop),
        1 => connection.query("it").map(drop),
        2 => connection.value_through("it", &mut |_| Ok(())).map(drop),
        3 => {
            connection.open_load("it")?;
            connection.send_data(b"1\n")?;
            connection.finish_load().map(drop)
        }
        4 => scan(connection, "it", Audience::River, BATCH_BYTES, &mut |batch, _| {
            Digest::default().add(&batch, &vec![Meaning::Value; batch.num_columns()])
        })
        .map(drop),
        5 => scan(connection, "it", Audience::User, BATCH_BYTES, &mut |_, _| Ok(())).map(drop),
        _ => schema_of(connection, "it", Audience::User).map(drop),
    }
}

#[cfg(test)]
mod tests;
