//! The mistakes that the model must notice: each breaks one sentence of the protocol, in the core's
//! own source or in what the operator of the model does.

mod mishaps;

use mishaps::MISHAPS;

/// A piece of the core's source, and what is put in its place.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// File in `src/replication`.
    pub file: &'static str,
    /// The function that holds the piece.
    pub function: &'static str,
    /// Whole statements, or an expression: once in that function.
    pub before: &'static str,
    /// What takes its place.
    pub after: &'static str,
}

/// A mistake.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What it does wrong.
    pub name: &'static str,
    /// The scope that notices it.
    pub scope: &'static str,
    /// Several where more than one line of the core prevents the same; none for one of the operator,
    /// which looks at the name itself.
    pub edits: &'static [Edit],
}

const fn edit(
    file: &'static str,
    function: &'static str,
    before: &'static str,
    after: &'static str,
) -> Edit {
    Edit {
        file,
        function,
        before,
        after,
    }
}

/// A follower takes any log for its leader's.
const ANY_LOG: Edit = edit(
    "follower.rs",
    "compared",
    "if equal {
            following.phase = Phase::Resuming(point);
            self.go_on(out);
        } else {
            following.phase = Phase::Told;
            out.push(Effect::Send(peer, Message::Parted));
        }",
    "let _ = equal;
        following.phase = Phase::Resuming(point);
        self.go_on(out);",
);

/// Whoever is named begins the epoch, whichever process has promised it.
const ANY_PROCESS: Edit = edit(
    "configure.rs",
    "begin",
    "self.begin_mark = self.pledged.filter(|it| *it == epoch);",
    "self.begin_mark = Some(epoch);",
);

/// A configuration is adopted in memory only.
const ADOPTED_IN_MEMORY: Edit = edit(
    "configure.rs",
    "configure",
    "self.adopting = Some(configuration.clone());
                out.push(Effect::Adopt(configuration));",
    "self.adopted = configuration.clone();
                self.act(configuration, out);",
);

/// All of them.
pub const MUTANTS: &[Mutant] = &join::<{ REPLICAS.len() + MISHAPS.len() }>();

