//! The chart, as far as it can be held to the code without a cluster; what helm renders, where
//! there is helm.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

fn chart() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/replicated-store")
}

fn read(file: &str) -> String {
    fs::read_to_string(chart().join(file)).unwrap()
}

/// Goal: a value that is misspelt is refused.
/// Method: every object of the schema with fields of its own allows no others, and describes them.
#[test]
fn the_schema_of_values_is_strict_and_described() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    strict("", &schema);
}

fn strict(path: &str, schema: &Value) {
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    assert_eq!(
        schema["additionalProperties"], false,
        "{path} takes what is not there"
    );
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        assert!(
            field.get("description").is_some(),
            "{path} has no description"
        );
        strict(&path, field);
    }
}

/// Goal: the schema and the values know the same fields.
/// Method: the names of both are compared.
#[test]
fn the_schema_covers_the_values() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    same_fields("", &schema, &values);
}

fn same_fields(path: &str, schema: &Value, values: &Value) {
    let (Some(fields), Some(values)) = (
        schema.get("properties").and_then(Value::as_object),
        values.as_object(),
    ) else {
        return;
    };
    let names = |map: &serde_json::Map<String, Value>| -> BTreeSet<String> {
        // Helm adds this one to every chart.
        map.keys()
            .filter(|name| *name != "global")
            .cloned()
            .collect()
    };
    assert_eq!(names(fields), names(values), "at {path:?}");
    for (name, value) in values {
        same_fields(&format!("{path}.{name}"), &fields[name], value);
    }
}

/// Goal: chart and program are released together.
/// Method: the versions are compared.
#[test]
fn the_chart_has_the_programs_version() {
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
}

/// Goal: no right without a reason, and none that is not needed.
/// Method: in the roles each rule follows a comment; Secrets, exec and wildcards do not occur.
#[test]
fn every_right_has_its_reason() {
    let text = read("templates/rbac.yaml");
    let lines: Vec<&str> = text.lines().collect();
    let mut rules = 0;
    for (number, line) in lines.iter().enumerate() {
        if !line.starts_with("- apiGroups:") {
            continue;
        }
        rules += 1;
        let before = lines[number - 1];
        // The second of the two rules for leases shares the comment of the first.
        let same = line.contains("coordination.k8s.io") && before.starts_with("  verbs:");
        assert!(
            before.starts_with("# ") || same,
            "line {}: no reason",
            number + 1
        );
    }
    assert!(rules >= 9, "{rules} rules");
    let code: String = lines
        .iter()
        .filter(|line| !line.starts_with('#'))
        .copied()
        .collect();
    for word in ["secrets", "exec", "\"*\"", "escalate", "bind\"", "nodes"] {
        assert!(!code.contains(word), "the operator has a right to {word}");
    }
}

/// What helm makes of the chart with these values; `None` where there is no helm.
fn render(values: &[&str]) -> Option<Result<String, String>> {
    let mut command = Command::new("helm");
    command.args([
        "template",
        "replicated-store",
        chart().to_str().unwrap(),
        "--namespace",
        "ops",
    ]);
    for value in values {
        command.args(["--set", value]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped, as there is no helm: {error}");
            return None;
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    })
}

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

fn find<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents
        .iter()
        .filter(|document| document["kind"] == kind)
        .collect()
}

/// Goal: a change of what is installed is seen in the review.
/// Method: what helm renders from the defaults, the definition apart, is compared with a file.
#[test]
fn what_is_rendered_is_what_the_file_holds() {
    let Some(rendered) = render(&["crds.install=false"]) else {
        return;
    };
    let rendered = rendered.unwrap();
    let path = chart().join("golden/default.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &rendered).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == rendered,
        "{} is not what helm renders: run UPDATE_GOLDEN=1 cargo test --test it, and look at the \
         difference",
        path.display()
    );
}

/// Goal: the definition comes with the chart, stays without it, and can be left out.
/// Method: rendered both ways.
#[test]
fn the_definition_is_installed_and_kept() {
    let Some(rendered) = render(&[]) else { return };
    let all = documents(&rendered.unwrap());
    let definitions = find(&all, "CustomResourceDefinition");
    assert_eq!(definitions.len(), 1);
    let policy = &definitions[0]["metadata"]["annotations"]["helm.sh/resource-policy"];
    assert_eq!(policy, "keep");
    let without = documents(&render(&["crds.install=false"]).unwrap().unwrap());
    assert!(find(&without, "CustomResourceDefinition").is_empty());
}

/// Goal: an operator of one namespace has rights in no other.
/// Method: rendered with `watchNamespace`: no role of the cluster but the ones for users.
#[test]
fn rights_end_at_the_namespace_that_is_watched() {
    let Some(rendered) = render(&["watchNamespace=shop", "rbac.aggregate=false"]) else {
        return;
    };
    let all = documents(&rendered.unwrap());
    assert!(find(&all, "ClusterRole").is_empty());
    assert!(find(&all, "ClusterRoleBinding").is_empty());
    let roles = find(&all, "Role");
    let namespaces: BTreeSet<&str> = roles
        .iter()
        .filter_map(|role| role["metadata"]["namespace"].as_str())
        .collect();
    assert_eq!(namespaces, BTreeSet::from(["ops", "shop"]));
}

/// Goal: wrong values are refused with a message.
/// Method: some are tried.
#[test]
fn wrong_values_are_refused() {
    for value in [
        "replica=2",
        "replicas=many",
        "image.repo=x",
        "image.repository=",
        "log.format=xml",
        "image.pullPolicy=Sometimes",
    ] {
        let Some(rendered) = render(&[value]) else {
            return;
        };
        let error = rendered.expect_err(value);
        assert!(error.contains("values don't meet"), "{value}: {error}");
    }
}
