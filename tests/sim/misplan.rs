//! Planted mistakes around the plan: each breaks one sentence of the protocol.

use std::collections::BTreeSet;

use replicated_store::operator::plan::promotion::{self, Campaign};
use replicated_store::operator::view::View;
use replicated_store::replication::admin::PromiseAnswer;
use replicated_store::replication::{Configuration, Position, ReplicaId};

use super::bug::Bug;
use super::planned::Planned;

impl Planned {
    /// A change of the register that needs no promotion.
    pub(crate) fn spoil_swap(&self, view: &View, mut to: Configuration) -> Configuration {
        let register = view.register.as_ref();
        let changes = register.is_some_and(|register| register.voters != to.voters);
        if self.bug == Bug::ForgetsReplaced && changes {
            to.previous.clear();
        }
        to
    }

    /// What the answers to a campaign allow.
    pub(crate) fn spoiled_election(
        &mut self,
        view: &View,
        mut campaign: Campaign,
        answers: &[PromiseAnswer],
    ) -> Option<Configuration> {
        let mut answers = answers.to_vec();
        match self.bug {
            Bug::IgnoresPrevious => campaign.sets.truncate(1),
            Bug::VoidsLeases => campaign.ended = true,
            Bug::CountsOldPromises => {
                self.recall(&mut answers);
                forget_held(&mut campaign, &mut answers);
                answers.iter_mut().for_each(|it| it.before = None);
            }
            Bug::EstablishesEarly => forget_held(&mut campaign, &mut answers),
            Bug::QuorumWithoutLeases if copied(&campaign, &answers) => {
                let promised = ids(&answers);
                let sets = campaign.sets.iter_mut();
                sets.for_each(|set| set.voters.retain(|id| promised.contains(id)));
            }
            Bug::CountsPutBack => {
                forget_held(&mut campaign, &mut answers);
                answers.iter_mut().for_each(|it| it.before = None);
            }
            Bug::CountsDamaged => {
                forget_held(&mut campaign, &mut answers);
                answers.iter_mut().for_each(|it| it.forgotten = false);
            }
            // What has no state is passed over, whatever its log is.
            Bug::CountsSeeding => {
                let barred = answers
                    .iter_mut()
                    .filter(|it| campaign.barred.contains(&it.id));
                barred.for_each(|it| it.last = Position::default());
                forget_held(&mut campaign, &mut answers);
            }
            _ => {}
        }
        let mut to = campaign.elect(view, &answers).ok()?.swap.to;
        if self.bug == Bug::WaitsForNoLease {
            to.wait_ms = 0;
        }
        if self.bug == Bug::ElectsLongest {
            let longest = answers.iter().max_by_key(|it| it.last.lsn)?;
            to.leader = Some(longest.id);
            to.voters.insert(longest.id);
        }
        Some(to)
    }

    /// Adds what was promised in earlier campaigns.
    fn recall(&mut self, answers: &mut Vec<PromiseAnswer>) {
        let known = ids(answers);
        self.promises.retain(|it| !known.contains(&it.id));
        self.promises.extend(answers.iter().cloned());
        answers.clone_from(&self.promises);
    }
}

/// What disks are known to have had would give these away.
fn forget_held(campaign: &mut Campaign, answers: &mut [PromiseAnswer]) {
    campaign.held.clear();
    answers.iter_mut().for_each(|it| it.acknowledged.clear());
}

fn ids(answers: &[PromiseAnswer]) -> BTreeSet<ReplicaId> {
    answers.iter().map(|it| it.id).collect()
}

/// Whether every record is known to one of these, whatever leases there are.
fn copied(campaign: &Campaign, answers: &[PromiseAnswer]) -> bool {
    let promised = ids(answers);
    campaign.sets.iter().all(|set| {
        let met = set.voters.intersection(&promised).count();
        met > set.voters.len() - promotion::copies(set)
    })
}
