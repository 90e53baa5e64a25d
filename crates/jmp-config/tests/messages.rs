//! What a person reads when a file is wrong.

use jmp_config::{ClientConfig, Document, ExporterConfig, Spot, UserConfig};

const HEADER: &str = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata:\n  name: lab\n  namespace: default\n";
const CLIENT: &str = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ClientConfig\nmetadata:\n  name: me\n  namespace: lab\n";

fn exporter(text: &str) -> String {
    let read = Document::parse("lab.yaml", text.as_bytes())
        .and_then(|document| ExporterConfig::from_document(&document));
    match read {
        Err(error) => format!("error: {error}"),
        Ok((_, warnings)) => warnings
            .iter()
            .map(|warning| format!("warning: {warning}"))
            .collect::<Vec<_>>()
            .join("\n\n"),
    }
}

fn client(text: &str) -> String {
    let read = Document::parse("me.yaml", text.as_bytes())
        .and_then(|document| ClientConfig::from_document(&document));
    match read {
        Err(error) => format!("error: {error}"),
        Ok((_, warnings)) => warnings
            .iter()
            .map(|warning| format!("warning: {warning}"))
            .collect::<Vec<_>>()
            .join("\n\n"),
    }
}

macro_rules! messages {
    ($($name:ident: $read:ident($($text:expr),+);)+) => {
        $(
            #[test]
            fn $name() {
                let text = [$($text),+].concat();
                insta::assert_snapshot!(stringify!($name), $read(&text));
            }
        )+
    };
}

messages! {
    misspelt_type: exporter(HEADER, "export:\n  power:\n    typ: jumpstarter_driver_power.driver.MockPower\n");
    unknown_driver_key: exporter(HEADER, "export:\n  power:\n    type: a.B\n    parameters: {}\n");
    misspelt_children_in_depth: exporter(HEADER, "export:\n  a:\n    children:\n      b:\n        type: x.Y\n        childern: {}\n");
    misspelt_export: exporter(HEADER, "exprot:\n  power:\n    type: a.B\n");
    unknown_top_level_key: exporter(HEADER, "colour: red\nexport: {}\n");
    empty_entry: exporter(HEADER, "export:\n  power:\n  serial: {}\n");
    entry_is_text: exporter(HEADER, "export:\n  power: jumpstarter_driver_power.driver.MockPower\n");
    config_is_text: exporter(HEADER, "export:\n  power:\n    type: a.B\n    config: fast\n");
    config_without_type: exporter(HEADER, "export:\n  power:\n    config: {port: 1}\n    children: {}\n");
    type_and_reference: exporter(HEADER, "export:\n  a:\n    type: a.B\n    ref: b\n  b:\n    type: a.B\n");
    reference_with_children: exporter(HEADER, "export:\n  a:\n    ref: b\n    children: {}\n  b:\n    type: a.B\n");
    dangling_reference: exporter(HEADER, "export:\n  power:\n    type: a.B\n  other:\n    ref: powr\n");
    duplicate_key: exporter(HEADER, "export:\n  power:\n    type: a.B\n  serial:\n    type: a.C\n  power:\n    type: a.D\n");
    duplicate_token_is_not_shown: exporter("token: very-secret-one\n", HEADER, "token: very-secret-two\n");
    tab_indentation: exporter(HEADER, "export:\n\tpower:\n\t\ttype: a.B\n");
    unclosed_quote: exporter(HEADER, "endpoint: \"grpc.example.com\nexport: {}\n");
    second_document: exporter(HEADER, "---\n", HEADER);
    wrong_kind: exporter("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfigs\n");
    client_file_as_exporter: exporter(CLIENT);
    wrong_version: exporter("apiVersion: jumpstarter.dev/v1\nkind: ExporterConfig\n");
    fragment: exporter("export:\n  power:\n    type: a.B\n");
    lone_driver: exporter("type: a.B\nconfig: {port: 1}\n");
    list_as_file: exporter("- a\n- b\n");
    hook_without_script: exporter(HEADER, "hooks:\n  beforeLease:\n    timeout: 5\n");
    hook_with_wrong_word: exporter(HEADER, "hooks:\n  afterLease:\n    script: x\n    onFailure: endlease\n    timeout: soon\n");
    misspelt_hook: exporter(HEADER, "hooks:\n  beforLease:\n    script: x\n");
    boolean_expected: exporter(HEADER, "exitOnLeaseEnd: maybe\n");
    number_expected: exporter(HEADER, "failureDetection:\n  maxRapidFailures: many\n");
    endpoint_with_scheme: exporter(HEADER, "endpoint: https://grpc.example.com:443/\n");
    grpc_option_is_list: exporter(HEADER, "grpcConfig:\n  grpc.keepalive_time_ms: [1]\n");
    constructing_tag: exporter(HEADER, "motd: !!python/object:os.system x\n");
    control_characters_are_not_obeyed: exporter(HEADER, "colour\u{85}x: red\n");
    client_unknown_key: client(CLIENT, "endpont: a:1\n");
    client_unknown_driver_policy: client(CLIENT, "drivers:\n  alow: [\"*\"]\n");
    client_short_timeout: client(CLIENT, "leases:\n  acquisition_timeout: 2\n  retry_timeout: soon\n");
    client_unknown_tls_key: client(CLIENT, "tls:\n  insecur: true\n");
    client_token_is_a_list: client(CLIENT, "token: [very-secret]\n");
}

