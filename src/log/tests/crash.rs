//! The power goes at every single operation on the disk, while the log is used in every way: what
//! was acknowledged is there afterwards, what was cut off is not, and the log can be opened.

use super::*;

/// What is being done to the log when the power goes.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Frame>),
    Truncate(Lsn),
    Reset(Tip),
    Trim(Lsn),
    Prepare,
    Mark,
}

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

    fn after(&self, step: &Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Append(frames) => next.frames.extend(frames.iter().cloned()),
            Step::Truncate(to) => next.frames.retain(|frame| frame.end() <= *to),
            Step::Reset(at) => {
                next = Self {
                    begin: *at,
                    frames: Vec::new(),
                }
            }
            Step::Trim(_) | Step::Prepare | Step::Mark => {}
        }
        next
    }

    /// Whether this is what is in a log, but for what was trimmed.
    fn is_in(&self, log: &Log) -> bool {
        let kept = self
            .frames
            .iter()
            .filter(|frame| frame.start() >= log.oldest());
        log.tip() == self.tip() && contents(log).iter().eq(kept)
    }
}

struct Run {
    rng: SmallRng,
    disk: SimDisk,
    model: Model,
    trimmed: Lsn,
    /// The step that did not end.
    interrupted: Option<Step>,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            disk: SimDisk::new(seed),
            model: Model {
                begin: Tip::default(),
                frames: Vec::new(),
            },
            trimmed: Lsn::ZERO,
            interrupted: None,
        }
    }

    /// Uses a log until `steps` are done or the power goes.
    fn work(&mut self, steps: usize) {
        let Ok((mut writer, log, _)) = Log::open(Arc::new(self.disk.clone()), SMALL) else {
            return;
        };
        for _ in 0..steps {
            let step = self.choose(&log);
            if perform(&step, &mut writer, &log).is_err() {
                self.interrupted = Some(step);
                return;
            }
            self.model = self.model.after(&step);
            assert_eq!(writer.tip(), self.model.tip());
            match step {
                Step::Trim(below) => self.trimmed = self.trimmed.max(below),
                Step::Reset(at) => self.trimmed = at.position.lsn,
                _ => {}
            }
        }
    }

    fn choose(&mut self, log: &Log) -> Step {
        let kept: Vec<Lsn> = self.model.frames.iter().map(Frame::end).collect();
        let kept: Vec<Lsn> = kept
            .into_iter()
            .filter(|end| *end >= log.oldest())
            .collect();
        let some = self.rng.random_range(0..=kept.len());
        let some = kept.get(some).copied();
        match self.rng.random_range(0..20) {
            0..=1 => Step::Truncate(some.unwrap_or_else(|| log.oldest())),
            2..=3 => Step::Trim(some.unwrap_or_default()),
            4..=6 => Step::Prepare,
            7 => Step::Mark,
            8 => {
                let lsn = Lsn(self.rng.random_range(1..20_000));
                let mut at = Tip::default();
                at.position.lsn = lsn;
                at.position.epoch = Epoch(self.rng.random_range(1..5));
                at.chain = self.rng.random();
                Step::Reset(at)
            }
            _ => {
                // From time to time a new epoch, as after a cut.
                let mut source = Source::after(self.rng.random(), self.model.tip());
                Step::Append(source.batch())
            }
        }
    }

    /// Opens what is left and compares.
    fn check(&self, disk: &SimDisk, what: &str) {
        let opened = Log::open(Arc::new(disk.clone()), SMALL);
        let (mut writer, log, _) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let possible = self.possible();
        assert!(
            possible.iter().any(|model| model.is_in(&log)),
            "{what}: {:?} during {:?}, found {log:?}",
            self.model.tip(),
            self.interrupted,
        );
        let was_reset = possible
            .last()
            .is_some_and(|model| model.begin == log.tip());
        assert!(
            log.oldest() <= self.trimmed.max(self.trimming()) || was_reset,
            "{what}"
        );

        // And it goes on.
        let before = contents(&log);
        let mut source = Source::after(99, log.tip());
        let more = [source.batch(), source.batch()];
        for batch in &more {
            writer.append(batch).unwrap();
        }
        let (_, log, _) = open(&disk.crash());
        assert_eq!(contents(&log), [before, more.concat()].concat(), "{what}");
    }

    fn trimming(&self) -> Lsn {
        match self.interrupted {
            Some(Step::Trim(below)) => below,
            _ => Lsn::ZERO,
        }
    }

    /// What the log may hold, given what was under way.
    fn possible(&self) -> Vec<Model> {
        let mut possible = vec![self.model.clone()];
        match &self.interrupted {
            // Any whole frames of a batch.
            Some(Step::Append(frames)) => possible.extend((1..=frames.len()).map(|count| {
                let part = Step::Append(frames[..count].to_vec());
                self.model.after(&part)
            })),
            Some(step) => possible.push(self.model.after(step)),
            None => {}
        }
        possible
    }
}

