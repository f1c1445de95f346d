use std::sync::{Arc, Mutex};

use super::*;
use crate::mysql::memory::Event;

fn pair() -> (Wire, Wire) {
    let (one, other) = UnixStream::pair().expect("a pair of sockets");
    let wire = |stream| Wire::new(Transport::Unix(stream), "here".into());
    (wire(one), wire(other))
}

#[test]
fn a_packet_sent_in_parts_arrives_as_one_sent_whole() {
    for length in [0, 1, 70_000, FRAME - 1, FRAME, FRAME + 5, 2 * FRAME] {
        let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let (mut sender, mut receiver) = pair();
        let sent = payload.clone();
        let sending = std::thread::spawn(move || {
            sender.write(&sent).expect("whole");
            sender.begin();
            sender.announce(sent.len()).expect("announced");
            for part in sent.chunks(1_000_003) {
                sender.part(part).expect("a part");
            }
            assert!(sender.part(b"more").is_err());
        });
        for _ in 0..2 {
            assert!(receiver.read().expect("arrived") == payload, "{length} bytes");
            receiver.begin();
        }
        sending.join().expect("sent");
    }
}

#[test]
fn a_packet_without_room_is_passed_over_and_the_next_one_is_read() {
    let (mut sender, mut receiver) = pair();
    let sending = std::thread::spawn(move || {
        for packet in [vec![7; FRAME + 9], vec![8; 1_000_000], b"after".to_vec()] {
            sender.write(&packet).expect("sent");
        }
    });
    let mut told = Vec::new();
    let packet = receiver.read_with(&mut |bytes| {
        told.push(bytes);
        bytes <= FRAME as u64
    });
    assert_eq!(packet.expect("passed over"), [7]);
    assert_eq!(told, [FRAME as u64, FRAME as u64 + 9]);
    assert_eq!(receiver.read_with(&mut |_| false).expect("passed over"), [8]);
    assert_eq!(receiver.read().expect("read"), b"after");
    sending.join().expect("sent");
}

fn over(greeting: Vec<Event>) -> (Wire, Arc<Mutex<Vec<Vec<u8>>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let memory = Memory::new(greeting, move |packet| {
        told.lock().expect("no test panicked").push(packet.to_vec());
        Vec::new()
    });
    (Wire::new(Transport::Memory(memory), "here".into()), heard)
}

/// Says what a silence is, and notes what it was asked.
struct Noting {
    gives_up: bool,
    asked: Arc<Mutex<Vec<Waiting>>>,
    forgotten: Arc<Mutex<usize>>,
}

impl Judge for Noting {
    fn patience(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn last(&mut self, waiting: Waiting) -> Result<()> {
        self.asked.lock().expect("no test panicked").push(waiting);
        let lost = || Kind::Lost { server: "here".into(), message: "judged".into() }.into();
        if self.gives_up { Err(lost()) } else { Ok(()) }
    }

    fn forget(&mut self) -> bool {
        *self.forgotten.lock().expect("no test panicked") += 1;
        true
    }
}

fn noting(gives_up: bool) -> Noting {
    Noting { gives_up, asked: Arc::default(), forgotten: Arc::default() }
}

#[test]
fn bytes_may_come_and_go_one_at_a_time() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let mut memory = Memory::new(vec![Event::Packet(b"hello".to_vec())], move |packet| {
        told.lock().expect("no test panicked").push(packet.to_vec());
        vec![Event::Packet(packet.to_vec()), Event::Packet(Vec::new())]
    });
    memory.most = 1;
    let mut wire = Wire::new(Transport::Memory(memory), "here".into());
    assert_eq!(wire.read().expect("a greeting"), b"hello");
    for said in [&b"a question"[..], &[7; 300]] {
        wire.begin();
        wire.write(said).expect("sent");
        assert_eq!(wire.read().expect("an answer"), said);
        assert_eq!(wire.read().expect("another"), b"");
    }
    assert_eq!(heard.lock().expect("no test panicked").len(), 2);
}

#[test]
fn a_packet_out_of_turn_is_no_answer() {
    let (mut wire, _) = over(vec![Event::Raw(vec![1, 0, 0, 7, b'x'])]);
    let error = wire.read().expect_err("out of turn");
    assert!(matches!(error.kind(), Kind::Protocol(_)), "{error}");
    assert!(error.to_string().contains("packet 7 where 0 was due"), "{error}");
}

#[test]
fn over_a_line_that_ended_within_a_packet_nothing_more_is_said() {
    for cut in [vec![], vec![9, 0], vec![9, 0, 0, 0], vec![9, 0, 0, 0, b'a']] {
        let (mut wire, heard) = over(vec![Event::Raw(cut), Event::End]);
        for _ in 0..2 {
            let error = wire.read().expect_err("it ended");
            assert!(matches!(error.kind(), Kind::Lost { .. }), "{error}");
        }
        assert!(matches!(wire.write(b"more").expect_err("closed").kind(), Kind::Lost { .. }));
        assert!(heard.lock().expect("no test panicked").is_empty());
    }
}

#[test]
fn a_silence_ends_a_line_that_has_no_judge_and_an_interruption_does_not() {
    let hello = || Event::Packet(b"hello".to_vec());
    let (mut wire, _) = over(vec![Event::Fails(io::ErrorKind::Interrupted), hello()]);
    assert_eq!(wire.read().expect("a greeting"), b"hello");
    let (mut wire, _) = over(vec![Event::Fails(io::ErrorKind::TimedOut), hello()]);
    assert!(matches!(wire.read().expect_err("silent").kind(), Kind::Lost { .. }));
    let (mut wire, _) = over(vec![Event::Fails(io::ErrorKind::ConnectionReset), hello()]);
    assert!(matches!(wire.read().expect_err("reset").kind(), Kind::Lost { .. }));
}

#[test]
fn a_judge_is_asked_about_each_silence_and_forgets_it_when_bytes_move() {
    let silence = || Event::Fails(io::ErrorKind::WouldBlock);
    let raw = |bytes: &[u8]| Event::Raw(bytes.to_vec());
    let (mut wire, heard) = over(vec![silence(), silence(), raw(&[2, 0, 0, 0, b'o']), silence(), raw(b"k")]);
    let judge = noting(false);
    let (asked, forgotten) = (judge.asked.clone(), judge.forgotten.clone());
    wire.judge_silence(judge).expect("set");
    assert_eq!(wire.read().expect("after all"), b"ok");
    assert_eq!(*asked.lock().expect("no test panicked"), [Waiting::ToReceive; 3]);
    assert_eq!(*forgotten.lock().expect("no test panicked"), 2);
    let Some(Transport::Memory(memory)) = &mut wire.transport else { panic!("in memory") };
    memory.deaf = 2;
    wire.write(b"late").expect("sent");
    assert_eq!(asked.lock().expect("no test panicked")[3..], [Waiting::ToSend; 2]);
    assert_eq!(*heard.lock().expect("no test panicked"), [b"late"]);
}

#[test]
fn a_judge_that_gives_up_closes_the_line() {
    let (mut wire, heard) =
        over(vec![Event::Fails(io::ErrorKind::WouldBlock), Event::Packet(b"late".to_vec())]);
    wire.judge_silence(noting(true)).expect("set");
    assert!(wire.read().expect_err("judged").to_string().ends_with("judged"));
    // What comes after it is not taken for the answer to something else.
    assert!(matches!(wire.read().expect_err("closed").kind(), Kind::Lost { .. }));
    assert!(wire.write(b"more").is_err() && heard.lock().expect("no test panicked").is_empty());
}