#[test]
fn alias_bomb() {
    let mut text = format!("{HEADER}export: {{}}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let previous = format!("*a{}", level - 1);
        let row = vec![previous; 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{row}]\n"));
    }
    insta::assert_snapshot!(exporter(&text));
}

#[test]
fn deep_nesting() {
    let text = format!("motd: {}{}", "[".repeat(1000), "]".repeat(1000));
    insta::assert_snapshot!(exporter(&text));
}

#[test]
fn bytes_that_are_no_text() {
    let error = Document::parse("lab.yaml", b"kind: Exporter\nmotd: \xff\xfe\n").unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn user_configuration() {
    let text =
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: UserConfig\nconfig:\n  curent-client: a\n";
    let document = Document::parse("config.yaml", text.as_bytes()).unwrap();
    let error = UserConfig::from_document(&document).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn a_drivers_complaint_points_at_its_parameter() {
    let text = format!(
        "{HEADER}export:\n  can:\n    children:\n      bus:\n        type: a.B\n        config:\n          address: {{rxid: 1, txid: two}}\n          items: [a, b]\n"
    );
    let document = Document::parse("lab.yaml", text.as_bytes()).unwrap();
    let node = ["can", "bus"];
    let at = |path: &[&str]| {
        ExporterConfig::locate(&document, &node, path).map(|location| location.to_string())
    };
    assert_eq!(at(&["address", "txid"]).as_deref(), Some("lab.yaml:12:36"));
    assert_eq!(at(&["items", "1"]).as_deref(), Some("lab.yaml:13:22"));
    // A missing parameter: the thing it is missing from.
    assert_eq!(at(&["address", "more"]).as_deref(), Some("lab.yaml:12:11"));
    assert_eq!(at(&["port"]).as_deref(), Some("lab.yaml:11:9"));
    let diagnostic = ExporterConfig::parameter_error(
        &document,
        &node,
        &["address", "txid"],
        Spot::Value,
        "`txid` should be a whole number",
    );
    insta::assert_snapshot!(diagnostic.to_string());
    let entry = ExporterConfig::entry_error(&document, &node, "type", "no driver `a.B` here");
    assert_eq!(entry.location().unwrap().to_string(), "lab.yaml:10:15");
    assert_eq!(
        ExporterConfig::source_text(&document, &node, &["address", "rxid"]),
        Some("1")
    );
}

#[test]
fn a_hostile_file_gets_few_messages() {
    let mut text = format!("{HEADER}export:\n");
    for index in 0..30_000 {
        text.push_str(&format!("  d{index}: {{ref: e{index}, x{index}: 1}}\n"));
    }
    let document = Document::parse("lab.yaml", text.as_bytes()).unwrap();
    let error = ExporterConfig::from_document(&document).unwrap_err();
    assert_eq!(error.diagnostics().len(), 20);
    assert!(error.to_string().len() < 20_000);
}