fn perform(step: &Step, writer: &mut LogWriter, log: &Log) -> Result<(), LogError> {
    match step {
        Step::Append(frames) => writer.append(frames),
        Step::Truncate(to) => writer.truncate(*to),
        Step::Trim(below) => log.trim(*below),
        Step::Prepare => log.prepare().map(drop),
        Step::Mark => writer.mark_durable(),
        Step::Reset(at) => {
            let mut history = EpochHistory::default();
            history.append(at.position.epoch, Lsn::ZERO);
            writer.reset(at.position.lsn, history, at.chain)
        }
    }
}

#[test]
fn the_power_may_go_at_any_moment() {
    for seed in 0..40 {
        let mut whole = Run::new(seed);
        whole.work(40);
        for operation in 0..=whole.disk.operations() {
            let mut run = Run::new(seed);
            run.disk.lose_power_at(operation);
            run.work(40);
            run.check(
                &run.disk.crash(),
                &format!("seed {seed}, operation {operation}"),
            );
        }
    }
}

#[test]
fn the_power_may_go_again_while_the_log_is_opened() {
    for seed in 100..110 {
        let mut whole = Run::new(seed);
        whole.work(25);
        for first in 0..=whole.disk.operations() {
            let mut run = Run::new(seed);
            run.disk.lose_power_at(first);
            run.work(25);
            let found = run.disk.crash();
            for second in 0.. {
                let disk = found.copy();
                disk.lose_power_at(second);
                let opened = Log::open(Arc::new(disk.clone()), SMALL).is_ok();
                let what = format!("seed {seed}, operations {first} and {second}");
                run.check(&disk.crash(), &what);
                if opened {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_failing_disk_loses_nothing_that_was_acknowledged() {
    for seed in 200..210 {
        let mut whole = Run::new(seed);
        whole.work(25);
        for operation in 0..=whole.disk.operations() {
            let mut run = Run::new(seed);
            run.disk.fail_at(operation, io::ErrorKind::Other);
            run.work(25);
            run.check(
                &run.disk.crash(),
                &format!("seed {seed}, operation {operation}"),
            );
        }
    }
}

/// A process that is killed, or ends at an error, may leave writes that are seen and not on the
/// disk. Whoever opens the log after it says that they are there, so then they must be.
#[test]
fn what_is_found_at_the_start_is_durable_from_then_on() {
    for seed in 300..310 {
        let mut whole = Run::new(seed);
        whole.work(12);
        for operation in 0..=whole.disk.operations() {
            let mut run = Run::new(seed);
            run.disk.fail_at(operation, io::ErrorKind::Other);
            run.work(12);
            let Ok((_, log, _)) = Log::open(Arc::new(run.disk.clone()), SMALL) else {
                continue;
            };
            let (_, after, _) = Log::open(Arc::new(run.disk.crash()), SMALL).unwrap();
            let what = format!("seed {seed}, operation {operation}");
            assert_eq!(after.tip(), log.tip(), "{what}");
        }
    }
}
