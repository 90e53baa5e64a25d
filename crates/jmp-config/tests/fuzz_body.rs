//! The body of the fuzz target as properties: no bytes may panic, and what is saved is read back.

use proptest::prelude::*;

const WORDS: [&str; 30] = [
    "apiVersion: jumpstarter.dev/v1alpha1",
    "kind: ExporterConfig",
    "metadata:",
    "export:",
    "  power:",
    "    type: a.B",
    "    ref: power",
    "    children:",
    "      on:",
    "        type: x",
    "    config:",
    "      yes: no",
    "      port: 0x10",
    "      text: |",
    "        line: ' \" \\",
    "      list: [1, -2.5, ~, \"\", 'on', 007, 1e9, 1:30, .inf]",
    "      <<: *a",
    "      anchor: &a {k: v, <<: *a}",
    "hooks:",
    "  beforeLease: {script: \"a\\nb\", timeout: 3.5, onFailure: exit}",
    "failureDetection: {maxRapidFailures: 3}",
    "token: abc",
    "endpoint: \"\"",
    "motd: >-\n  folded\n  text",
    "grpcConfig: {grpc.keepalive_time_ms: 20000, a: b}",
    "exitOnLeaseEnd: on",
    "tls: {insecure: yes, ca: QUJD}",
    "---",
    "\tkey: *unknown",
    "? [complex]",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        jmp_config::fuzz_exporter_yaml(&bytes);
    }

    #[test]
    fn any_text(text in "[-:\\[\\]{}&*!|>'\"%@`#?,.a-f0-9 \\n\\t\u{85}\u{1F600}]{0,200}") {
        jmp_config::fuzz_exporter_yaml(text.as_bytes());
    }

    #[test]
    fn shuffled_lines(lines in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..16)) {
        jmp_config::fuzz_exporter_yaml(lines.join("\n").as_bytes());
    }

    #[test]
    fn parameter_text_survives_saving(value in "\\PC{0,40}", other in "[-+0-9.:_exon ~yes#'\"\\n]{0,12}") {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let file = format!(
            "kind: Exporter\nexport:\n  d:\n    type: a.B\n    config:\n      a: {}\n      b: {}\n",
            quoted(&value),
            quoted(&other),
        );
        jmp_config::fuzz_exporter_yaml(file.as_bytes());
        let document = jmp_config::Document::parse("a.yaml", file.as_bytes()).unwrap();
        prop_assert_eq!(
            jmp_config::ExporterConfig::source_text(&document, &["d"], &["b"]),
            Some(other.as_str())
        );
    }
}
