//! What comes of promises: who leads, who votes, and how long the new leader waits for leases of
//! earlier ones.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::replication::admin::PromiseAnswer;
use crate::replication::types::{Configuration, Epoch, ReplicaId, VoterSet};

use super::promotion::{Campaign, Cause, copies, leases, missing, satisfies};
use super::{Swap, Waiting};
use crate::api::Verdict;
use crate::operator::view::{Held, View};

/// The answers of a campaign.
struct Sorted {
    /// Those that count.
    whole: Vec<PromiseAnswer>,
    put_back: Vec<PromiseAnswer>,
    forgiven: BTreeSet<ReplicaId>,
}

/// The outcome of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Elected {
    /// The change of the register.
    pub swap: Swap,
    /// Who counts only as the user accepts what its disk has lost.
    pub forgiven: BTreeSet<ReplicaId>,
    /// Who leads.
    pub leader: ReplicaId,
    /// The end of its log.
    pub end: u64,
    /// Each that answered, and why it leads or does not.
    pub verdicts: Vec<(PromiseAnswer, Verdict)>,
}

/// How long voters may take to promise once enough have.
const GRACE: Duration = Duration::from_millis(50);

impl Campaign {
    /// The configuration that the answers allow, or what is missing.
    pub fn elect(&self, view: &View, answers: &[PromiseAnswer]) -> Result<Elected, Waiting> {
        if let Some(refused) = answers.iter().find(|answer| !answer.granted) {
            let name = view.name_of(refused.id);
            return Err(missing(&format!(
                "{name} has promised epoch {} before",
                refused.promised
            )));
        }
        let Sorted {
            whole,
            put_back,
            forgiven,
        } = self.sorted_out(view, answers);
        let granted: BTreeSet<ReplicaId> = whole.iter().map(|answer| answer.id).collect();
        let answered = answers.iter().map(|answer| answer.id).collect();
        let waiting = self.unanswered(view, &answered);
        if let Some(waiting) = waiting.or_else(|| self.too_few(view, &granted)) {
            return Err(without(view, &put_back, waiting));
        }
        let counted = self.counted(&whole);
        let best = self
            .best(&counted)
            .ok_or_else(|| self.nobody(view, &counted))?;
        let wait = self.longest_lease(answers, &counted);
        let to = self.configuration(best.id, &granted, wait);
        assert!(
            to.epoch > self.base.as_ref().map_or(Epoch(0), |base| base.epoch),
            "epochs rise"
        );
        let why = format!(
            "{} leads epoch {} ({}) after {wait} ms: its log ends at {} of epoch {}, the best of {} \
             that count of {} that promised",
            view.name_of(best.id),
            to.epoch,
            self.cause.name(),
            best.last.lsn,
            best.last.epoch,
            counted.len(),
            granted.len()
        );
        let verdicts = answers.iter().map(|answer| {
            let whole = granted.contains(&answer.id);
            let verdict = self.verdict(answer, whole, best, &counted);
            (answer.clone(), verdict)
        });
        Ok(Elected {
            verdicts: verdicts.collect(),
            forgiven,
            leader: best.id,
            end: best.last.lsn.0,
            swap: Swap { to, why },
        })
    }

    /// How long the others are waited for once these have promised; `None` if they are not enough. `target` is whom a
    /// leader made room for.
    pub fn patience(
        &self,
        promised: &BTreeSet<ReplicaId>,
        target: Option<ReplicaId>,
        lease: Duration,
    ) -> Option<Duration> {
        if !self.enough(promised) {
            return None;
        }
        Some(match target {
            Some(target) if promised.contains(&target) => Duration::ZERO,
            // Without it the lead would go back to the one that made room.
            Some(_) => lease,
            // Where the best log loses least, it is worth a wait.
            None if self.sets.iter().any(|set| set.sync == 0) => lease,
            None => GRACE,
        })
    }

    /// Those that count, and the others. What the user gives up is not given up where there is another way: the
    /// list may be left from a loss of long ago.
    fn sorted_out(&self, view: &View, answers: &[PromiseAnswer]) -> Sorted {
        let sorted = |forgiven: &BTreeSet<ReplicaId>| {
            let all = answers.iter().cloned();
            let (whole, put_back) = all.partition(|it| self.is_whole(it, answers, forgiven));
            Sorted {
                whole,
                put_back,
                forgiven: BTreeSet::new(),
            }
        };
        let strictly = sorted(&BTreeSet::new());
        let granted = strictly.whole.iter().map(|answer| answer.id).collect();
        if self.too_few(view, &granted).is_none() {
            return strictly;
        }
        let lenient = sorted(&self.forgiven);
        let ids = lenient.whole.iter().map(|answer| answer.id);
        Sorted {
            forgiven: ids.filter(|id| !granted.contains(id)).collect(),
            ..lenient
        }
    }

