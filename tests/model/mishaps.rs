//! Mistakes of operators, and in what is done about disks and registers that are not what they were.

use super::{ADOPTED_IN_MEMORY, ANY_LOG, ANY_PROCESS, Mutant, edit};

/// All of them.
pub(super) const MISHAPS: &[Mutant] = &[
    Mutant {
        name: "operator: the best of the present voters leads",
        scope: "voters=3 promotions=2 writes=1 given-up=1",
        edits: &[],
    },
    Mutant {
        name: "operator: promotions ignore previous sets",
        scope: "voters=1 learners=1 promotions=2 writes=1 changes=1 stale=1",
        edits: &[],
    },
    Mutant {
        name: "operator: no wait for leases",
        scope: "voters=3 promotions=1 writes=1 slow=1",
        edits: &[],
    },
    Mutant {
        name: "operator: leases of unknown holders are left out",
        scope: "voters=2 promotions=1 given-up=1 crashes=1 slow=1",
        edits: &[],
    },
    Mutant {
        name: "operator: no wait once the last leader has ended",
        scope: "voters=3 deposed promotions=1 crashes=1 stale=1",
        edits: &[],
    },
    Mutant {
        name: "operator: promises need not meet the leases",
        scope: "voters=3 sync=2 promotions=1 given-up=1 slow=1 time=2",
        edits: &[],
    },
    Mutant {
        name: "operator: the longest log leads",
        scope: "voters=3 promotions=2 writes=1",
        edits: &[],
    },
    Mutant {
        name: "operator: previous sets are dropped before a barrier is committed",
        scope: "voters=1 learners=1 promotions=2 writes=1 changes=1 stale=1",
        edits: &[],
    },
    Mutant {
        name: "operator: only the set replaced last is kept",
        scope: "voters=1 learners=1 promotions=2 writes=1 changes=1 stale=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a lost disk comes back under its old name",
        scope: "voters=2 promotions=1 losses=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a register is taken that is one epoch behind",
        scope: "voters=2 promotions=2 writes=1 restores=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a register is taken that is a change of voters behind",
        scope: "voters=2 promotions=1 writes=1 changes=1 restores=1",
        edits: &[],
    },
    // What disks and registers go through.
    Mutant {
        name: "an epoch is begun by another process than has promised it",
        scope: "voters=2 promotions=1 writes=1 rollbacks=1",
        edits: &[ANY_PROCESS],
    },
    Mutant {
        name: "that a leader had the log cut is not saved",
        scope: "voters=2 parted watched promotions=1 slow=1 breaks=1",
        edits: &[edit(
            "follower.rs",
            "go_on",
            "cuts && self.hard.cut < epoch",
            "false",
        )],
    },
    Mutant {
        name: "operator: a disk that was put back counts",
        scope: "voters=2 promotions=1 writes=1 rollbacks=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a disk that was put back counts once it follows a later leader",
        scope: "voters=2 saved watched promotions=2 slow=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a replica whose log was damaged counts",
        scope: "voters=2 promotions=1 writes=1 damages=1",
        edits: &[],
    },
    Mutant {
        name: "a replica whose log was damaged counts once it follows",
        scope: "voters=2 promotions=1 damages=1 slow=1",
        edits: &[edit(
            "follower.rs",
            "judge_ready",
            "heard && following.ready && following.epoch == self.hard.promised",
            "true",
        )],
    },
    Mutant {
        name: "operator: a replica counts for what a copy of it has",
        scope: "voters=2 learners=1 promotions=1 copies=1 stops=1 writes=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a copy counts beside the replica that it was made of",
        scope: "voters=2 learners=1 promotions=1 copies=1 time=1",
        edits: &[],
    },
    Mutant {
        name: "logs are not compared",
        scope: "voters=2 learners=1 writes=1 changes=1 foreign=1",
        edits: &[ANY_LOG],
    },
    Mutant {
        name: "another store's disk is resumed",
        scope: "voters=2 learners=1 writes=1 changes=1 foreign=1",
        edits: &[
            edit("leader.rs", "foreign", "(theirs != ours)", "false"),
            ANY_LOG,
        ],
    },
    Mutant {
        name: "a configuration is adopted in memory only",
        scope: "voters=2 promotions=1 writes=1 changes=1 restores=1 crashes=2",
        edits: &[ADOPTED_IN_MEMORY],
    },
    Mutant {
        name: "a configuration is acted on before it is on disk",
        scope: "voters=2 removed promotions=1 restores=1 crashes=1",
        edits: &[edit(
            "configure.rs",
            "configure",
            "self.adopting = Some(configuration.clone());
                out.push(Effect::Adopt(configuration));",
            "self.adopting = Some(configuration.clone());
                out.push(Effect::Adopt(configuration.clone()));
                self.act(configuration, out);",
        )],
    },
    Mutant {
        name: "operator: what disks have adopted is not looked at",
        scope: "voters=2 promotions=1 writes=1 changes=1 restores=1 crashes=2",
        edits: &[],
    },
    Mutant {
        name: "operator: a recovery does not wait for all disks",
        scope: "voters=2 promotions=1 writes=1 changes=1 gone=1 stops=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a recovery takes an epoch that was promised before",
        scope: "voters=3 deposed promotions=1 losses=1 gone=1",
        edits: &[],
    },
    Mutant {
        name: "operator: a recovery is decided by enough of the voters",
        scope: "voters=2 promotions=1 writes=1 rollbacks=1 gone=1",
        edits: &[],
    },
    Mutant {
        name: "operator: of what a disk had only the end is known",
        scope: "voters=3 parted promotions=1 rollbacks=1",
        edits: &[],
    },
    Mutant {
        name: "a request for another replica is taken",
        scope: "voters=2 strays=1",
        edits: &[edit(
            "configure.rs",
            "refuses_promise",
            "to.id.filter(|id| *id != self.id)",
            "to.id.filter(|_| false)",
        )],
    },
    Mutant {
        name: "a seed goes on with a log that parts from the leader's",
        scope: "voters=2 learners=1 seeding promotions=1 writes=1 breaks=1",
        edits: &[edit(
            "follower.rs",
            "log_reset",
            "at == oldest || at <= parted",
            "{
                let _ = parted;
                true
            }",
        )],
    },
];
