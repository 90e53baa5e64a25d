//! `jmp config`, `jmp info`, and where values come from.

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use support::{Ended, User};

const CREATE: [&str; 14] = [
    "config",
    "client",
    "create",
    "me",
    "--namespace",
    "lab",
    "--name",
    "me",
    "--endpoint",
    "host:443",
    "--token",
    "s3cret",
    "--allow",
    "jumpstarter_*, other.*",
];

fn json(ended: &Ended) -> Value {
    serde_json::from_str(ended.succeeds()).unwrap()
}

#[test]
fn clients_are_created_listed_chosen_and_deleted() {
    let user = User::new();
    assert_eq!(user.jmp(&CREATE).succeeds(), "");
    let path = user.path("config/clients/me.yaml");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    user.jmp(&CREATE)
        .fails(1, &["exists already", path.to_str().unwrap()]);
    let second = user.jmp(&[
        "config",
        "client",
        "c",
        "ci",
        "-o",
        "path",
        "--namespace",
        "lab",
        "--name",
        "ci",
        "-e",
        "h:1",
        "-t",
        "t",
        "--unsafe",
        "--nointeractive",
    ]);
    let ci = user.path("config/clients/ci.yaml");
    assert_eq!(second.succeeds(), format!("{}\n", ci.display()));
    let listed = user.jmp(&["config", "client", "list"]);
    let lines: Vec<Vec<&str>> = listed
        .succeeds()
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["CURRENT", "ALIAS", "ENDPOINT", "PATH"]);
    assert_eq!(lines[1], ["ci", "h:1", ci.to_str().unwrap()]);
    assert_eq!(lines[2], ["*", "me", "host:443", path.to_str().unwrap()]);
    user.jmp(&["config", "client", "use", "ci"]).succeeds();
    let data = json(&user.jmp(&["config", "clients", "ls", "-o", "json"]));
    assert_eq!(data["currentConfig"], "ci");
    assert_eq!(data["kind"], "ClientConfigList");
    assert_eq!(data["items"][1]["drivers"]["allow"][1], "other.*");
    let keys: Vec<&String> = data["items"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys[..2], ["alias", "path"]);
    user.jmp(&["config", "client", "delete", "ci"]).succeeds();
    assert_eq!(
        user.jmp(&["config", "client", "ls", "-o", "name"])
            .succeeds(),
        "me\n"
    );
    user.jmp(&["config", "client", "use", "mee"])
        .fails(1, &["did you mean `me`"]);
}

#[test]
fn tokens_are_never_printed() {
    let user = User::new();
    user.jmp(&CREATE).succeeds();
    for arguments in [
        &["config", "client", "list", "-o", "json"][..],
        &["config", "client", "list", "-o", "yaml"],
        &["config", "show"],
        &["config", "show", "-o", "json"],
        &["info", "-o", "json"],
    ] {
        let ended = user.jmp(arguments);
        assert!(!ended.succeeds().contains("s3cret"), "{arguments:?}");
    }
}

#[test]
fn one_broken_file_does_not_spoil_a_list() {
    let user = User::with_example();
    user.exporter("broken", "kind: [");
    let ended = user.jmp(&["config", "exporter", "list", "-o", "name"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "broken\nexample-local\n")
    );
    assert!(ended.stderr.contains("broken.yaml"));
}

#[test]
fn looking_changes_nothing() {
    let user = User::with_example();
    for arguments in [
        &["config", "client", "list"][..],
        &["config", "show"],
        &["info"],
        &["shell", "--exporter", "example-local", "--", "true"],
    ] {
        assert_eq!(user.jmp(arguments).code, 0);
    }
    assert!(!user.path("config/config.yaml").exists());
}

#[test]
fn without_a_person_nothing_is_asked() {
    let user = User::new();
    user.jmp(&["config", "client", "create", "me"])
        .fails(2, &["--namespace is missing"]);
    assert_eq!(
        user.jmp(&["config", "client", "list"]).succeeds(),
        "No resources found.\n"
    );
    let insecure = [&CREATE[..], &["-k"]].concat();
    user.jmp(&insecure).fails(1, &["Aborted!"]);
    let insecure = [&CREATE[..], &["--insecure-tls-config", "--nointeractive"]].concat();
    user.jmp(&insecure).succeeds();
    let text = std::fs::read_to_string(user.path("config/clients/me.yaml")).unwrap();
    assert!(text.contains("insecure: true"), "{text}");
}

#[test]
fn exporters_are_created_edited_and_deleted() {
    let user = User::new();
    user.jmp(&["config", "exporter", "create", "bench", "--nointeractive"])
        .succeeds();
    let path = user.path("config/exporters/bench.yaml");
    user.jmp(&["config", "exporter", "create", "bench"])
        .fails(1, &["exists already"]);
    user.jmp(&["config", "exporter", "create", "../x"])
        .fails(2, &["../x"]);
    let mut edit = user.command();
    edit.env("EDITOR", "sed -i s/lab/lab/")
        .args(["config", "exporter", "edit", "bench"]);
    Ended::of(&mut edit).succeeds();
    let mut spoil = user.command();
    spoil
        .env("EDITOR", "sed -i s/export:.*/exprt:/")
        .args(["config", "exporter", "edit", "bench"]);
    Ended::of(&mut spoil).fails(1, &["did you mean `export`", "the file is saved"]);
    user.jmp(&["config", "exporter", "delete", "bench"])
        .succeeds();
    assert!(!path.exists());
    user.jmp(&["config", "exporter", "delete"])
        .fails(1, &["`default`"]);
}

#[test]
fn every_value_has_its_source() {
    let user = User::with_example();
    user.jmp(&CREATE).succeeds();
    let mut show = user.command();
    show.env("JMP_NAMESPACE", "elsewhere").args([
        "--endpoint",
        "flag:1",
        "config",
        "show",
        "-o",
        "json",
    ]);
    let data = json(&Ended::of(&mut show));
    let find = |key: &str| {
        let values = data["values"].as_array().unwrap();
        values
            .iter()
            .find(|value| value["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(find("endpoint")["value"], "flag:1");
    assert_eq!(find("endpoint")["source"], "option --endpoint");
    assert_eq!(
        find("metadata.namespace")["source"],
        "environment JMP_NAMESPACE"
    );
    let source = find("metadata.name")["source"].as_str().unwrap().to_owned();
    assert!(source.contains("clients/me.yaml:"), "{source}");
    assert_eq!(find("leases.retry_timeout")["source"], "default");
    let exporter = user.jmp(&["config", "show", "--exporter", "example-local"]);
    assert!(
        exporter
            .succeeds()
            .contains("jumpstarter_driver_power.driver.MockPower")
    );
    user.jmp(&["config", "show", "--exporter", "a", "--client", "b"])
        .fails(2, &["cannot be used with"]);
}

#[test]
fn info_tells_what_is_in_effect() {
    let user = User::new();
    user.jmp(&CREATE).succeeds();
    let data = json(&user.jmp(&["info", "-o", "json"]));
    assert_eq!(
        (&data["client"], &data["endpoint"]),
        (&"me".into(), &"host:443".into())
    );
    assert_eq!(data["session"], Value::Null);
    let data = json(&user.jmp(&["--endpoint", "other:1", "info", "-o", "json"]));
    assert_eq!(data["endpoint"], "other:1");
}
