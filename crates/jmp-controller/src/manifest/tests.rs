use std::time::Duration;

use jmp_types::resource::GoDuration;
use tonic::Code;

use super::*;

fn refusal(text: &str) -> String {
    let refused = Object::from_json(text).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{text}");
    refused.message().to_owned()
}

fn with(kind: &str, rest: &str) -> String {
    format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{kind}","metadata":{{"name":"a"}}{rest}}}"#)
}

#[test]
fn a_policy_in_the_shape_of_the_custom_resource_is_read() {
    let text = with(
        "ExporterAccessPolicy",
        r#","spec":{"exporterSelector":{"matchLabels":{"board":"a"}},"policies":[
            {"description":"ci","priority":20,"maximumDuration":"1h30m","spotAccess":false,
             "from":[{"clientSelector":{"matchExpressions":[{"key":"team","operator":"In","values":["x"]}]}}]}]}"#,
    );
    let Object::Policy(policy) = Object::from_json(&text).unwrap() else {
        panic!("a policy");
    };
    let rule = &policy.spec.policies[0];
    assert_eq!(rule.priority, 20);
    assert_eq!(
        rule.maximum_duration,
        Some(GoDuration(Duration::from_secs(5400)))
    );
    assert_eq!(
        rule.from[0].client_selector.match_expressions[0].values,
        ["x"]
    );
    assert_eq!(policy.metadata.namespace, "default");
}

#[test]
fn what_was_read_can_be_written_back() {
    let mut exporter = Exporter::default();
    exporter.metadata.name = "bench".into();
    exporter.metadata.namespace = "lab".into();
    exporter.metadata.uid = "u".into();
    exporter.metadata.labels.insert("board".into(), "a".into());
    exporter.spec.enabled = Some(false);
    exporter.status.endpoint = "controller:8082".into();
    let text = Object::Exporter(exporter.clone()).to_json();
    let Object::Exporter(found) = Object::from_json(&text).unwrap() else {
        panic!("an exporter");
    };
    assert_eq!(found.spec, exporter.spec);
    assert_eq!(found.metadata.labels, exporter.metadata.labels);
    assert_eq!(found.metadata.uid, "", "bookkeeping is not the writer's");
    assert_eq!(found.status.endpoint, "", "nor is the status");
}

#[test]
fn unknown_fields_are_named_with_their_path() {
    let message = refusal(&with("Exporter", r#","spec":{"enable":true}"#));
    assert_eq!(
        message,
        r#"unknown field "spec.enable": known here: username, enabled"#
    );
    let message = refusal(&with(
        "ExporterAccessPolicy",
        r#","spec":{"policies":[{},{"from":[{"clientselector":{}}]}]}"#,
    ));
    assert!(
        message.contains("spec.policies[1].from[0].clientselector"),
        "{message}"
    );
    assert!(refusal(&with("Client", r#","data":1"#)).contains(r#"unknown field "data""#));
    assert!(refusal(&with("Administrator", r#","spec":{"a":1}"#)).contains("spec.a"));
}

#[test]
fn wrong_types_are_named_with_their_path() {
    for (kind, rest, expected) in [
        (
            "Exporter",
            r#","spec":{"enabled":"yes"}"#,
            "spec.enabled is a text, expected true or false",
        ),
        (
            "Exporter",
            r#","spec":[]"#,
            "spec is a list, expected an object",
        ),
        (
            "ExporterAccessPolicy",
            r#","spec":{"policies":[{"priority":1.5}]}"#,
            "spec.policies[0].priority is a number, expected a whole number",
        ),
        (
            "ExporterAccessPolicy",
            r#","spec":{"policies":[{"maximumDuration":"long"}]}"#,
            "cannot read `long` as a duration",
        ),
        (
            "ExporterAccessPolicy",
            r#","spec":{"exporterSelector":{"matchExpressions":[{"key":"a","operator":"Gt"}]}}"#,
            "spec.exporterSelector.matchExpressions[0].operator is \"Gt\"",
        ),
    ] {
        let message = refusal(&with(kind, rest));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn wrong_kinds_and_versions_are_named() {
    assert!(refusal("[]").contains("apiVersion is missing"));
    assert!(refusal("{").contains("not JSON"));
    assert!(refusal(r#"{"apiVersion":"v1","kind":"Client"}"#).contains(r#"apiVersion is "v1""#));
    assert!(refusal(&with("Pod", "")).contains(r#"kind is "Pod""#));
    assert!(refusal(&with("Lease", "")).contains("jmp create lease"));
}

#[test]
fn names_and_labels_are_checked() {
    let named = |metadata: &str| {
        format!(r#"{{"apiVersion":"{API_VERSION}","kind":"Client","metadata":{metadata}}}"#)
    };
    assert!(refusal(&named("{}")).starts_with("metadata.name: "));
    assert!(refusal(&named(r#"{"name":"A B"}"#)).starts_with("metadata.name: "));
    assert!(
        refusal(&named(r#"{"name":"a","namespace":"a.b"}"#)).starts_with("metadata.namespace: ")
    );
    for labels in [
        r#"{"":"1"}"#,
        r#"{"a b":"1"}"#,
        r#"{"a":"x y"}"#,
        r#"{"A.B/":"1"}"#,
        r#"{"_a":"1"}"#,
    ] {
        let message = refusal(&named(&format!(r#"{{"name":"a","labels":{labels}}}"#)));
        assert!(message.starts_with("metadata.labels: "), "{message}");
    }
    Object::from_json(&named(
        r#"{"name":"a","labels":{"x.y/a_B":"","c":"1.0"},"namespace":null}"#,
    ))
    .unwrap();
}

#[test]
fn kinds_have_short_words() {
    for kind in Kind::ALL {
        assert_eq!(parse_kind(word(kind)).unwrap(), kind);
        assert_eq!(parse_kind(kind.name()).unwrap(), kind);
    }
    assert!(
        parse_kind("pod")
            .unwrap_err()
            .message()
            .contains("unknown kind")
    );
}
