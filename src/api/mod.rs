//! The custom resource `ReplicatedStore`: types, schema and names, nothing else.
//!
//! # Design
//!
//! - `spec` is what the user wants, and nobody but the user writes it. `status` is what is.
//! - A field that does nothing is a lie: what is not built yet is not in the schema.
//! - Everything that CEL can check is checked there, with a message that says what to do, so
//!   that there is no webhook. [`crate::operator`] checks once more, for objects that are older
//!   than the rules.
//! - The schemas of the few Kubernetes types that are embedded are written by hand in [`schema`]:
//!   strict, so that a typing error is refused, and a tenth of the size of the generated ones.

pub mod conditions;
pub mod duration;
pub mod labels;
pub mod quantity;
pub mod replication;
pub mod schema;
pub mod spec;
pub mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

pub use conditions::{Condition, ConditionStatus, ConditionType};
pub use replication::{
    Failover, FailoverMode, Leadership, OnShortfall, Replication, ReplicationMode,
};
pub use spec::{
    PodTemplate, ReplicatedStore, ReplicatedStoreSpec, Retention, RetentionPolicy, SeedSource,
    Seeding, Spread, Storage, StoreConfig, TopologySpread,
};
pub use status::{
    Candidate, DivergentTail, Durability, HeldLog, LastFailover, LeadershipSet, Member, MemberRole,
    MemberState, Phase, Register, ReplicatedStoreStatus, SeedStatus, Survives, Verdict,
};

/// API group of the custom resource.
pub const GROUP: &str = "replicatedstore.io";
/// The served version.
pub const VERSION: &str = "v1alpha1";

/// The definition as it is installed in a cluster.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = ReplicatedStore::crd();
    for version in &mut crd.spec.versions {
        let Some(root) = version
            .schema
            .as_mut()
            .and_then(|it| it.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        visit(root, &mut |schema| {
            // A null would be kept instead of replaced by the default, and nobody means one.
            schema.nullable = None;
            // Paragraphs, not the lines of the source.
            schema.description = schema
                .description
                .take()
                .map(|text| text.replace('\n', " "));
        });
        // The status is the operator's: nothing may appear in it that it did not write.
        let properties = root.properties.iter_mut().flatten();
        for (_, status) in properties.filter(|(name, _)| *name == "status") {
            visit(status, &mut |schema| schema.default = None);
        }
    }
    crd
}

/// The definition as YAML: what `operator crd` prints and what `crds/` and the chart hold.
pub fn crd_yaml() -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&crd())
}

fn visit(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|map| map.values_mut())
    {
        visit(property, change);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        visit(items, change);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        visit(values, change);
    }
}
