//! The whole life of segments, of the note of the log's end and of what takes frames away, with every call
//! to the disk failing once in every way, or the power going in it. The life goes on after that: in the
//! same process where that goes on, in another one where it ends. Whatever was acknowledged is there at
//! each start, what a start has told is durable from then on, and every start succeeds.

use super::*;
use crate::env::sim_disk::{Outcome, Survives};

/// Not a page, or what is written always ends where a segment does.
const OPTIONS: Options = Options {
    segment_bytes: 12 << 10,
    ..SMALL
};

/// What is done in a life. Positions are shares of what the log holds, in tenths.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(&'static [usize]),
    Epoch,
    Prepare,
    Trim(usize),
    Truncate(usize),
    /// To the base of the last segment.
    TruncateToBase,
    Reset(u64),
    Mark,
    Settle,
    /// The process ends, and another one begins.
    Restart,
}

/// Segments are made as they are written and ahead, sealed full and early, recycled, cut in the midst
/// and at their base, and thrown away.
const LIFE: &[Step] = &[
    Step::Append(&[600]),
    Step::Prepare,
    Step::Append(&[600, 700]),
    Step::Settle,
    Step::Append(&[5000]),
    Step::Append(&[5000, 300]),
    Step::Restart,
    Step::Prepare,
    Step::Append(&[6000]),
    Step::Append(&[6000]),
    Step::Mark,
    Step::Trim(7),
    Step::Prepare,
    Step::Append(&[9000]),
    Step::Append(&[9000, 100]),
    Step::Truncate(9),
    Step::Epoch,
    Step::Append(&[700]),
    Step::Append(&[9000]),
    Step::TruncateToBase,
    Step::Epoch,
    Step::Append(&[800, 4000, 8000]),
    Step::Restart,
    Step::TruncateToBase,
    Step::Epoch,
    Step::Append(&[300]),
    Step::Settle,
    Step::Trim(9),
    Step::Reset(1000),
    Step::Append(&[2000]),
    Step::Prepare,
    Step::Append(&[100]),
    Step::Restart,
    Step::TruncateToBase,
    Step::Epoch,
    Step::Append(&[100]),
    Step::Append(&[20_000]),
    Step::Mark,
    Step::Append(&[100]),
];

/// What a log holds: frames after a beginning.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    begin: Tip,
    frames: Vec<Frame>,
}

impl Model {
    fn tip(&self) -> Tip {
        self.frames.last().map_or(self.begin, Frame::tip)
    }

    /// Whether this is what is in a log, but for what was trimmed.
    fn is_in(&self, log: &Log) -> bool {
        let kept = self.frames.iter();
        let kept = kept.filter(|frame| frame.start() >= log.oldest());
        log.tip() == self.tip() && contents(log).iter().eq(kept)
    }
}

struct Life {
    disk: SimDisk,
    what: String,
    model: Model,
    /// What the log may hold as well, as a step did not end.
    others: Vec<Model>,
    epoch: Epoch,
    process: Option<(LogWriter, Log)>,
    failures: usize,
}

fn start(disk: &SimDisk) -> Result<(LogWriter, Log, Recovered), LogError> {
    Log::open_noted(Arc::new(disk.clone()), disk, OPTIONS)
}

impl Life {
    fn new(disk: SimDisk, what: String) -> Self {
        Self {
            disk,
            what,
            model: Model {
                begin: Tip::default(),
                frames: Vec::new(),
            },
            others: Vec::new(),
            epoch: Epoch(1),
            process: None,
            failures: 0,
        }
    }

    /// Starts a process, again if the failure hits it. Does nothing without power.
    fn start(&mut self) {
        self.process = None;
        let opened = start(&self.disk).or_else(|_| {
            self.failures += 1;
            start(&self.disk)
        });
        if self.disk.list().is_err() {
            return;
        }
        let (writer, log, _) = opened.unwrap_or_else(|error| panic!("{}: {error}", self.what));
        self.settle_model(&log);
        // What is told from now on survives.
        let told = log.tip();
        for survives in [Survives::Nothing, Survives::Some] {
            let found = start(&self.disk.copy_after(survives));
            let (_, found, _) = found.unwrap_or_else(|error| panic!("{}: {error}", self.what));
            assert_eq!(found.tip(), told, "{}, {survives:?}", self.what);
        }
        self.process = Some((writer, log));
    }

    fn settle_model(&mut self, log: &Log) {
        self.others.insert(0, self.model.clone());
        let found = self.others.drain(..).find(|model| model.is_in(log));
        let tip = self.model.tip();
        self.model = found.unwrap_or_else(|| panic!("{}: {log:?}, not {tip:?}", self.what));
    }

    fn live(&mut self, steps: &[Step]) {
        self.start();
        for step in steps {
            if self.process.is_none() {
                return;
            }
            if self.take(*step).is_err() {
                self.failures += 1;
                self.start();
            }
        }
    }