    /// Whether this disk still holds what it is known to have had, to the operator or to a leader that
    /// answers. One that was put back has forgotten what it acknowledged, and what it promised: whoever
    /// was chosen had promised its epoch, on this disk.
    fn is_whole(
        &self,
        answer: &PromiseAnswer,
        answers: &[PromiseAnswer],
        forgiven: &BTreeSet<ReplicaId>,
    ) -> bool {
        let forgiven = forgiven.contains(&answer.id);
        let base = self.base.as_ref();
        let chosen = base.filter(|base| base.leader == Some(answer.id));
        let forgot = chosen.is_some_and(|base| answer.before.is_some_and(|it| it < base.epoch));
        let told = answers.iter().flat_map(|it| &it.acknowledged);
        let told = told.filter(|it| it.id == answer.id).map(|it| Held {
            epoch: it.epoch,
            lsn: it.last.lsn,
            newest: it.last.epoch,
        });
        let noted = self.held.get(&answer.id).filter(|_| !forgiven);
        let mut held = told.chain(noted.copied());
        let less = |it: Held| {
            let last = answer.last;
            (last.lsn < it.lsn || last.epoch < it.newest) && answer.cut <= it.epoch
        };
        let forgetful = !forgiven && self.is_forgetful(answer);
        !forgot && !forgetful && !held.any(less)
    }

    /// Whether its log was damaged, so that it may have acknowledged what it has no more. If nobody else votes,
    /// nobody else can have that either.
    fn is_forgetful(&self, answer: &PromiseAnswer) -> bool {
        let mut voters = self.sets.iter().flat_map(|set| &set.voters);
        let alone = voters.all(|id| *id == answer.id);
        answer.forgotten && !alone
    }

