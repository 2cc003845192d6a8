//! What becomes of requests, of the log and of suspicions when a flush comes to nothing.

use tokio::sync::oneshot;

use super::super::rig::Rig;
use super::*;
use crate::replication::message::SeedManifest;
use crate::store::MemoryEngine;

type Answer = oneshot::Receiver<Result<SeedManifest, String>>;

fn ask(rig: &Rig) -> Answer {
    ask_for(rig, Some(rig.node.with(|inner| inner.whole())))
}

fn ask_for(rig: &Rig, at_least: Option<Lsn>) -> Answer {
    let (reply, answer) = oneshot::channel();
    rig.node.with(|inner| {
        inner.snapshot_requests.push(SnapshotRequest {
            reply,
            by: None,
            at_least,
        });
    });
    answer
}

#[test]
fn a_flush_that_is_cancelled_drops_no_request() {
    let rig = Rig::leading();
    rig.put("key", b"value");
    let mut answer = ask(&rig);
    // The cut is made, and the state brought back before it is written.
    rig.node.with(|inner| {
        assert!(rig.node.cut(inner));
        inner.store.as_mut().map(Store::reset)
    });
    rig.upkeep.flush().unwrap();
    assert!(
        answer
            .try_recv()
            .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
    );
    assert_eq!(rig.node.with(|inner| inner.snapshot_requests.len()), 1);
}

#[test]
fn a_snapshot_is_never_older_than_its_request() {
    let rig = Rig::leading();
    rig.put("early", b"value");
    let mut early = ask(&rig);
    assert!(rig.node.with(|inner| rig.node.cut(inner)));
    // This comes after the cut, which waits to be written.
    rig.put("late", b"value");
    let asked = rig.node.with(|inner| inner.whole());
    let mut late = ask(&rig);
    rig.upkeep.flush().unwrap();
    assert!(early.try_recv().unwrap().unwrap().lsn < asked);
    assert!(
        late.try_recv().is_err(),
        "it is not answered by an older cut"
    );
    rig.upkeep.flush().unwrap();
    assert_eq!(late.try_recv().unwrap().unwrap().lsn, asked);
}

/// The log between its end and a newer flush could be gone before the newcomer comes for it.
#[test]
fn a_snapshot_is_not_older_than_the_log_is_kept_for() {
    let rig = Rig::leading();
    rig.put("early", b"value");
    assert!(rig.node.with(|inner| rig.node.cut(inner)));
    rig.upkeep.flush().unwrap();
    let flushed = rig.node.with(|inner| inner.whole());
    rig.put("late", &[b'v'; 3000]);
    for (retention, lsn) in [
        (10_000, flushed),
        (2000, rig.node.with(|inner| inner.whole())),
    ] {
        rig.node
            .with(|inner| inner.settings.log_retention = retention);
        let mut answer = ask_for(&rig, None);
        rig.upkeep.serve_as_flushed();
        rig.upkeep.flush().unwrap();
        assert_eq!(answer.try_recv().unwrap().unwrap().lsn, lsn);
    }
}

#[test]
fn who_waits_for_a_snapshot_of_a_leader_is_told_that_it_leads_no_more() {
    let rig = Rig::leading();
    rig.put("key", b"value");
    let mut answer = ask(&rig);
    rig.node.with(|inner| {
        let input = Input::Promise {
            epoch: crate::replication::Epoch(9),
            ticket: 1,
            to: crate::replication::Addressee::default(),
        };
        rig.node.drive(inner, input);
    });
    let told = answer.try_recv().unwrap().unwrap_err();
    assert!(told.contains("no longer leads"), "{told}");
}

/// Nobody but a flush that succeeded made room, though the log that is kept for others needs none.
#[test]
fn where_there_is_no_room_the_log_kept_for_others_goes_without_a_flush() {
    let rig = Rig::leading();
    rig.node.with(|inner| inner.pins.insert(1, Lsn::ZERO));
    let value = vec![b'v'; 1 << 20];
    for key in 0..80 {
        rig.put(&format!("key:{key}"), &value);
    }
    assert!(rig.node.with(|inner| rig.node.cut(inner)));
    rig.upkeep.flush().unwrap();
    assert_eq!(rig.upkeep.log.oldest(), Lsn::ZERO, "it is kept");
    rig.node.with(|inner| inner.disk.low = true);
    let mut long_ago = Instant::now().checked_sub(LOW_FLUSH_PACE).unwrap();
    rig.upkeep.make_room(&mut long_ago).unwrap();
    assert!(rig.upkeep.log.oldest() > Lsn::ZERO);
}

#[test]
fn what_becomes_of_a_state_that_was_replaced_is_no_matter() {
    let rig = Rig::leading();
    let corrupt = || StoreError::Corrupt("a block".to_owned());
    let suspected = || rig.node.suspicion.lock().is_some();
    let replaced: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
    suspect_current(&rig.node, &replaced, &corrupt());
    assert!(!suspected());
    rig.upkeep.flush_failed(&replaced, corrupt()).unwrap();
    rig.upkeep
        .flush_failed(
            &replaced,
            StoreError::Io(std::io::Error::other("it is gone")),
        )
        .unwrap();
    assert!(!suspected());
    let current = rig
        .node
        .with(|inner| Arc::clone(inner.store.as_ref().unwrap().engine()));
    suspect_current(&rig.node, &current, &corrupt());
    assert!(suspected());
}
