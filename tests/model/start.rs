//! What has happened before an exploration begins.

use crate::actions::Action;
use crate::network::FAST;
use crate::replication::ReplicaId;
use crate::state::{FOLLOWER, LEADER};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// The first replica leads, all others follow it and have all that it has.
    Steady,
    /// The first leader was cut off and has written to nobody; the second replica leads the next
    /// epoch, and nobody follows it.
    Parted,
    /// After that the first one leads again, its disk is slow, so that its barrier is not appended,
    /// and the last one follows it, and is slow to say so.
    Returned,
    /// The last replica is named as leader by the others, and does not know yet; nor does the first
    /// leader, who believes in the second one's lease.
    Deposed,
    /// The second replica has a record that all others lack, and has left its leader, which has not
    /// noticed.
    Twice,
    /// The register lets the first leader, whose disk is slow, go on without the second replica; it does not
    /// know yet, and has a record on its way to the disk that the other one lacks.
    Removed,
    /// A copy of the second replica's disk was kept, and then it acknowledged a record.
    Saved,
    /// The last replica has a part of a snapshot, and the log after it.
    Seeding,
}

impl Begins {
    /// What leads there from the steady state.
    pub(crate) fn script(self, voters: usize) -> Vec<Action> {
        match self {
            Self::Steady => Vec::new(),
            Self::Parted => parted(voters),
            Self::Returned => {
                let mut script = parted(voters);
                script.extend([Action::Ask(0), Action::Ask(2)]);
                script.extend(promoted(0, 0).into_iter().take(1));
                script.extend([Action::SlowDisk(0), Action::Configure(0), Action::Work(0)]);
                script.extend([Action::Configure(2), Action::Connect(2, [false, true])]);
                script
            }
            Self::Deposed => {
                let mut script = vec![Action::Slow(0, LEADER)];
                script.extend((1..voters).map(Action::Ask));
                script.extend(promoted(voters - 1, 1000).into_iter().take(1));
                script
            }
            Self::Twice => {
                let mut script: Vec<Action> =
                    (2..voters).map(|_| Action::Break(1, FOLLOWER)).collect();
                script.extend([Action::Write(0), Action::Slow(0, LEADER)]);
                script.push(Action::Break(0, FOLLOWER));
                script
            }
            Self::Removed => vec![
                Action::Break(0, FOLLOWER),
                Action::SlowDisk(0),
                Action::Write(0),
                Action::Remove(ReplicaId(2)),
            ],
            Self::Saved => vec![Action::Save(1), Action::Write(0)],
            Self::Seeding => vec![
                Action::Break(1, FOLLOWER),
                Action::Write(0),
                Action::Trim(0),
                Action::Connect(2, FAST),
            ],
        }
    }
}

fn parted(voters: usize) -> Vec<Action> {
    let mut script: Vec<Action> = (1..voters).map(|_| Action::Break(0, FOLLOWER)).collect();
    script.push(Action::Write(0));
    script.extend((1..voters).map(Action::Ask));
    script.extend(promoted(1, 1000));
    script.extend([Action::Time; 3]);
    script
}

fn promoted(leader: usize, wait: u64) -> [Action; 2] {
    let given_up = None;
    let elect = Action::Elect {
        leader,
        wait,
        given_up,
    };
    [elect, Action::Configure(leader)]
}
