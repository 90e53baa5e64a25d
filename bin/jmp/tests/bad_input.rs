//! Exporter configurations that cannot work: each is refused with the place and what to write instead,
//! and nothing is left behind.

mod support;

use support::User;

/// Runs `true` with an exporter whose `export` is `body`, which must fail with exit code 1.
#[track_caller]
fn refused(body: &str, texts: &[&str]) {
    let user = User::new();
    let path = user.exporter(
        "bad",
        &format!("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {{name: bad, namespace: a}}\nexport:\n{body}"),
    );
    let ended = user.jmp(&["shell", "--exporter", "bad", "--", "true"]);
    ended.fails(1, texts);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("Error: "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(path.to_str().unwrap()),
        "{}",
        ended.stderr
    );
    assert!(user.left_over().is_empty());
}

#[test]
fn unknown_driver_type() {
    refused(
        "  power:\n    type: jumpstarter_driver_power.driver.MockPowr\n",
        &["bad.yaml:6:11", "jumpstarter_driver_power.driver.MockPower"],
    );
}

#[test]
fn misspelt_keys_never_drop_a_driver() {
    refused(
        "  power:\n    typ: jumpstarter_driver_power.driver.MockPower\n",
        &["bad.yaml:6:5", "did you mean `type`"],
    );
    refused(
        "  power:\n    type: jumpstarter_driver_power.driver.MockPower\n    confg: {}\n",
        &["bad.yaml:7:5", "did you mean `config`"],
    );
}

#[test]
fn duplicate_keys() {
    refused(
        "  power:\n    type: a.B\n  power:\n    type: a.C\n",
        &["bad.yaml:7:3", "power"],
    );
}

#[test]
fn wrong_type_of_a_parameter() {
    refused(
        "  tcp:\n    type: jumpstarter_driver_network.driver.TcpNetwork\n    config:\n      host: localhost\n      port: many\n",
        &["bad.yaml:9:13", "expected an integer", "`many`"],
    );
}

#[test]
fn missing_parameter() {
    refused(
        "  tcp:\n    type: jumpstarter_driver_network.driver.TcpNetwork\n    config:\n      host: localhost\n",
        &["bad.yaml:", "key `port` is missing"],
    );
}

#[test]
fn references_in_circles_or_to_nothing() {
    refused(
        "  a:\n    ref: b\n  b:\n    ref: a\n",
        &["bad.yaml:6:10", "circle"],
    );
    refused(
        "  group:\n    children:\n      self:\n        ref: group\n",
        &["bad.yaml:", "group"],
    );
    refused(
        "  power:\n    type: jumpstarter_driver_power.driver.MockPower\n  other:\n    ref: powr\n",
        &["bad.yaml:8:10", "did you mean `power`"],
    );
}

#[test]
fn what_is_no_yaml_and_what_is_no_file() {
    refused("  a: [1\n", &["bad.yaml:"]);
    let user = User::new();
    user.jmp(&["shell", "--exporter-config", "nowhere.yaml", "--", "true"])
        .fails(1, &["cannot read nowhere.yaml", "No such file"]);
    let binary = user.path("home/binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0, 1]).unwrap();
    user.jmp(&["shell", "--exporter-config", "binary.yaml", "--", "true"])
        .fails(1, &["binary.yaml"]);
}

#[test]
fn errors_for_programs_have_places() {
    let user = User::new();
    user.exporter(
        "bad",
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport:\n  a:\n    type: x.Y\n",
    );
    let ended = user.jmp(&["-o", "json", "shell", "--exporter", "bad", "--", "true"]);
    assert_eq!(ended.code, 1);
    let start = ended.stderr.find("{\n").expect("an object");
    let error: serde_json::Value = serde_json::from_str(&ended.stderr[start..]).unwrap();
    assert_eq!(error["error"]["code"], 1);
    assert_eq!(error["error"]["diagnostics"][0]["line"], 5);
    assert_eq!(error["error"]["diagnostics"][0]["column"], 11);
    let usage = user.jmp(&["-o", "json", "shel"]);
    let error: serde_json::Value = serde_json::from_str(&usage.stderr).unwrap();
    assert_eq!((usage.code, &error["error"]["code"]), (2, &2.into()));
}
