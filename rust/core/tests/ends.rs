//! A new end of the river, or a new conversion, is one type: no verb, no plan and no other file knows of it.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use datajoint_migrate_core::convert::{AsTheyAre, Convert};
use datajoint_migrate_core::error::{Kind, Result};
use datajoint_migrate_core::mysql::scan::Take;
use datajoint_migrate_core::river::flow::{Counts, Flow};
use datajoint_migrate_core::river::read::Bounds;
use datajoint_migrate_core::river::sink::{Begun, Moved, Piece, Sink};
use datajoint_migrate_core::river::source::Source;
use datajoint_migrate_core::run::memory::LargeRows;
use datajoint_migrate_core::run::progress::Progress;

/// Takes rows and keeps none.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        Ok(Begun::Open)
    }

    fn batch(&mut self, _: RecordBatch) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        Ok(())
    }
}

/// Changes nothing.
struct Nothing;

impl Convert for Nothing {
    fn convert(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        Ok(batch)
    }
}

/// Ten batches of the numbers from 0 on. The first readings are cut after as many batches as `cuts` says.
#[derive(Default)]
struct Numbers {
    cuts: Vec<usize>,
}

const BATCHES: usize = 10;
const ROWS: usize = 7;

fn batch(number: usize) -> RecordBatch {
    let first = (number * ROWS) as i64;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + ROWS as i64));
    RecordBatch::try_from_iter([("n", numbers)]).expect("a batch")
}

impl Source for Numbers {
    fn read(&mut self, _: usize, take: &mut dyn Take) -> Result<()> {
        let cut = self.cuts.pop();
        for number in 0..BATCHES {
            if cut == Some(number) {
                return Err(Kind::Lost { server: "s".into(), message: "cut".into() }.into());
            }
            take.batch(batch(number), 60)?;
        }
        Ok(())
    }
}

/// Keeps the numbers that were committed, and fails at chosen moments.
#[derive(Default)]
struct Kept {
    taken: Vec<i64>,
    committed: Vec<i64>,
    abandoned: usize,
    /// Refuses a batch so often, and wants the chunk anew.
    anew: usize,
    refused: bool,
    /// Loses the answer to its first COMMIT.
    loses_answer: bool,
    committing: Option<Moved>,
    out_of_hand: bool,
}

impl Sink for Kept {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        assert!(self.taken.is_empty(), "what was abandoned is gone");
        Ok(self.committing.map_or(Begun::Open, Begun::Done))
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        if self.anew > 0 && self.taken.len() >= 3 * ROWS {
            self.anew -= 1;
            self.refused = true;
            return Err(Kind::Cancelled.into());
        }
        self.taken.extend(batch.column(0).as_primitive::<Int64Type>().values());
        Ok(())
    }

    fn commit(&mut self, _: &Piece, moved: Moved) -> Result<()> {
        assert_eq!(moved.rows as usize, self.taken.len());
        self.committed.append(&mut self.taken);
        if std::mem::take(&mut self.loses_answer) {
            self.committing = Some(moved);
            return Err(Kind::Lost { server: "s".into(), message: "no answer".into() }.into());
        }
        Ok(())
    }

    fn abandon(&mut self) {
        self.abandoned += 1;
        self.taken.clear();
    }

    fn wants_anew(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    fn is_repeatable(&self) -> bool {
        !self.out_of_hand
    }
}

static BOUNDS: LazyLock<Bounds> =
    LazyLock::new(|| Bounds { batch_bytes: 1 << 16, large: LargeRows::of(1 << 20), copies: 1 });

fn flow(progress: &Progress) -> Flow<'_> {
    Flow { progress, bounds: &BOUNDS, pays: true, counts: Counts::Memory }
}

fn all() -> Vec<i64> {
    (0..(BATCHES * ROWS) as i64).collect()
}

#[test]
fn a_sink_and_a_conversion_that_do_nothing_are_a_type_each() {
    let progress = Progress::default();
    let moved = flow(&progress)
        .chunk(&mut Numbers::default(), &mut Nothing, &mut Nowhere, &Piece::default())
        .expect("moved");
    assert_eq!(moved, Moved { rows: 70, bytes: 560, read: 600, largest: 0 });
    assert_eq!((progress.seen().rows, progress.seen().bytes), (70, 560));
}

#[test]
fn a_chunk_whose_source_is_lost_comes_again_from_its_beginning_and_is_counted_once() {
    let progress = Progress::default();
    let (mut source, mut sink) = (Numbers { cuts: vec![9, 4] }, Kept::default());
    flow(&progress).chunk(&mut source, &mut AsTheyAre, &mut sink, &Piece::default()).expect("moved");
    assert_eq!((sink.committed, sink.abandoned), (all(), 2));
    assert_eq!((progress.seen().rows, progress.seen().retries), (70, 2));
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let progress = Progress::default();
    let mut sink = Kept { loses_answer: true, ..Kept::default() };
    let moved = flow(&progress)
        .chunk(&mut Numbers::default(), &mut AsTheyAre, &mut sink, &Piece::default())
        .expect("moved");
    assert_eq!((sink.committed, moved.rows), (all(), 70));
    assert_eq!(progress.seen().rows, 70);
}

#[test]
fn a_sink_that_wants_a_chunk_anew_gets_it_without_a_pause() {
    let progress = Progress::default();
    let mut sink = Kept { anew: 2, ..Kept::default() };
    flow(&progress)
        .chunk(&mut Numbers::default(), &mut AsTheyAre, &mut sink, &Piece::default())
        .expect("moved");
    assert_eq!(sink.committed, all());
    assert_eq!((progress.seen().rows, progress.seen().retries), (70, 0));
}

#[test]
fn what_is_out_of_hand_is_not_tried_again() {
    let progress = Progress::default();
    let mut sink = Kept { out_of_hand: true, ..Kept::default() };
    let error = flow(&progress)
        .chunk(&mut Numbers { cuts: vec![4] }, &mut AsTheyAre, &mut sink, &Piece::default())
        .expect_err("the line was cut");
    assert_eq!(error.code(), "DJM-1103");
    assert_eq!((sink.committed, progress.seen().rows), (Vec::new(), 0));
}

#[test]
fn an_error_of_a_conversion_ends_the_chunk_and_leaves_nothing() {
    struct Refusing;
    impl Convert for Refusing {
        fn convert(&mut self, _: RecordBatch) -> Result<RecordBatch> {
            Err(Kind::Value("no".into()).into())
        }
    }
    let progress = Progress::default();
    let mut sink = Kept::default();
    let error = flow(&progress)
        .chunk(&mut Numbers::default(), &mut Refusing, &mut sink, &Piece::default())
        .expect_err("refused");
    assert_eq!((error.to_string().as_str(), sink.abandoned), ("no", 1));
    assert_eq!((sink.committed, progress.seen().rows), (Vec::new(), 0));
}
