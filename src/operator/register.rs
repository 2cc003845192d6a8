//! The register in its two forms: text in the status, typed in the protocol.

use crate::api;
use crate::replication::types::{Configuration, Epoch, InvalidId, ReplicaId, VoterSet};

/// The protocol's form of what the status holds.
pub fn read(register: &api::Register) -> Result<Configuration, InvalidId> {
    let previous = register.previous.iter().map(|set| {
        Ok(VoterSet {
            voters: ids(&set.voters)?,
            sync: set.sync,
        })
    });
    Ok(Configuration {
        version: register.version,
        epoch: Epoch(register.epoch),
        leader: register.leader.as_deref().map(str::parse).transpose()?,
        voters: ids(&register.voters)?,
        sync: register.sync,
        previous: previous.collect::<Result<_, _>>()?,
        wait_ms: register.wait_ms,
        store: register.store.as_deref().map(str::parse).transpose()?,
    })
}

/// The status' form of a configuration.
pub fn write(configuration: &Configuration) -> api::Register {
    let previous = configuration.previous.iter().map(|set| api::LeadershipSet {
        voters: texts(&set.voters),
        sync: set.sync,
    });
    api::Register {
        version: configuration.version,
        epoch: configuration.epoch.0,
        leader: configuration.leader.map(|id| id.to_string()),
        voters: texts(&configuration.voters),
        sync: configuration.sync,
        previous: previous.collect(),
        wait_ms: configuration.wait_ms,
        store: configuration.store.map(|store| store.to_string()),
    }
}

fn ids<C: FromIterator<ReplicaId>>(texts: &[String]) -> Result<C, InvalidId> {
    texts.iter().map(|text| text.parse()).collect()
}

fn texts<'a>(ids: impl IntoIterator<Item = &'a ReplicaId>) -> Vec<String> {
    ids.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::types::StoreId;

    #[test]
    fn both_forms_are_the_same_json() {
        let configuration = Configuration {
            version: 31,
            epoch: Epoch(12),
            leader: Some(ReplicaId(7)),
            voters: [ReplicaId(7), ReplicaId(8)].into(),
            sync: 1,
            previous: vec![VoterSet {
                voters: [ReplicaId(7)].into(),
                sync: 0,
            }],
            wait_ms: 250,
            store: Some(StoreId(9)),
        };
        let status = write(&configuration);
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            serde_json::to_value(&configuration).unwrap()
        );
        assert_eq!(read(&status).unwrap(), configuration);
    }

    #[test]
    fn a_register_that_someone_has_edited_is_refused() {
        let edited = api::Register {
            voters: vec!["orders-0".into()],
            ..Default::default()
        };
        assert!(read(&edited).is_err());
    }
}
