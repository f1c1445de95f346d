use std::io::Write;
use std::panic::catch_unwind;
use std::process::Command;
use std::{env, fs};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;

/// Conversations with `MySQL` 9.7 and `MariaDB` 10.11, as `converse` takes them.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mysql/stranger/recorded");
const NAME: &str =
    "mysql::stranger::tests::whatever_a_server_says_is_no_panic_and_takes_no_memory_for_nothing";
const WITHIN: &str = "DJM_STRANGER";
/// What may be taken more than the whole conversations need: the line's buffer, and a little.
const MORE: u64 = 1 << 20;

fn recorded() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(RECORDED).expect("a folder").map(|file| file.expect("a file").path());
    let mut all: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "bin"))
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(path).expect("read"))
        })
        .collect();
    all.sort();
    assert!(all.len() > 10, "{all:?}");
    all
}

#[test]
fn what_servers_have_said_is_understood() {
    for (name, said) in recorded() {
        let done = converse(&said);
        assert_eq!(done.is_err(), name.contains("refused"), "{name}: {done:?}");
    }
}

fn bound_memory() {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let held = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("it is told");
    let held: u64 = held.trim().trim_end_matches(" kB").parse().expect("a number");
    let most = Some(held * 1024 + MORE);
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most }).expect("bounded");
}

#[test]
fn whatever_a_server_says_is_no_panic_and_takes_no_memory_for_nothing() {
    if env::var_os(WITHIN).is_none() {
        // Memory is bounded for a process as a whole, so this has one of its own.
        let program = env::current_exe().expect("this one");
        let done = Command::new(program).args(["--exact", NAME]).env(WITHIN, "1").output().expect("run");
        let told = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && told.contains("1 passed"), "{}: {told}", done.status);
        return;
    }
    let all = recorded();
    for (_, said) in &all {
        let _ = converse(said);
    }
    bound_memory();
    for (name, whole) in &all {
        // Who ends here for want of memory has no other way to say where.
        writeln!(std::io::stderr(), "{name}").expect("told");
        let listen = |said: &[u8]| {
            assert!(catch_unwind(|| drop(converse(said))).is_ok(), "{name}, made to {said:02x?}");
        };
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for at in 1..whole.len() {
            listen(&whole[..at]);
            for value in [0x00, 0x7f, 0x80, 0xfb, 0xfe, 0xff, whole[at] ^ 1] {
                let mut said = whole.clone();
                said[at] = value;
                listen(&said);
            }
            // Several at once, of which one may be what a length counts.
            let mut said = whole.clone();
            for _ in 0..4 {
                said[1 + random(whole.len() - 1)] = random(256) as u8;
            }
            said.drain(at..(at + random(3)).min(whole.len()));
            listen(&said);
        }
    }
}
