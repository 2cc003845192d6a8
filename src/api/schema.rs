//! Schemas written by hand: numbers, times, quantities, and the embedded Kubernetes types.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A number that is not negative: 64 bits, of which JSON carries 53 exactly.
pub fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 0})
}

/// A moment.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// A quantity such as `20Gi`, or a plain number.
pub fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// `core/v1` `ResourceRequirements`, without claims.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    let list = json!({
        "type": "object",
        "additionalProperties": {"x-kubernetes-int-or-string": true},
    });
    json_schema!({"type": "object", "properties": {"requests": list, "limits": list}})
}

/// `core/v1` `Toleration`s.
pub fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "object",
            "properties": {
                "key": {"type": "string"},
                "operator": {"type": "string", "enum": ["Exists", "Equal", "Lt", "Gt"]},
                "value": {"type": "string"},
                "effect": {
                    "type": "string",
                    "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                },
                "tolerationSeconds": {"type": "integer", "format": "int64"},
            },
        },
    })
}

/// `core/v1` `Affinity`.
pub fn affinity(_: &mut SchemaGenerator) -> Schema {
    let node_weighted = weighted("preference", &node_selector_term());
    let pod_weighted = weighted("podAffinityTerm", &pod_affinity_term());
    let pods = json!({
        "type": "object",
        "properties": {
            "requiredDuringSchedulingIgnoredDuringExecution": list(&pod_affinity_term()),
            "preferredDuringSchedulingIgnoredDuringExecution": list(&pod_weighted),
        },
    });
    json_schema!({
        "type": "object",
        "properties": {
            "nodeAffinity": {
                "type": "object",
                "properties": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "type": "object",
                        "required": ["nodeSelectorTerms"],
                        "properties": {"nodeSelectorTerms": list(&node_selector_term())},
                    },
                    "preferredDuringSchedulingIgnoredDuringExecution": list(&node_weighted),
                },
            },
            "podAffinity": pods,
            "podAntiAffinity": pods,
        },
    })
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

fn strings() -> Value {
    list(&json!({"type": "string"}))
}

fn weighted(name: &str, term: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["weight", name],
        "properties": {
            "weight": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 100},
            (name): term,
        },
    })
}

fn requirements() -> Value {
    list(&json!({
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": {"type": "string"},
            "operator": {"type": "string"},
            "values": strings(),
        },
    }))
}

fn node_selector_term() -> Value {
    json!({
        "type": "object",
        "properties": {"matchExpressions": requirements(), "matchFields": requirements()},
    })
}

fn pod_affinity_term() -> Value {
    let labels = json!({
        "type": "object",
        "properties": {
            "matchExpressions": requirements(),
            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    });
    json!({
        "type": "object",
        "required": ["topologyKey"],
        "properties": {
            "topologyKey": {"type": "string"},
            "labelSelector": labels,
            "namespaceSelector": labels,
            "namespaces": strings(),
            "matchLabelKeys": strings(),
            "mismatchLabelKeys": strings(),
        },
    })
}
