//! The custom resource: `crds/` and the chart hold what the code says, every rule tells what to
//! do, and the samples are what the types take.

use std::fs;
use std::path::{Path, PathBuf};

use replicated_store::api::{self, ReplicatedStore};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares `path` with `wanted`; with `UPDATE_GOLDEN=1`, writes it.
fn golden(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, wanted).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the code says: run UPDATE_GOLDEN=1 cargo test --test it, and look at the difference",
        path.display()
    );
}

/// The chart's template: the definition behind a switch, kept when the chart is removed.
fn template(yaml: &str) -> String {
    let annotated = yaml.replacen(
        "metadata:\n",
        "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n",
        1,
    );
    format!(
        "{{{{- /* Generated from crds/replicatedstores.yaml by a test; do not edit. Templated, and not in crds/, so that `helm upgrade` upgrades it. */}}}}\n{{{{- if .Values.crds.install }}}}\n{annotated}{{{{- end }}}}\n"
    )
}

#[test]
fn the_files_hold_what_the_code_says() {
    let yaml = api::crd_yaml().unwrap();
    assert!(
        !yaml.contains("{{"),
        "the chart's copy would be taken for a template"
    );
    golden(&root().join("crds/replicatedstores.yaml"), &yaml);
    golden(
        &root().join("charts/replicated-store/templates/crds.yaml"),
        &template(&yaml),
    );
}

#[test]
fn the_definition_is_small_enough_for_a_client_side_apply() {
    let json = serde_json::to_string(&api::crd()).unwrap();
    assert!(json.len() < 100_000, "{} bytes", json.len());
}

#[test]
fn yaml_and_json_are_the_same_definition() {
    let read: Value = serde_saphyr::from_str(&api::crd_yaml().unwrap()).unwrap();
    let crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
        serde_json::from_value(read).unwrap();
    assert_eq!(crd, api::crd());
}

fn each_object(
    value: &Value,
    path: &str,
    visit: &mut impl FnMut(&str, &serde_json::Map<String, Value>),
) {
    match value {
        Value::Object(map) => {
            visit(path, map);
            for (key, value) in map {
                each_object(value, &format!("{path}.{key}"), visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_object(item, path, visit)),
        _ => {}
    }
}

#[test]
fn every_rule_has_a_message_and_the_schema_is_structural() {
    let crd = serde_json::to_value(api::crd()).unwrap();
    let mut rules = 0;
    each_object(&crd, "", &mut |path, map| {
        if map.contains_key("rule") {
            rules += 1;
            assert!(
                map.get("message")
                    .is_some_and(|text| !text.as_str().unwrap().is_empty()),
                "{path}"
            );
        }
        for key in ["$ref", "oneOf", "anyOf", "allOf", "nullable"] {
            assert!(!map.contains_key(key), "{path} has {key}");
        }
        if path.contains(".status.") && !path.ends_with(".properties") {
            assert!(
                !map.contains_key("default"),
                "{path} has a default: the status is the operator's"
            );
        }
    });
    assert!(rules >= 10, "{rules} rules");
}

#[test]
fn every_field_is_described() {
    let crd = serde_json::to_value(api::crd()).unwrap();
    let properties = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    // What is inside of these is Kubernetes' own.
    let foreign = ["affinity", "tolerations", "resources"];
    each_object(properties, "", &mut |path, map| {
        if foreign
            .iter()
            .any(|name| format!("{path}.").contains(&format!(".{name}.")))
        {
            return;
        }
        if let Some(fields) = map.get("properties").and_then(Value::as_object) {
            for (name, field) in fields {
                assert!(
                    field.get("description").is_some(),
                    "{path}.{name} has no description"
                );
            }
        }
    });
}

fn samples(kind: &str) -> Vec<(String, String)> {
    let folder = root().join("crds/samples").join(kind);
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn good_samples_are_read_as_they_are_written() {
    for (path, text) in samples("good") {
        let store: ReplicatedStore =
            serde_saphyr::from_str(&text).unwrap_or_else(|err| panic!("{path}: {err}"));
        replicated_store::operator::validate::validate(&store)
            .unwrap_or_else(|err| panic!("{path}: {err}"));
    }
}

/// That they are refused, and how, is for a real API server to show; here only that they say it.
#[test]
fn bad_samples_say_how_they_are_refused() {
    let bad = samples("bad");
    assert!(bad.len() >= 20);
    for (path, text) in bad {
        assert!(text.starts_with("# refused: "), "{path}");
    }
}