    /// An error ends the process.
    fn take(&mut self, step: Step) -> Result<(), LogError> {
        let Some((writer, log)) = &mut self.process else {
            return Ok(());
        };
        let mut next = self.model.clone();
        let at = |tenths: usize| {
            let kept = self.model.frames.iter();
            let kept: Vec<Lsn> = kept
                .map(Frame::end)
                .filter(|end| *end >= log.oldest())
                .collect();
            let some = kept.get(kept.len() * tenths / 10);
            some.copied().unwrap_or_else(|| log.oldest())
        };
        match step {
            Step::Append(sizes) => {
                let mut source = Source::after(5, self.model.tip());
                let frames = sizes.iter().map(|size| source.frame_in(self.epoch, *size));
                let frames: Vec<Frame> = frames.collect();
                for frame in &frames {
                    next.frames.push(frame.clone());
                    self.others.push(next.clone());
                }
                writer.append(&frames)?;
                let _ = writer.note_durable();
            }
            Step::Truncate(tenths) => {
                let to = at(tenths);
                next.frames.retain(|frame| frame.end() <= to);
                self.others.push(next.clone());
                writer.truncate(to)?;
            }
            Step::TruncateToBase => {
                let to = log.0.view.read().segments.back().unwrap().base();
                next.frames.retain(|frame| frame.end() <= to);
                self.others.push(next.clone());
                writer.truncate(to)?;
            }
            Step::Reset(lsn) => {
                let mut history = EpochHistory::default();
                history.append(self.epoch, Lsn::ZERO);
                let mut begin = Tip::default();
                (begin.position.lsn, begin.chain) = (Lsn(lsn), 77);
                begin.position.epoch = self.epoch;
                next = Model {
                    begin,
                    frames: Vec::new(),
                };
                self.others.push(next.clone());
                writer.reset(Lsn(lsn), history, 77)?;
            }
            Step::Mark => writer.mark_durable()?,
            Step::Epoch => self.epoch = self.epoch.next(),
            // These may fail, and the process goes on.
            Step::Prepare => self.failures += usize::from(log.prepare().is_err()),
            Step::Trim(tenths) => self.failures += usize::from(log.trim(at(tenths)).is_err()),
            Step::Settle => self.failures += usize::from(log.settle().is_err()),
            Step::Restart => {
                self.start();
                return Ok(());
            }
        }
        self.model = next;
        self.others.clear();
        if self.disk.list().is_err() {
            self.process = None; // the power went in what may fail
            return Ok(());
        }
        let (writer, log) = self.process.as_ref().expect("it runs");
        assert_eq!(writer.tip(), self.model.tip(), "{}", self.what);
        assert!(self.model.is_in(log), "{}", self.what);
        Ok(())
    }

    /// The power goes, and the life goes on with what is found.
    fn after_crash(&self, survives: Survives) -> Self {
        Self {
            disk: self.disk.crash_with(survives),
            what: format!("{}, {survives:?}", self.what),
            model: self.model.clone(),
            others: self.others.clone(),
            epoch: self.epoch.next(),
            process: None,
            failures: 0,
        }
    }
}

const MORE: &[Step] = &[
    Step::Append(&[300]),
    Step::Prepare,
    Step::Append(&[9000, 400]),
    Step::Restart,
];

fn operations() -> u64 {
    let mut life = Life::new(SimDisk::new(0), "undisturbed".to_owned());
    life.live(LIFE);
    assert_eq!(life.failures, 0);
    life.disk.operations()
}

#[test]
fn every_call_may_fail_in_every_way_and_life_goes_on() {
    let mut failures = 0;
    for operation in 0..operations() {
        for outcome in [Outcome::Done, Outcome::Undone, Outcome::Readable] {
            let what = format!("operation {operation} fails, {outcome:?}");
            let mut life = Life::new(SimDisk::new(operation), what);
            let disk = life.disk.clone();
            disk.fail_with(operation, io::ErrorKind::Other, outcome);
            life.live(LIFE);
            failures += life.failures;
            for survives in [Survives::All, Survives::Nothing, Survives::Some] {
                life.after_crash(survives).live(MORE);
            }
        }
    }
    assert!(failures > operations() as usize, "{failures}");
}

#[test]
fn the_power_may_go_in_every_call_and_life_goes_on() {
    for operation in 0..operations() {
        for survives in [Survives::All, Survives::Nothing, Survives::Some] {
            let what = format!("the power goes at operation {operation}");
            let mut life = Life::new(SimDisk::new(operation), what);
            life.disk.lose_power_at(operation);
            life.live(LIFE);
            life.after_crash(survives).live(MORE);
        }
    }
}

/// A failure, and soon after it the power goes: what the failure left is on the disk or told to be lost.
#[test]
fn the_power_may_go_after_every_failure() {
    for operation in 0..operations() {
        for outcome in [Outcome::Undone, Outcome::Readable] {
            for after in 1..=8 {
                let what =
                    format!("operation {operation} fails, {outcome:?}, power goes {after} later");
                let mut life = Life::new(SimDisk::new(operation + after), what);
                let disk = life.disk.clone();
                disk.fail_with(operation, io::ErrorKind::Other, outcome);
                disk.lose_power_at(operation + after);
                life.live(LIFE);
                life.after_crash(Survives::Some).live(MORE);
            }
        }
    }
}
