//! Planted mistakes: each breaks one sentence of the protocol around the real core, and the
//! simulation has to notice. None of them is in the core itself, which stays as it is shipped.

/// A mistake, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bug {
    #[default]
    None,
    /// The leader takes its first barrier for committed from the beginning of the log on.
    CommitsWithoutBarrier,
    /// What a follower says of its log counts before the log is matched.
    CountsUnmatched,
    /// A follower acknowledges what is on its way to the disk.
    AcknowledgesUnwritten,
    /// A follower goes on with its leader after it has promised another.
    FollowsOnAfterPromise,
    /// A leader goes on after it has promised another.
    LeadsOnAfterPromise,
    /// Promises are kept in memory only, and so is what was adopted.
    ForgetsPromise,
    /// A restarted process takes up the epoch that an earlier one led.
    BeginsTwice,
    /// Logs are compared by their ends only.
    MatchesByLsn,
    /// The operator tells no new leader to wait for leases.
    WaitsForNoLease,
    /// The leader counts a lease from the arrival of the answer.
    LeaseFromReceipt,
    /// A restarted voter says that it has granted nothing.
    RestartForgetsLease,
    /// A learner counts as whichever voter is away.
    CountsLearner,
    /// The operator compares logs by their ends, and not by their epochs.
    ElectsLongest,
    /// A promotion asks only the newest set of voters.
    IgnoresPrevious,
    /// The sets that were replaced are dropped as soon as the leader knows what replaces them.
    EstablishesEarly,
    /// Promises from so few that they need not meet the leases.
    QuorumWithoutLeases,
    /// A replica that lost its disk comes back as the one that it was.
    KeepsIdentity,
    /// The leader answers without a look at its leases.
    AnswersUnleased,
    /// The leader answers before what the answer rests on is committed.
    AnswersUncommitted,
    /// The leader answers by what is committed, though too few followers have it.
    AnswersUnreleased,
    /// Followers are told what is committed, though too few have it.
    TellsCommitted,
    /// The leader believes in leases in full, though clocks differ.
    NoDriftAllowance,
    /// The promise of a replica that is being seeded counts like any other.
    CountsSeeding,
    /// A follower applies all of its log.
    AppliesUncommitted,
    /// The API server writes a register whoever has written it meanwhile.
    SwapsBlindly,
    /// The operator counts what was promised to it in earlier campaigns.
    CountsOldPromises,
    /// The operator holds all leases of the last leader for void, whatever became of that.
    VoidsLeases,
    /// Clients are shown a state that went back before it is where it was.
    ShowsOlder,
    /// The operator counts disks whatever they once had.
    CountsPutBack,
    /// The operator counts replicas whose logs were damaged.
    CountsDamaged,
    /// The operator does not ask whose copy a disk is.
    CountsCopies,
    /// What is adopted is kept in memory only.
    ForgetsAdopted,
    /// The operator waits for the volumes of the replicas alone that are wanted.
    RecoversFromSome,
    /// The operator forgets the set that a change of voters replaces.
    ForgetsReplaced,
}