const fn join<const N: usize>() -> [Mutant; N] {
    let mut all = [REPLICAS[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < REPLICAS.len() {
            REPLICAS[at]
        } else {
            MISHAPS[at - REPLICAS.len()]
        };
        at += 1;
    }
    all
}

/// Those of replicas.
const REPLICAS: &[Mutant] = &[
    Mutant {
        name: "a promise is kept in memory only",
        scope: "voters=3 promotions=1 writes=1 crashes=1",
        edits: &[edit(
            "configure.rs",
            "settle_promises",
            "self.save(
                HardState {
                    promised: highest,
                    ..self.hard
                },
                out,
            );
            return;",
            "self.hard.promised = highest;",
        )],
    },
    Mutant {
        name: "a leader answers before its barrier is committed",
        scope: "voters=2 promotions=1 writes=1 slow=2",
        edits: &[edit(
            "view.rs",
            "answers_until",
            "leader.first_barrier.is_some_and(|at| self.commit >= at)",
            "leader.first_barrier.is_some()",
        )],
    },
    Mutant {
        name: "records of earlier epochs are committed by counting",
        scope: "voters=3 returned promotions=1",
        edits: &[edit(
            "core.rs",
            "advance_commit",
            "if to < first {
                return;
            }",
            "",
        )],
    },
    Mutant {
        name: "what learners acknowledge counts",
        scope: "voters=2 learners=1 promotions=1 writes=1 time=1",
        edits: &[edit(
            "progress.rs",
            "committable",
            "self.of_voters(me, configuration, |follower| follower.durable)",
            "{
                let matched = self.followers.values().filter(|it| it.matched);
                let mut ends: Vec<Lsn> = matched.map(|it| it.durable).collect();
                ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
                ends
            }",
        )],
    },
    Mutant {
        name: "leases of learners count",
        scope: "voters=2 learners=1 promotions=1 given-up=1 time=2 breaks=1",
        edits: &[edit(
            "progress.rs",
            "leased_until",
            "self.of_voters(me, configuration, |follower| follower.leased_until)",
            "{
                let matched = self.followers.values().filter(|it| it.matched);
                let mut ends: Vec<Duration> = matched.map(|it| it.leased_until).collect();
                ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
                ends
            }",
        )],
    },
    Mutant {
        name: "a voter counts once for each of its connections",
        scope: "voters=4 sync=2 twice promotions=1",
        edits: &[
            edit(
                "progress.rs",
                "of_each",
                "best.iter_mut().find(|(id, _)| *id == follower.id)",
                "best.iter_mut().find(|_| false)",
            ),
            edit("leader.rs", "hello", "known.id == id", "false"),
        ],
    },
    Mutant {
        name: "what a follower has counts before the histories are matched",
        scope: "voters=3 parted promotions=1 slow=1",
        edits: &[edit(
            "leader.rs",
            "follower_history",
            "complete && point >= self.oldest && point >= flushed && end > Lsn::ZERO",
            "{
                let leader = self.leader.as_mut();
                if let Some(it) = leader.and_then(|leader| leader.followers.get_mut(&peer)) {
                    it.matched = true;
                    it.durable = end.min(self.end);
                }
                self.advance(out);
                complete && point >= self.oldest && point >= flushed && end > Lsn::ZERO
            }",
        )],
    },
    Mutant {
        name: "a follower does not truncate",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[edit(
            "follower.rs",
            "go_on",
            "following.phase = Phase::Truncating;
                self.truncating = true;
                out.push(Effect::Truncate(point));",
            "self.begin_streaming(point, out);",
        )],
    },
    Mutant {
        name: "histories are matched by their ends",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[
            edit(
                "leader.rs",
                "follower_history",
                "self.history.common_point(self.end, history, end)",
                "self.end.min(end)",
            ),
            ANY_LOG,
        ],
    },
    Mutant {
        name: "a follower takes and acknowledges below its promise",
        scope: "voters=3 promotions=1 writes=1 slow=1",
        edits: &[
            edit("configure.rs", "promise", "self.stop_following(out);", ""),
            edit(
                "follower.rs",
                "frames",
                "following.epoch == self.hard.promised",
                "true",
            ),
            edit(
                "follower.rs",
                "acknowledgement",
                "following.phase != Phase::Streaming || following.epoch != self.hard.promised",
                "following.phase != Phase::Streaming",
            ),
        ],
    },
    Mutant {
        name: "a lease is granted below the promise",
        scope: "voters=3 deposed time=3",
        edits: &[
            edit("configure.rs", "promise", "self.stop_following(out);", ""),
            edit(
                "follower.rs",
                "grant",
                "!streaming || following.epoch != hard.promised",
                "!streaming",
            ),
            edit(
                "follower.rs",
                "acknowledgement",
                "following.phase != Phase::Streaming || following.epoch != self.hard.promised",
                "following.phase != Phase::Streaming",
            ),
        ],
    },
    Mutant {
        name: "a restarted leader goes on in its epoch",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[edit(
            "configure.rs",
            "begin",
            "if !self.beginning(epoch) {
                return; // another process of this data directory led it
            }",
            "",
        )],
    },
    Mutant {
        name: "the mark of an epoch is kept in memory only",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[edit(
            "configure.rs",
            "begin",
            "self.save(
                HardState {
                    promised: epoch,
                    begun: epoch,
                    ..self.hard
                },
                out,
            );
            return;",
            "self.hard.promised = epoch;
            self.hard.begun = epoch;",
        )],
    },
    Mutant {
        name: "a leader that has promised another leads on",
        scope: "voters=3 promotions=1 writes=1 slow=1",
        edits: &[
            edit("configure.rs", "promise", "self.stop_leading(out);", ""),
            edit(
                "core.rs",
                "check",
                "leader.epoch >= self.hard.promised",
                "true",
            ),
        ],
    },
    Mutant {
        name: "a named leader begins below its promise",
        scope: "voters=3 promotions=2 writes=1",
        edits: &[
            edit(
                "configure.rs",
                "settle_role",
                "self.leader.is_some() || epoch < self.hard.promised",
                "self.leader.is_some()",
            ),
            edit(
                "configure.rs",
                "begin",
                "self.hard.promised != epoch",
                "false",
            ),
            edit(
                "configure.rs",
                "begin",
                "self.begin_mark = self.pledged.filter(|it| *it == epoch);",
                "self.begin_mark = Some(epoch);
                if epoch < self.hard.promised {
                    self.save(HardState { begun: epoch, ..self.hard }, out);
                    return;
                }",
            ),
            edit(
                "core.rs",
                "check",
                "leader.epoch >= self.hard.promised",
                "true",
            ),
        ],
    },
    Mutant {
        name: "a restarted voter forgets its leases",
        scope: "voters=2 promotions=1 given-up=1 crashes=1 slow=1",
        edits: &[edit(
            "core.rs",
            "new",
            "Duration::from_millis(found.hard.lease_ms.into())",
            "Duration::ZERO",
        )],
    },
    Mutant {
        name: "a voter tells of no lease",
        scope: "voters=3 promotions=1 writes=1 slow=1",
        edits: &[edit(
            "configure.rs",
            "settle_promises",
            "self.grants.below(ticket.epoch, self.now)",
            "Vec::new()",
        )],
    },
    Mutant {
        name: "a new leader does not wait",
        scope: "voters=3 promotions=1 writes=1 slow=1",
        edits: &[edit(
            "configure.rs",
            "begin",
            "self.now + lease::waited(wait)",
            "self.now",
        )],
    },
    Mutant {
        name: "a lease is counted from the receipt of the answer",
        scope: "voters=2 promotions=1 given-up=1 time=3 slow=1",
        edits: &[edit(
            "leader.rs",
            "follower_lease",
            "sent_at + lease::believed(lease)",
            "now + lease::believed(lease)",
        )],
    },
    Mutant {
        name: "clocks are trusted to run at one rate",
        scope: "voters=2 promotions=1 given-up=1 time=3 slow=1",
        edits: &[edit(
            "lease.rs",
            "believed",
            "lease.saturating_sub(lease / DRIFT)",
            "lease",
        )],
    },
    Mutant {
        name: "half of the leases are enough",
        scope: "voters=2 promotions=1 given-up=1 time=3 slow=1",
        edits: &[edit(
            "progress.rs",
            "leased_until",
            "configuration.voters.len() / 2",
            "(configuration.voters.len() - 1) / 2",
        )],
    },
    Mutant {
        name: "one copy fewer is enough",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[edit(
            "progress.rs",
            "committable",
            "(configuration.sync as usize).min(others)",
            "(configuration.sync as usize).min(others).saturating_sub(1)",
        )],
    },
    Mutant {
        name: "a version counts as established when it is adopted",
        scope: "voters=1 learners=1 promotions=2 writes=1 changes=1 stale=1",
        edits: &[
            edit(
                "configure.rs",
                "act",
                "leader.barriers.push((version, None));",
                "leader.barriers.push((version, None));
                self.established = version;",
            ),
            edit(
                "configure.rs",
                "begin",
                "self.stalled = false;",
                "self.stalled = false;
                self.established = self.configuration.version;",
            ),
        ],
    },
    Mutant {
        name: "a lower version is adopted",
        scope: "voters=1 learners=1 promotions=2 writes=1 changes=1 stale=1",
        edits: &[
            edit(
                "configure.rs",
                "configure",
                "version > self.adopted.version",
                "true",
            ),
            edit(
                "configure.rs",
                "act",
                "configuration.version <= self.configuration.version",
                "configuration.version == self.configuration.version",
            ),
        ],
    },
    Mutant {
        name: "a follower acknowledges what is not on disk",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[edit(
            "follower.rs",
            "acknowledgement",
            "self.durable",
            "self.end",
        )],
    },
    Mutant {
        name: "what is not on the leader's own disk is committed",
        scope: "voters=2 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[
            edit(
                "core.rs",
                "advance_commit",
                "leader.committable(self.id, &self.configuration, self.durable)",
                "leader.committable(self.id, &self.configuration, self.end)",
            ),
            edit("core.rs", "check", "self.commit <= self.durable", "true"),
        ],
    },
    Mutant {
        name: "the promise of a handshake is kept in memory only",
        scope: "voters=3 deposed promotions=1 crashes=1 stale=1",
        edits: &[
            edit(
                "follower.rs",
                "promise_durable",
                "if self.saving.is_none() {
                let hard = HardState {
                    promised: epoch,
                    ..self.hard
                };
                self.saving = Some(hard);
                out.push(Effect::Save(hard));
            }
            return;",
                "self.hard.promised = epoch;",
            ),
            ADOPTED_IN_MEMORY,
            ANY_PROCESS,
        ],
    },
    Mutant {
        name: "a promise is answered while records are on their way to the log",
        scope: "voters=3 promotions=1 writes=1 slow=1 crashes=1",
        edits: &[
            edit(
                "configure.rs",
                "settle_promises",
                "self.durable < self.end",
                "false",
            ),
            edit(
                "view.rs",
                "last",
                "Position {
            epoch: self.history.epoch_at(self.durable),
            lsn: self.durable,
        }",
                "Position {
            epoch: self.history.epoch_at(self.end),
            lsn: self.end,
        }",
            ),
        ],
    },
    Mutant {
        name: "a follower commits what its own disk does not hold",
        scope: "voters=3 writes=1 slow=1 crashes=1 flushes=1",
        edits: &[
            edit(
                "core.rs",
                "advance_commit",
                "following.leader_commit.min(self.durable)",
                "following.leader_commit.min(self.end)",
            ),
            edit("core.rs", "check", "self.commit <= self.durable", "true"),
        ],
    },
    Mutant {
        name: "the state is brought to disk while the log is cut",
        scope: "voters=2 sync=0 promotions=1 writes=1 slow=2 flushes=1",
        edits: &[edit(
            "view.rs",
            "may_flush",
            "cut <= self.released && !self.truncating",
            "cut <= self.released",
        )],
    },
    Mutant {
        name: "the log is cut below the state that is on disk",
        scope: "voters=2 sync=0 promotions=1 writes=1 slow=2 flushes=1",
        edits: &[
            edit(
                "leader.rs",
                "follower_history",
                "complete && point >= self.oldest && point >= flushed && end > Lsn::ZERO",
                "complete && point >= self.oldest && end > Lsn::ZERO",
            ),
            edit(
                "follower.rs",
                "resume",
                "point > end || point < flushed",
                "point > end",
            ),
            edit("follower.rs", "go_on", "point < self.flushed", "false"),
        ],
    },
    Mutant {
        name: "a follower goes on from records that the leader has freed",
        scope: "voters=3 writes=1 trims=1 breaks=1",
        edits: &[
            edit(
                "leader.rs",
                "follower_history",
                "complete && point >= self.oldest && point >= flushed && end > Lsn::ZERO",
                "complete && point >= flushed && end > Lsn::ZERO",
            ),
            edit(
                "leader.rs",
                "follower_ready",
                "from > end || from < oldest",
                "from > end",
            ),
        ],
    },
    Mutant {
        name: "half a state counts as a whole one",
        scope: "voters=3 promotions=1 writes=1 trims=1 breaks=1",
        edits: &[
            edit("follower.rs", "go_on", "self.complete = false;", ""),
            edit("follower.rs", "log_reset", "self.complete = false;", ""),
        ],
    },
    Mutant {
        name: "half a state leads",
        scope: "voters=3 promotions=1 writes=1 trims=1 breaks=1",
        edits: &[edit("configure.rs", "begin", "!self.complete", "false")],
    },
    Mutant {
        name: "replies rest on what is committed",
        scope: "voters=2 block=1 writes=1 changes=1 slow=1",
        edits: &[edit(
            "release.rs",
            "release",
            "leader.releasable(self.id, self.reply_sync, self.released, self.commit)",
            "{ let _ = leader; self.commit }",
        )],
    },
    Mutant {
        name: "replies rest on as many copies as the voters that are left can have",
        scope: "voters=3 sync=2 block=2 writes=1 changes=1 slow=1",
        edits: &[edit(
            "release.rs",
            "release",
            "leader.releasable(self.id, self.reply_sync, self.released, self.commit)",
            "{
                let others = self.configuration.voters.len() as u32 - 1;
                let sync = self.reply_sync.min(others);
                leader.releasable(self.id, sync, self.released, self.commit)
            }",
        )],
    },
    Mutant {
        name: "replies rest on each connection of a follower",
        scope: "voters=3 block=2 twice",
        edits: &[
            edit(
                "leader.rs",
                "hello",
                "older.map(|(peer, _)| *peer).collect()",
                "Vec::new()",
            ),
            edit(
                "release.rs",
                "held",
                "self.of_each(me, |it| it.matched && it.whole, |it| it.durable)",
                "{
                    let others = self.followers.values().filter(|it| it.matched && it.id != me);
                    let mut ends: Vec<Lsn> = others.map(|it| it.durable).collect();
                    ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
                    ends
                }",
            ),
        ],
    },
    Mutant {
        name: "replies rest on what is in the log of half a state",
        scope: "voters=2 block=1 writes=1 changes=1 trims=1 losses=1",
        edits: &[edit(
            "release.rs",
            "held",
            "self.of_each(me, |it| it.matched && it.whole, |it| it.durable)",
            "self.of_each(me, |it| it.matched, |it| it.durable)",
        )],
    },
    Mutant {
        name: "barriers hide what is written between them",
        scope: "voters=2 block=1 writes=2 changes=1 slow=1",
        edits: &[edit(
            "release.rs",
            "leave_blank",
            "*last == start",
            "*last <= start",
        )],
    },
    Mutant {
        name: "what is not released is brought to disk",
        scope: "voters=2 block=1 writes=1 changes=1 slow=1 flushes=1 crashes=1",
        edits: &[edit(
            "view.rs",
            "may_flush",
            "cut <= self.released && !self.truncating",
            "cut <= self.commit && !self.truncating",
        )],
    },
    Mutant {
        name: "a leader that steps down shows all that it had committed",
        scope: "voters=2 block=1 writes=1 changes=1 slow=1 promotions=1",
        edits: &[edit(
            "configure.rs",
            "stop_leading",
            "self.commit = self.released;",
            "self.released = self.commit;",
        )],
    },
    Mutant {
        name: "shell: followers are told what is committed",
        scope: "voters=3 sync=2 block=2 writes=1 changes=1 slow=1",
        edits: &[],
    },
];