    /// The answers that are taken into account. Where every set is synchronous, any that are
    /// enough will do: then those are left out that would mean a longer wait for leases, or whose
    /// replica should not lead. Else all count, as the best log loses least.
    fn counted<'a>(&self, answers: &'a [PromiseAnswer]) -> Vec<&'a PromiseAnswer> {
        let all: Vec<&PromiseAnswer> = answers.iter().collect();
        let recovers = self.cause == Cause::RegisterRecovered;
        if recovers || self.sets.is_empty() || self.sets.iter().any(|set| set.sync == 0) {
            return all;
        }
        let fit = |answer: &&&PromiseAnswer| !self.unfit.contains(&answer.id);
        let welcome = |answer: &&&PromiseAnswer| !self.avoid.contains(&answer.id);
        let pools: [Vec<&PromiseAnswer>; 3] = [
            all.iter().filter(welcome).filter(fit).copied().collect(),
            all.iter().filter(welcome).copied().collect(),
            all.clone(),
        ];
        let chosen = pools.iter().find_map(|pool| self.quickest(answers, pool));
        chosen.unwrap_or(all)
    }

    /// As many of `pool` as mean the shortest wait, if one of them may lead by what they say.
    fn quickest<'a>(
        &self,
        answers: &[PromiseAnswer],
        pool: &[&'a PromiseAnswer],
    ) -> Option<Vec<&'a PromiseAnswer>> {
        let wait = |answer: &PromiseAnswer| self.longest_lease(answers, &[answer]);
        let waits: BTreeSet<u64> = pool.iter().map(|answer| wait(answer)).collect();
        waits.into_iter().find_map(|limit| {
            let chosen: Vec<&PromiseAnswer> = pool
                .iter()
                .filter(|answer| wait(answer) <= limit)
                .copied()
                .collect();
            self.best(&chosen).is_some().then_some(chosen)
        })
    }

    /// The longest time in milliseconds for which a lease told in these answers may still run. The
    /// leases of the register's leader are void if its process has ended or has promised here; one
    /// of an unknown holder never is, nor is one of an earlier leader.
    fn longest_lease(&self, answers: &[PromiseAnswer], counted: &[&PromiseAnswer]) -> u64 {
        let base = self.base.as_ref();
        let leader = base.and_then(|base| base.leader);
        let promised = answers.iter().any(|answer| Some(answer.id) == leader);
        let void = base
            .map(|base| base.epoch)
            .filter(|_| self.ended || promised);
        let leases = counted.iter().flat_map(|answer| &answer.leases);
        leases
            .filter(|lease| lease.holder.is_none() || lease.holder != void)
            .map(|lease| lease.left_ms)
            .max()
            .unwrap_or(0)
    }

    fn able(&self, id: ReplicaId) -> bool {
        !self.barred.contains(&id)
    }

    fn best<'a>(&self, counted: &[&'a PromiseAnswer]) -> Option<&'a PromiseAnswer> {
        let able = || counted.iter().filter(|answer| self.able(answer.id));
        let key = |answer: &&&PromiseAnswer| {
            let fit = !self.unfit.contains(&answer.id);
            (answer.last, fit, self.rank(answer.id))
        };
        // Only as long as the others alone would be enough: then theirs is the best log that counts.
        let welcome = || able().filter(|answer| !self.avoid.contains(&answer.id));
        let ids = welcome().map(|answer| answer.id).collect();
        let best = welcome().max_by_key(key).filter(|_| self.meets(&ids));
        let best = best.or_else(|| able().max_by_key(key)).copied();
        best.filter(|best| self.has_all(best, counted))
    }

    /// Whether this one has whatever was acknowledged to clients. One whose log is better and that
    /// cannot lead may have acknowledged what this one lacks: a follower takes the log while it is
    /// seeded, and what is known of it may be old. So the others must be enough without it.
    fn has_all(&self, best: &PromiseAnswer, counted: &[&PromiseAnswer]) -> bool {
        let no_better = counted.iter().filter(|answer| answer.last <= best.last);
        let ids: BTreeSet<ReplicaId> = no_better.map(|answer| answer.id).collect();
        let mut synchronous = self.sets.iter().filter(|set| set.sync > 0);
        synchronous.all(|set| satisfies(set, &ids))
    }

    /// Why none of those that count can lead.
    fn nobody(&self, view: &View, counted: &[&PromiseAnswer]) -> Waiting {
        if counted.iter().all(|answer| !self.able(answer.id)) {
            return missing("every replica that answered is empty, or cannot read its state");
        }
        let newest = counted.iter().max_by_key(|answer| answer.last);
        let name = newest.map_or_else(String::new, |it| view.name_of(it.id));
        missing(&format!(
            "{name} has the newest log and is still being seeded; waiting for another voter"
        ))
    }

    /// Higher is better among equally good logs.
    fn rank(&self, id: ReplicaId) -> usize {
        let place = self.preference.iter().position(|it| *it == id);
        place.map_or(0, |place| self.preference.len() - place)
    }

    fn verdict(
        &self,
        answer: &PromiseAnswer,
        whole: bool,
        best: &PromiseAnswer,
        counted: &[&PromiseAnswer],
    ) -> Verdict {
        let unfit = self.unfit.contains(&answer.id) || self.avoid.contains(&answer.id);
        if !whole {
            Verdict::PutBack
        } else if answer.id == best.id {
            Verdict::Elected
        } else if !self.able(answer.id) {
            Verdict::Empty
        } else if unfit {
            Verdict::Unfit
        } else if counted.iter().all(|it| it.id != answer.id) {
            Verdict::NotNeeded
        } else if answer.last < best.last {
            Verdict::Behind
        } else {
            Verdict::AsGood
        }
    }

    fn configuration(
        &self,
        leader: ReplicaId,
        promised: &BTreeSet<ReplicaId>,
        wait_ms: u64,
    ) -> Configuration {
        let Some(base) = &self.base else {
            return Configuration {
                version: self.version,
                epoch: self.epoch,
                leader: Some(leader),
                voters: [leader].into(),
                sync: self.sync,
                previous: Vec::new(),
                wait_ms,
                store: self.store,
            };
        };
        Configuration {
            version: self.version,
            epoch: self.epoch,
            leader: Some(leader),
            voters: self.voters(base, leader, promised),
            sync: self.sync,
            previous: previous(base),
            wait_ms,
            store: self.store,
        }
    }

    /// Those who vote now and whose disks are there; only those that have answered, where the
    /// leader could not get to work with the others in the set.
    fn voters(
        &self,
        base: &Configuration,
        leader: ReplicaId,
        promised: &BTreeSet<ReplicaId>,
    ) -> BTreeSet<ReplicaId> {
        let mut voters: BTreeSet<ReplicaId> = base.voters.difference(&self.lost).copied().collect();
        voters.insert(leader);
        let set = VoterSet {
            voters,
            sync: self.sync,
        };
        let present: BTreeSet<ReplicaId> = set
            .voters
            .intersection(promised)
            .filter(|id| !self.avoid.contains(id) || **id == leader)
            .copied()
            .collect();
        if present.len() >= leases(&set).max(copies(&set)) {
            return set.voters;
        }
        present.into_iter().chain([leader]).collect()
    }
}

/// What is waited for, with the disks that do not count said.
fn without(view: &View, put_back: &[PromiseAnswer], waiting: Waiting) -> Waiting {
    if put_back.is_empty() {
        return waiting;
    }
    let names: Vec<String> = put_back.iter().map(|it| view.name_of(it.id)).collect();
    let names = names.join(", ");
    Waiting {
        message: format!(
            "{} (the volume of {names} was put back to what it was before, or its log was damaged: it holds less \
             than it once had, and does not count; to go on with it all the same, list it in \
             bootstrap.acceptLoss)",
            waiting.message
        ),
        ..waiting
    }
}

/// The list of replaced sets after one more change: a set that is in it already is not repeated.
pub fn previous(base: &Configuration) -> Vec<VoterSet> {
    let mut previous = base.previous.clone();
    let current = base.current();
    if !previous.contains(&current) {
        previous.push(current);
    }
    previous
}
